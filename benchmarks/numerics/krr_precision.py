"""How many digits float32 loses in the KRR solve, on features of real images.

Usage: python benchmarks/numerics/krr_precision.py --data-root DIR > krr_precision.csv
For M distilled images and F features of a ConvNet, untrained and trained: relative errors against
float64 of predictions and of the gradient for y_syn, of a plain float32 solve (LU).
"""

import argparse
import csv
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import datastill as ds
from datastill.core.rng import fork, seeded
from datastill.ops.krr import krr_predict, with_bias

CASES = [(100, (16, 32, 64)), (500, (16, 32, 64)), (100, (8, 16)), (500, (128, 256, 512))]


def float32_lu(query: Tensor, syn: Tensor, y: Tensor, *, ridge_of_trace: float) -> Tensor:
    """The released code's solve."""
    gram = syn @ syn.T
    ridge = ridge_of_trace * gram.detach().trace()
    return query @ syn.T @ torch.linalg.solve(gram + ridge * torch.eye(len(gram)), y)


def float64(query: Tensor, syn: Tensor, y: Tensor, *, ridge_of_trace: float) -> Tensor:
    """The solve of datastill."""
    return krr_predict(query.double(), syn.double(), y, ridge_of_trace=ridge_of_trace)[0]


def errors(tensors: list[Tensor], ridge: float) -> tuple[float, float]:
    """Return (error of predictions, error of the gradient for y_syn), relative to float64."""
    results = []
    for solve, dtype in ((float32_lu, torch.float32), (float64, torch.float64)):
        query, syn, y = tensors
        y = y.to(dtype, copy=True).requires_grad_()
        prediction = solve(query, syn, y, ridge_of_trace=ridge)
        (gradient,) = torch.autograd.grad(prediction.square().mean(), [y])
        results.append((prediction.detach().double(), gradient.double()))
    pairs = zip(*results, strict=True)
    prediction_error, gradient_error = (float((a - b).norm() / b.norm()) for a, b in pairs)
    return prediction_error, gradient_error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, default=None)
    images = ds.source("cifar100").load("train", data_root=parser.parse_args().data_root)
    order = torch.randperm(len(images), generator=fork(0, "benchmark"))
    table = csv.writer(sys.stdout)
    table.writerow(["M", "F", "network", "ridge_of_trace", "error_prediction", "error_gradient"])
    for count, widths in CASES:
        x_syn, x_real = (images.normalized(order[k : k + n]) for k, n in ((0, count), (count, 256)))
        with seeded(0, "benchmark"):
            y = torch.randn(count, 64)
            network = ds.ConvNet(widths)(image_size=32, channels=3, outputs=64)
        for trained in (False, True):
            if trained:
                train(network, x_syn, y)
            network.eval()
            with torch.no_grad():
                syn, query = with_bias(network.embed(x_syn)), with_bias(network.embed(x_real))
            for ridge in (1e-6, 1e-6 / count):
                errs = [f"{e:.1e}" for e in errors([query, syn, y], ridge)]
                name = "trained" if trained else "untrained"
                table.writerow([count, syn.shape[1], name, f"{ridge:.1e}", *errs])
                sys.stdout.flush()


def train(network: torch.nn.Module, x: Tensor, y: Tensor) -> None:
    """200 full-batch inner steps."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    network.train()
    for _ in range(200 if len(x) * x.shape[1] < 1000 else 20):
        optimizer.zero_grad()
        F.mse_loss(network(x), y).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
