"""Load a ResNet-18 with the large stem into timm, and give it a new classifier.

It reads networks/resnet18 (`datastill pretrain ... --network resnet18 --network.stem large --out
networks/resnet18`), resnet18.safetensors (`datastill export networks/resnet18 --to
resnet18.safetensors`) and photos/CLASS/IMAGE.
"""

from pathlib import Path

import timm
import torch
from PIL import Image
from safetensors.torch import load_file

import datastill as ds

weights = load_file("resnet18.safetensors")
network = timm.create_model("resnet18", num_classes=len(weights["fc.weight"])).eval()
network.load_state_dict(weights)

original, transform = ds.load_network("networks/resnet18")
images = torch.stack([transform(Image.open(file)) for file in Path("photos").glob("*/*")])
print("largest difference:", (network(images) - original(images)).abs().max().item())

network.reset_classifier(num_classes=10)  # new and untrained
torch.save(network.state_dict(), "start.pt")
