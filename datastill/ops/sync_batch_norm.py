"""Batch norm with the statistics of the joined batch of all ranks, on CPU and GPU."""

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datastill.core.errors import ConfigError
from datastill.core.ranks import Ranks

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


class SyncBatchNorm(nn.Module):
    """Batch norm over the batches of all ranks; `torch.nn.SyncBatchNorm` has no CPU form.

    Means and variances of the ranks' shares are gathered, differentiably, and pooled. All shares
    have the same size, so μ = mean of μ_r and σ² = mean of σ_r² + (μ_r - μ)².

    Args:
        batch_norm: Its parameters and buffers are taken over and keep their names.
        ranks: The ranks.
    """

    weight: Tensor  # (C,), as all of these but the last
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor  # ()

    def __init__(self, batch_norm: BatchNorm, ranks: Ranks) -> None:
        super().__init__()
        self.eps, self.momentum, self.ranks = batch_norm.eps, batch_norm.momentum, ranks
        for name, parameter in batch_norm.named_parameters():
            self.register_parameter(name, parameter)
        for name, buffer in batch_norm.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        """Normalize each channel, in training by the joined batch, else by running statistics."""
        if not self.training:
            running = self.running_mean, self.running_var
            return F.batch_norm(x, *running, self.weight, self.bias, eps=self.eps)
        mean, variance = self._joined_statistics(x.to(torch.promote_types(x.dtype, torch.float32)))
        scale = self.weight * (variance + self.eps).rsqrt()
        shape = (1, -1, *[1] * (x.ndim - 2))
        return (x - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)

    def _joined_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:  # 2 x (C,)
        all_but_channels = [dim for dim in range(x.ndim) if dim != 1]
        variance, mean = torch.var_mean(x, all_but_channels, correction=0)
        means, variances = self.ranks.gather(torch.stack([mean, variance])[None]).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        count = self.ranks.size * x.numel() // x.shape[1]
        self._update_running_stats(mean.detach(), variance.detach(), count)
        return mean, variance

    @torch.no_grad()
    def _update_running_stats(self, mean: Tensor, variance: Tensor, count: int) -> None:
        self.num_batches_tracked += 1
        momentum = self.momentum
        if momentum is None:
            momentum = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        unbiased = variance * count / (count - 1)  # torch keeps the unbiased variance here too
        self.running_var.lerp_(unbiased.to(self.running_var), momentum)


def convert_sync_batch_norm(module: nn.Module, ranks: Ranks) -> None:
    """Replace each batch norm in a module, in place, by one over the batches of all ranks.

    The names in the module's state dict stay. With one rank nothing changes.

    Args:
        module: The network.
        ranks: The ranks.

    Raises:
        ConfigError: A batch norm is a subclass of torch's, such as those of timm that include an
            activation, or has no weights or running statistics.
    """
    if ranks.size == 1:
        return
    for name, child in module.named_children():
        if _is_convertible(child):
            setattr(module, name, SyncBatchNorm(child, ranks))
        elif isinstance(child, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"{type(child).__name__} cannot be shared among ranks; start it without torchrun,"
                " or choose another --network"
            )
        else:
            convert_sync_batch_norm(child, ranks)


def _is_convertible(module: nn.Module) -> TypeGuard[BatchNorm]:
    """Return whether it is torch's own class, no subclass, with weights and running statistics."""
    if type(module) not in (nn.BatchNorm1d, nn.BatchNorm2d):
        return False
    return isinstance(module, BatchNorm) and module.affine and module.track_running_stats
