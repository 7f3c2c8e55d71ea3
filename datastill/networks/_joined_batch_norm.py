"""Batch normalisation by the statistics of the joined batch of all ranks, on CPU and GPU.

torch's own (`SyncBatchNorm`) has no CPU form. Here means and variances of the ranks' shares are
gathered, differentiably, and pooled: equal shares, so μ = mean of μ_r and σ² = mean of
σ_r² + (μ_r - μ)².
"""

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datastill.ground.errors import ConfigError
from datastill.ground.world import World

Plain = nn.BatchNorm1d | nn.BatchNorm2d


class JoinedBatchNorm(nn.Module):
    """A batch norm's own weights and running statistics, updated alike on all ranks."""

    weight: Tensor  # (C,), as all of these but the last
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor  # ()

    def __init__(self, plain: Plain, world: World) -> None:
        super().__init__()
        self.eps, self.momentum, self.world = plain.eps, plain.momentum, world
        for name, parameter in plain.named_parameters():
            self.register_parameter(name, parameter)
        for name, buffer in plain.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        """Normalised per channel: by the joined batch in training, else by running statistics."""
        if not self.training:
            known = (self.running_mean, self.running_var, self.weight, self.bias)
            return F.batch_norm(x, *known, eps=self.eps)
        mean, variance = self._joined_statistics(x.to(torch.promote_types(x.dtype, torch.float32)))
        scale = self.weight * (variance + self.eps).rsqrt()
        shape = (1, -1, *[1] * (x.ndim - 2))
        return (x - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)

    def _joined_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:  # 2 x (C,)
        others = [k for k in range(x.ndim) if k != 1]
        variance, mean = torch.var_mean(x, others, correction=0)
        means, variances = self.world.gather(torch.stack([mean, variance])[None]).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        self._remember(mean.detach(), variance.detach(), self.world.size * x.numel() // x.shape[1])
        return mean, variance

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """As torch does: running statistics take the variance with `count` - 1 below."""
        self.num_batches_tracked += 1
        momentum = self.momentum
        if momentum is None:
            momentum = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        unbiased = variance * count / (count - 1)
        self.running_var.lerp_(unbiased.to(self.running_var), momentum)


def join_batch_norms(module: nn.Module, world: World) -> None:
    """Let each batch norm in a module see the batches of all ranks; names of weights stay.

    Raises:
        ConfigError: one of them is of a kind that cannot, as those of timm that activate too.
    """
    if world.size == 1:
        return
    for name, child in module.named_children():
        if _is_plain(child):
            setattr(module, name, JoinedBatchNorm(child, world))
        elif isinstance(child, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"{type(child).__name__} cannot be shared among ranks; start it without torchrun,"
                " or choose another --network"
            )
        else:
            join_batch_norms(child, world)


def _is_plain(module: nn.Module) -> TypeGuard[Plain]:
    """Whether it is torch's own, with weights and running statistics; not a subclass."""
    if type(module) not in (nn.BatchNorm1d, nn.BatchNorm2d):
        return False
    return isinstance(module, Plain) and module.affine and module.track_running_stats
