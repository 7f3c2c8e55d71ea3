"""Files as other projects' code writes them: the same structures, types and classes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from datastill.core.rng import fork

LABELS = torch.arange(4)


def pixels(count: int = 4, channels: int = 3, size: int = 8, *, seed: int = 0) -> Tensor:
    """Normalized pixels of a distilled set."""
    return torch.randn(count, channels, size, size, generator=fork(seed, "foreign"))


def write_res(folder: Path, *, experiments: int = 1, name: str = "DSA_CIFAR10_ConvNet") -> Path:
    """DatasetCondensation, main.py: one pair per experiment, accuracies as NumPy numbers."""
    data = [[pixels(seed=e).detach().cpu(), LABELS.detach().cpu()] for e in range(experiments)]
    path = folder / f"res_{name}_1ipc.pt"
    accuracies = {"ConvNet": [np.mean([0.25, 0.5])] * experiments}
    torch.save({"data": data, "accs_all_exps": accuracies}, path)
    return path


def write_mtt(folder: Path, step: str = "100", *, channels: int = 3, size: int = 8) -> Path:
    """mtt-distillation, distill.py: images that had gradients, and integer labels."""
    folder.mkdir(exist_ok=True, parents=True)
    images = pixels(channels=channels, size=size).requires_grad_(True)
    with torch.no_grad():
        torch.save(images.cpu(), folder / f"images_{step}.pt")
        torch.save(LABELS.cpu(), folder / f"labels_{step}.pt")
    return folder / f"images_{step}.pt"


def write_mkdt(folder: Path, step: str = "5000") -> Path:
    """MKDT, distill.py: learned representations and a learned step size beside the images."""
    path = write_mtt(folder, step)
    torch.save(torch.rand(4, 6, requires_grad=True).cpu(), folder / f"labels_{step}.pt")
    torch.save(torch.tensor(0.1, requires_grad=True).cpu(), folder / f"synlr_{step}.pt")
    return path


def write_krr_st(folder: Path, *, parameters: bool = False) -> Path:
    """selfsup_dd, train.py: leaves that want gradients, [0, 1]-ish pixels and wide targets."""
    folder.mkdir(exist_ok=True, parents=True)
    pairs = {"x_syn": torch.rand(4, 3, 8, 8), "y_syn": torch.rand(4, 6)}
    for name, tensor in pairs.items():
        leaf = nn.Parameter(tensor) if parameters else tensor.requires_grad_(True)
        torch.save(leaf, folder / f"{name}.pt")
    return folder
