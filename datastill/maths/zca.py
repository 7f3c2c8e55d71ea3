"""ZCA: whitening that stays as close to the pixels as can be (Bell and Sejnowski, 1997).

x -> (x - mean) (Σ + λI)^(-1/2), with λ as a share of the mean eigenvalue of the covariance Σ: the
regularised form in which KIP and FRePo feed images to their networks.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

NO_VARIATION = 1e-12  # smallest ridge: keeps images that are all alike finite


@dataclass(frozen=True, eq=False)
class Zca:
    """A fitted whitening of images with P = C·H·W values."""

    mean: Tensor  # (P,) float32
    matrix: Tensor  # (P, P) float32, symmetric positive definite

    def __post_init__(self) -> None:
        if self.matrix.shape != (len(self.mean), len(self.mean)):
            shapes = f"{tuple(self.mean.shape)} and {tuple(self.matrix.shape)}"
            raise ValueError(f"mean and matrix of a whitening do not fit: {shapes}")

    @staticmethod
    def fit(blocks: Iterable[Tensor], ridge_of_mean: float) -> "Zca":
        """Fit images that come in blocks (n, C, H, W), in float64; λ = ridge_of_mean · tr(Σ) / P.

        The blocks are read once; memory is that of three (P, P) matrices in float64.
        """
        count, total, square = 0, torch.zeros(()), torch.zeros(())
        for block in blocks:
            flat = block.flatten(1).double()
            count, total, square = count + len(flat), total + flat.sum(0), square + flat.T @ flat
        mean = total / count
        covariance = square / count - mean[:, None] * mean
        values, vectors = torch.linalg.eigh(covariance)
        values = values.clamp_min(0)
        ridge = (ridge_of_mean * values.mean()).clamp_min(NO_VARIATION)
        matrix = (vectors * (values + ridge).rsqrt()) @ vectors.T
        return Zca(mean.float(), matrix.float())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of mean and matrix."""
        parts = (self.mean, self.matrix)
        return hashlib.sha256(b"".join(p.cpu().numpy().tobytes() for p in parts)).hexdigest()

    def to(self, device: str) -> "Zca":
        """The same whitening with its tensors there: each call would copy them otherwise."""
        return Zca(self.mean.to(device), self.matrix.to(device))

    def __call__(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """Whiten; differentiable in x."""
        mean, matrix = self.mean.to(x), self.matrix.to(x)
        return ((x.flatten(1) - mean) @ matrix).view_as(x)

    def inverse(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """Undo the whitening."""
        flat: Tensor = torch.linalg.solve(self.matrix.to(x).double(), x.flatten(1).double().T).T
        return (flat.to(x.dtype) + self.mean.to(x)).view_as(x)
