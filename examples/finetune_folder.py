"""Fine-tune a network on a folder of class folders, in plain PyTorch.

It reads networks/mine (`datastill pretrain ... --out networks/mine`) and photos/CLASS/IMAGE.
"""

from pathlib import Path

import torch
from PIL import Image

import datastill as ds

network, transform = ds.load_network("networks/mine")
folders = sorted(Path("photos").iterdir())  # one for each class
pairs = [(transform(Image.open(file)), k) for k, x in enumerate(folders) for file in x.iterdir()]

network.head = torch.nn.Linear(network.num_features, len(folders))
optimizer = torch.optim.SGD(network.train().parameters(), lr=0.01, momentum=0.9)
# 20 passes over all images
for images, labels in torch.utils.data.DataLoader(20 * pairs, batch_size=64, shuffle=True):
    loss = torch.nn.functional.cross_entropy(network(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.save(network.state_dict(), "finetuned.pt")
