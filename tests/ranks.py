"""Objectives, distillation and target training in double precision, alone or as one of many ranks.

Environment as of torchrun in, a safetensors and a JSON file per rank out: `python ranks.py FOLDER`.
"""

import json
import sys
from dataclasses import fields
from pathlib import Path

import torch
from joined_loops import everything
from joined_runs import METHODS, OBJECTIVES, distilled, trained
from safetensors.torch import save_file
from torch import Tensor, nn

from datastill.core.lookup import find, names
from datastill.core.machine import Machine
from datastill.core.ranks import Ranks, init_ranks
from datastill.core.rng import fork, seeded
from datastill.networks.architecture import Network
from datastill.networks.convnet import ConvNet
from datastill.objectives.objective import Objective, Views

FOLDER = "datastill.objectives"
SMALL = {"projector": (8, 6), "predictor": (7,)}  # of whatever has such an option
BATCH, CLASSES, STEPS = 8, 4, 3


def small(name: str) -> Objective:
    """An objective with tiny heads."""
    component = find(FOLDER, name)
    options = {f.name for f in fields(component)}
    objective = component(**{k: v for k, v in SMALL.items() if k in options})
    assert isinstance(objective, Objective)
    return objective


def modules(objective: Objective, seed: int = 0) -> tuple[Network, nn.Module]:
    """(network, heads) in double precision; no batch norm in the network, whose ranks are alone."""
    with seeded(seed, "modules"):
        network = ConvNet(widths=(4, 8), norm="instance")(image_size=8, channels=1, outputs=6)
        network.double()
        return network, objective.heads(network, CLASSES).double()


def two_views(batch: int = BATCH) -> Tensor:
    """(2, B, 1, 8, 8): pixels of two views of each image."""
    x = torch.randn(2, batch, 1, 8, 8, dtype=torch.float64, generator=fork(0, "pixels"))
    return torch.stack([x[0], x[0] + 0.3 * x[1]])


def labels(batch: int = BATCH) -> Tensor:
    """(B,), every class about as often."""
    return torch.arange(batch) % CLASSES


def part(ranks: Ranks) -> Views:
    """Return the share of one rank of the batch."""
    pixels = two_views().chunk(ranks.size, dim=1)[ranks.rank].flatten(0, 1)
    machine = Machine(ranks=ranks)
    return Views(pixels, labels().chunk(ranks.size)[ranks.rank], machine)


def train(name: str, ranks: Ranks) -> dict[str, Tensor]:
    """Losses, the first gradients (averaged over ranks) and all weights after a few steps."""
    objective = small(name)
    network, heads = modules(objective)
    both = nn.ModuleDict({"network": network, "heads": heads})
    trained = {k: p for k, p in both.named_parameters() if p.requires_grad}
    views, results = part(ranks), {}
    for step in range(STEPS):
        loss = objective.loss(heads, network, views)
        gradients = torch.autograd.grad(loss, list(trained.values()))
        results[f"loss.{step}"] = loss.detach()
        for (key, parameter), gradient in zip(trained.items(), gradients, strict=True):
            (mean,) = ranks.average([gradient])
            results.setdefault(f"gradient.{key}", mean)
            parameter.data.add_(mean, alpha=-0.1)
        objective.after_step(heads, network, progress=step / STEPS)
    return {**results, **{f"state.{k}": v for k, v in both.state_dict().items()}}


def reductions(ranks: Ranks) -> dict[str, Tensor]:
    """Means of rank + 1, and the gradient of Σ x³ over the rows of all ranks."""
    share = torch.full((2, 1), ranks.rank + 1.0, dtype=torch.float64, requires_grad=True)
    rows = ranks.gather(share)
    (gradient,) = torch.autograd.grad(rows.pow(3).sum(), share)
    (mean,), (weighted,) = ranks.average([share]), ranks.average([share], rows=ranks.rank + 1)
    results = {"rows": rows, "gradient": gradient, "own": share, "mean": mean, "weighted": weighted}
    return {name: tensor.detach() for name, tensor in results.items()}


def threads_of_gloo() -> int:
    """How many threads of this process still carry messages; Linux knows."""
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return sum("gloo" in name for name in names)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with init_ranks() as ranks:
        results = {f"world/{k}": v for k, v in reductions(ranks).items()}
        for name in names(FOLDER):
            results |= {f"{name}/{k}": v for k, v in train(name, ranks).items()}
        for name in METHODS:
            results |= {f"distilled {name}/{k}": v for k, v in distilled(name, ranks).items()}
        for name in OBJECTIVES:
            results |= {f"target {name}/{k}": v for k, v in trained(name, ranks).items()}
        folder = Path(sys.argv[1]) / f"alone-{ranks.rank}"
        messages = everything(folder, ranks)
    results["world/threads"] = torch.tensor(threads_of_gloo())
    folder.with_name(f"rank-{ranks.rank}.json").write_text(json.dumps(messages))
    contiguous = {k: v.clone().contiguous() for k, v in results.items()}
    save_file(contiguous, Path(sys.argv[1]) / f"rank-{ranks.rank}.safetensors")
