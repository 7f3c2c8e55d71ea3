"""Fine-tune networks on a folder of labelled images; then the same architecture from scratch."""

import sys
from pathlib import Path

import torch
from PIL import Image
from torch.nn.functional import cross_entropy

import datastill as ds

networks, labelled = map(Path, sys.argv[1:])
for file in sorted(networks.glob("network-*.safetensors")):
    for start in ("pre-trained", "scratch"):
        torch.manual_seed(int(file.stem[-1]))
        network, transform = ds.load_network(file)
        if start == "scratch":
            for module in network.modules():
                getattr(module, "reset_parameters", lambda: None)()
        network.head = torch.nn.Linear(network.num_features, 10)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        files = {split: sorted(labelled.glob(f"{split}/*/*")) for split in ("train", "test")}
        images = {k: torch.stack([transform(Image.open(f)) for f in v]) for k, v in files.items()}
        labels = {k: torch.tensor([int(f.parent.name) for f in v]) for k, v in files.items()}
        for _ in range(200):
            loss = cross_entropy(network.train()(images["train"]), labels["train"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (network.eval()(images["test"]).argmax(1) == labels["test"]).float().mean()
        print(start, file.stem, f"{100 * accuracy:.2f}", flush=True)
