"""Fine-tune a network on a folder of class folders with Lightning.

It reads networks/mine (`datastill pretrain ... --out networks/mine`) and photos/CLASS/IMAGE.
"""

import lightning
import torch

import datastill as ds

network, transform = ds.load_network("networks/mine")
photos = ds.source("folder:photos").load("train", image_size=network.image_size)
pairs = torch.utils.data.TensorDataset(transform(photos.images), photos.labels)
network.head = torch.nn.Linear(network.num_features, photos.num_classes)


class FineTuning(lightning.LightningModule):
    def training_step(self, batch, _):
        return torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


model = FineTuning()
model.network = network.train()
lightning.Trainer(max_epochs=20).fit(model, torch.utils.data.DataLoader(pairs, 64, shuffle=True))
