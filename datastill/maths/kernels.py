"""Kernels of infinitely wide, fully connected ReLU networks, in closed form and in float64.

The arc-cosine recursion of Cho & Saul (NeurIPS 2009); NNGP: Lee et al. (ICLR 2018); NTK: Jacot et
al. (NeurIPS 2018), in the NTK parameterization: every layer computes σ_w W h / √fan_in + σ_b b with
standard normal W and b, which the tangent kernel differentiates by; ReLU is between layers.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

COLLINEAR = 1e-14  # a cosine this close to ±1 differs from it by rounding alone
SMALLEST = 1e-100  # smallest second moment: keeps images of zeros without biases finite


@dataclass(frozen=True)
class WideRelu:
    """A random ReLU network whose `depth` hidden layers are infinitely wide.

    Its kernels are those of one output unit: `nngp` is the covariance of outputs at two inputs,
    `ntk` the inner product of their gradients in all W and b.
    """

    depth: int  # hidden layers, >= 1
    weight_variance: float = 2.0  # σ_w²
    bias_variance: float = 0.0  # σ_b²

    def nngp(self, x_a: Tensor, x_b: Tensor) -> Tensor:  # (A, P), (B, P) -> (A, B) float64
        """E[f(a) f(b)] over random weights."""
        return self._kernels(x_a, x_b)[0]

    def ntk(self, x_a: Tensor, x_b: Tensor) -> Tensor:  # (A, P), (B, P) -> (A, B) float64
        """E⟨∇f(a), ∇f(b)⟩ over random weights.

        It has a kink where a and b are parallel, as |t| has at 0; the gradient given there is that
        of moving both together, which is exact for the diagonal of a kernel of a set with itself.
        """
        return self._kernels(x_a, x_b)[1]

    def _kernels(self, x_a: Tensor, x_b: Tensor) -> tuple[Tensor, Tensor]:
        """(NNGP, NTK), layer by layer: q second moments, Σ covariances, Θ tangent kernel."""
        x_a, x_b = x_a.double(), x_b.double()
        q_a = self._affine(x_a.square().mean(1))
        q_b = self._affine(x_b.square().mean(1))
        nngp = self._affine(x_a @ x_b.T / x_a.shape[1])
        ntk = nngp
        for _ in range(self.depth):
            norm = _root(q_a)[:, None] * _root(q_b)  # (A, B)
            order_0, order_1 = arc_cosine(nngp / norm)
            nngp = self._affine(norm * order_1 / 2)
            ntk = nngp + self.weight_variance * ntk * order_0 / 2
            q_a, q_b = self._affine(q_a / 2), self._affine(q_b / 2)
        return nngp, ntk

    def _affine(self, moment: Tensor) -> Tensor:
        """What a layer of weights and biases makes of a second moment of its inputs."""
        return self.weight_variance * moment + self.bias_variance


def arc_cosine(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """(κ₀, κ₁) of Cho & Saul, scaled to 1 at cosine 1: κ₀ = (π-θ)/π, κ₁ = (sin θ + (π-θ) cos θ)/π.

    For (u, v) normal with unit variances: E[1(u > 0) 1(v > 0)] = κ₀ / 2 and E[relu(u) relu(v)] =
    κ₁ / 2. The derivative κ₁' = κ₀ holds everywhere; κ₀' is infinite at ±1 and taken as 0 there.
    """
    between = cosine.abs() < 1 - COLLINEAR
    inner = torch.where(between, cosine, 0.0)  # keeps infinite derivatives out of the graph
    angle = torch.where(between, inner.arccos(), (cosine < 0).to(cosine) * math.pi)
    sine = torch.where(between, (1 - inner.square()).sqrt(), 0.0)
    order_0 = (math.pi - angle) / math.pi
    return order_0, sine / math.pi + order_0 * cosine


def _root(moment: Tensor) -> Tensor:
    return moment.clamp_min(SMALLEST).sqrt()
