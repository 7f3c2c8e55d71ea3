"""Kernels of infinitely wide, fully connected ReLU networks, in closed form and in float64."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

COLLINEAR = 1e-14  # a cosine this close to ±1 differs from it only by rounding
SMALLEST = 1e-100  # smallest second moment: keeps images of zeros without biases finite


@dataclass(frozen=True)
class InfiniteWidthMLP:
    """A random ReLU network whose hidden layers are infinitely wide.

    In the NTK parameterization every layer computes σ_w W h / √fan_in + σ_b b with standard normal
    W and b; ReLU is between layers. Sources: the arc-cosine recursion of Cho & Saul (NeurIPS 2009);
    NNGP: Lee et al. (ICLR 2018); NTK: Jacot et al. (NeurIPS 2018).

    Args:
        depth: Number of hidden layers, at least 1.
        weight_variance: σ_w².
        bias_variance: σ_b².

    Example:
        >>> mlp = InfiniteWidthMLP(depth=1)
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0]])  # orthogonal
        >>> [[round(k, 4) for k in row] for row in mlp.nngp(x, x).tolist()]
        [[2.0, 0.6366], [0.6366, 2.0]]
        >>> mlp.ntk(x, x).shape
        torch.Size([2, 2])
    """

    depth: int
    weight_variance: float = 2.0
    bias_variance: float = 0.0

    def nngp(self, x_a: Tensor, x_b: Tensor) -> Tensor:  # (A, P), (B, P) -> (A, B) float64
        """Compute E[f(a) f(b)] over random weights, for one output f and all pairs of inputs."""
        return self._kernels(x_a, x_b)[0]

    def ntk(self, x_a: Tensor, x_b: Tensor) -> Tensor:  # (A, P), (B, P) -> (A, B) float64
        """Compute E⟨∇f(a), ∇f(b)⟩ over random weights, ∇ being the gradient in all W and b.

        It has a kink where a and b are parallel, as |t| has at 0; its gradient there is that of
        moving both together, which is exact for the diagonal of the kernel of a set with itself.
        """
        return self._kernels(x_a, x_b)[1]

    def _kernels(self, x_a: Tensor, x_b: Tensor) -> tuple[Tensor, Tensor]:
        # q: second moments of the inputs of a layer
        x_a, x_b = x_a.double(), x_b.double()
        q_a = self._affine(x_a.square().mean(1))
        q_b = self._affine(x_b.square().mean(1))
        nngp = self._affine(x_a @ x_b.T / x_a.shape[1])
        ntk = nngp
        for _ in range(self.depth):
            norm = q_a.clamp_min(SMALLEST).sqrt()[:, None] * q_b.clamp_min(SMALLEST).sqrt()
            order_0, order_1 = arc_cosine(nngp / norm)
            nngp = self._affine(norm * order_1 / 2)
            ntk = nngp + self.weight_variance * ntk * order_0 / 2
            q_a, q_b = self._affine(q_a / 2), self._affine(q_b / 2)
        return nngp, ntk

    def _affine(self, moment: Tensor) -> Tensor:
        """Map a second moment of a layer's inputs to that of its outputs before the ReLU."""
        return self.weight_variance * moment + self.bias_variance


def arc_cosine(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Compute (κ₀, κ₁) of Cho & Saul: κ₀ = (π-θ)/π, κ₁ = (sin θ + (π-θ) cos θ)/π.

    For (u, v) normal with unit variances: E[1(u > 0) 1(v > 0)] = κ₀ / 2 and E[relu(u) relu(v)] =
    κ₁ / 2. The derivative κ₁' = κ₀ holds everywhere; κ₀' is infinite at ±1 and taken as 0 there.
    """
    between = cosine.abs() < 1 - COLLINEAR
    inner = torch.where(between, cosine, 0.0)  # 0 · inf is NaN: no infinite derivative in the graph
    angle = torch.where(between, inner.arccos(), (cosine < 0).to(cosine) * math.pi)
    sine = torch.where(between, (1 - inner.square()).sqrt(), 0.0)
    order_0 = (math.pi - angle) / math.pi
    return order_0, sine / math.pi + order_0 * cosine
