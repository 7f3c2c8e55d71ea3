"""ZCA whitening, which stays as close to the pixels as possible (Bell and Sejnowski, 1997)."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

NO_VARIATION = 1e-12  # smallest ridge: keeps images that are all alike finite


@dataclass(frozen=True, eq=False)
class Zca:
    """A fitted whitening of images: x -> (x - mean) (Σ + λI)^(-1/2).

    This is the regularised form in which KIP and FRePo feed images to their networks. Make it
    with `Zca.fit`.

    Args:
        mean: (P,) float32, P = C·H·W.
        matrix: (P, P) float32, symmetric positive definite.

    Raises:
        ValueError: The shapes do not fit.

    Example:
        >>> images = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> zca = Zca.fit([images[:25], images[25:]], ridge_of_mean=1e-6)
        >>> whitened = zca(images)
        >>> torch.allclose(whitened.flatten(1).T.cov(), torch.eye(16), atol=0.05)
        True
        >>> torch.allclose(zca.inverse(whitened), images, atol=1e-3)
        True
    """

    mean: Tensor
    matrix: Tensor

    def __post_init__(self) -> None:
        if self.matrix.shape != (len(self.mean), len(self.mean)):
            shapes = f"{tuple(self.mean.shape)} and {tuple(self.matrix.shape)}"
            raise ValueError(f"mean and matrix of a whitening do not fit: {shapes}")

    @staticmethod
    def fit(blocks: Iterable[Tensor], ridge_of_mean: float) -> "Zca":
        """Fit the whitening to images, in float64.

        Args:
            blocks: (n, C, H, W) each; read once. Memory holds one block and three (P, P) matrices.
            ridge_of_mean: λ as a share of the mean eigenvalue of the covariance Σ.
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
        """Move the tensors to a device, so that calls with images there need not copy them."""
        return Zca(self.mean.to(device), self.matrix.to(device))

    def __call__(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """Whiten images; differentiable in them."""
        mean, matrix = self.mean.to(x), self.matrix.to(x)
        return ((x.flatten(1) - mean) @ matrix).view_as(x)

    def inverse(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """Undo the whitening."""
        flat: Tensor = torch.linalg.solve(self.matrix.to(x).double(), x.flatten(1).double().T).T
        return (flat.to(x.dtype) + self.mean.to(x)).view_as(x)
