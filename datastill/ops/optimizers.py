"""Optimizers as values: a frozen description that makes a torch optimizer for given parameters.

Every parameter group stores its full rate as `base_lr`, which `schedules.set_learning_rates`
scales: groups with different rates follow one schedule, and a resumed optimizer still has them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, final, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from datastill.core.options import check_bounds, option

Params = Iterable[Tensor] | Iterable[dict[str, Any]]  # tensors, or groups as torch takes them


class _Spec(ABC):
    def __post_init__(self) -> None:
        check_bounds(self)

    @final
    def make(self, params: Params) -> Optimizer:
        """Make a new optimizer.

        Args:
            params: Tensors, or parameter groups as torch takes them.
        """
        optimizer = self._make(params)
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
        return optimizer

    @abstractmethod
    def _make(self, params: Params) -> Optimizer: ...


@dataclass(frozen=True)
class Sgd(_Spec):
    """Stochastic gradient descent with heavy-ball momentum (`torch.optim.SGD`).

    Args:
        lr: Learning rate.
        momentum: Share of the last update that is kept, in [0, 1).
        weight_decay: Multiple of the parameters that is added to the gradient.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = Sgd(lr=0.1, momentum=0.0).make([weight])
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> weight.tolist() == torch.tensor([0.9, 0.9]).tolist()
        True
    """

    lr: float = option(0.1, "learning rate", above=0)
    momentum: float = option(0.9, "share of the last update that is kept", at_least=0, below=1)
    weight_decay: float = option(0.0, "pull towards zero, added to the gradient", at_least=0)

    def _make(self, params: Params) -> Optimizer:
        return torch.optim.SGD(
            params, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )


@dataclass(frozen=True)
class AdamW(_Spec):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019; `torch.optim.AdamW`).

    Args:
        lr: Learning rate.
        weight_decay: Share of the parameters that an update at learning rate one removes.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> optimizer = AdamW(lr=1e-3).make(torch.nn.Linear(4, 2).parameters())
        >>> type(optimizer).__name__, optimizer.param_groups[0]["lr"]
        ('AdamW', 0.001)
    """

    lr: float = option(1e-3, "learning rate", above=0)
    weight_decay: float = option(0.0, "pull towards zero, a share of the rate", at_least=0)

    def _make(self, params: Params) -> Optimizer:
        return torch.optim.AdamW(params, lr=self.lr, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Lars(_Spec):
    """Layer-wise adaptive rates for large batches (You et al., 2017).

    Args:
        lr: Learning rate of a layer whose trust ratio is one.
        momentum: Share of the last update that is kept, in [0, 1).
        weight_decay: Multiple of weight matrices that is added to their gradient; biases and
            parameters of normalization layers are not decayed.
        trust: Norm of an update at learning rate one, as a share of the norm of the weights.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> optimizer = Lars(lr=0.2).make(torch.nn.Linear(4, 2).parameters())
        >>> optimizer.param_groups[0]["trust"]
        0.001
    """

    lr: float = option(0.2, "learning rate of a layer whose trust ratio is one", above=0)
    momentum: float = option(0.9, "share of the last update that is kept", at_least=0, below=1)
    weight_decay: float = option(1e-6, "pull of weight matrices towards zero", at_least=0)
    trust: float = option(
        0.001, "length of an update at rate one, as a share of the weights'", above=0
    )

    def _make(self, params: Params) -> Optimizer:
        return LarsOptimizer(params, asdict(self))


@dataclass(frozen=True)
class Lamb(_Spec):
    """Adam with layer-wise adaptive rates (You et al., ICLR 2020).

    Args:
        lr: Norm of an update, about, as a share of the norm of the tensor.
        weight_decay: Multiple of the parameters that is added to the update.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> optimizer = Lamb(lr=1e-3).make(torch.nn.Linear(4, 2).parameters())
        >>> optimizer.param_groups[0]["weight_decay"]
        0.0
    """

    lr: float = option(1e-3, "length of an update, about, as a share of the tensor's", above=0)
    weight_decay: float = option(0.0, "pull towards zero, added to the update", at_least=0)

    def _make(self, params: Params) -> Optimizer:
        return LambOptimizer(params, asdict(self))


OptimizerSpec = Sgd | AdamW | Lars | Lamb


class _LayerWise(Optimizer, ABC):
    """Update each tensor by itself, by the rule in `_update`."""

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    @abstractmethod
    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update one tensor in place."""


class LarsOptimizer(_LayerWise):
    """LARS as the authors of Barlow Twins run it; make it with `Lars(...).make(params)`.

    For each weight matrix w with gradient g: d = g + weight_decay·w, then
    d ← trust·‖w‖/‖d‖ · d, then m ← momentum·m + d and w ← w - lr·m. Biases and weights of
    normalization layers (one dimension or none) are neither adapted nor decayed.
    """

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        direction = gradient
        if parameter.ndim > 1:
            direction = direction.add(parameter, alpha=group["weight_decay"])
            direction = direction * _trust_ratio(parameter, direction, group["trust"])
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(group["momentum"]).add_(direction)
        parameter.add_(state["momentum"], alpha=-group["lr"])


class LambOptimizer(_LayerWise):
    """LAMB as in optax; make it with `Lamb(...).make(params)`.

    For each tensor w with gradient g, after t updates: m ← 0.9·m + 0.1·g, v ← 0.999·v + 0.001·g²,
    d = (m / (1 - 0.9ᵗ)) / (√(v / (1 - 0.999ᵗ)) + 1e-6) + weight_decay·w, w ← w - lr·‖w‖/‖d‖ · d.
    """

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        state["mean"].lerp_(gradient, 0.1)
        state["square"].lerp_(gradient.square(), 0.001)
        steps = int(state["step"])
        deviation = (state["square"] / (1 - 0.999**steps)).sqrt()
        direction = state["mean"] / (1 - 0.9**steps) / (deviation + 1e-6)
        direction = direction.add(parameter, alpha=group["weight_decay"])
        ratio = _trust_ratio(parameter, direction, 1.0)
        parameter.sub_(ratio * direction, alpha=group["lr"])


def _trust_ratio(parameter: Tensor, direction: Tensor, trust: float) -> Tensor:
    """Return trust · ‖w‖ / ‖d‖, a scalar; one if either norm is zero."""
    weight, update = parameter.norm(), direction.norm()
    ratio = trust * weight / update
    return torch.where((weight > 0) & (update > 0), ratio, torch.ones_like(ratio))
