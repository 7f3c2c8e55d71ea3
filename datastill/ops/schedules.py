"""Learning-rate schedules as values: the factor on the full rate is a pure function of the step.

Step 0 is the first update and step `length - 1` the last one. A schedule has no state, so that a
run resumes from nothing but the number of its next step.
"""

import math
from dataclasses import dataclass

from torch.optim import Optimizer

from datastill.core.errors import ConfigError
from datastill.core.options import option


@dataclass(frozen=True)
class Constant:
    """Keep the full rate.

    Example:
        >>> Constant().factor(step=5, length=10)
        1.0
    """

    def factor(self, step: int, length: int) -> float:
        """Return the factor on the full rate before update `step` of `length`."""
        _check(step, length)
        return 1.0


@dataclass(frozen=True)
class Cosine:
    """Lower the rate along half a cosine wave (Loshchilov & Hutter, ICLR 2017) after a warm-up.

    Args:
        warmup_steps: Updates over which the rate rises linearly from zero.
        end: Factor on the full rate that a step after the last one would have.

    Example:
        >>> [round(Cosine().factor(step, length=4), 3) for step in range(4)]
        [1.0, 0.854, 0.5, 0.146]
        >>> Cosine(warmup_steps=2).factor(step=1, length=4)
        0.5
    """

    warmup_steps: int = option(0, "updates over which the rate rises linearly from zero", smoke=0)
    end: float = option(0.0, "factor on the full rate at the end")

    def factor(self, step: int, length: int) -> float:
        """Return the factor on the full rate before update `step` of `length`.

        With a warm-up the first update has rate zero.

        Raises:
            ConfigError: The warm-up is as long as the whole training.
        """
        _check(step, length)
        if self.warmup_steps >= length:
            raise ConfigError(
                f"warmup_steps={self.warmup_steps} leaves nothing of {length} steps;"
                " lower warmup_steps or train longer"
            )
        if step < self.warmup_steps:
            return step / self.warmup_steps
        progress = (step - self.warmup_steps) / (length - self.warmup_steps)
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Linear:
    """Lower the rate along a straight line.

    Args:
        end: Factor on the full rate that a step after the last one would have.

    Example:
        >>> [Linear(end=0.0).factor(step, length=4) for step in range(4)]
        [1.0, 0.75, 0.5, 0.25]
    """

    end: float = option(1e-3, "factor on the full rate at the end")

    def factor(self, step: int, length: int) -> float:
        """Return the factor on the full rate before update `step` of `length`."""
        _check(step, length)
        return 1 + (self.end - 1) * step / length


@dataclass(frozen=True)
class HalfDrop:
    """Use the full rate for the first half and a fraction of it for the second.

    Args:
        drop: Factor on the full rate in the second half.

    Example:
        >>> [HalfDrop(0.1).factor(step, length=4) for step in range(4)]
        [1.0, 1.0, 0.1, 0.1]
    """

    drop: float = option(0.1, "factor on the full rate in the second half")

    def factor(self, step: int, length: int) -> float:
        """Return the factor on the full rate; with an odd length the second half is longer."""
        _check(step, length)
        return self.drop if step >= length // 2 else 1.0


Schedule = Constant | Cosine | Linear | HalfDrop


def set_learning_rates(optimizer: Optimizer, schedule: Schedule, step: int, length: int) -> None:
    """Set the learning rate of every parameter group before an update.

    Args:
        optimizer: Made by a value of `datastill.ops.optimizers`.
        schedule: Gives the factor on the full rate of each group.
        step: Number of the update, from 0.
        length: Number of all updates.

    Example:
        >>> import torch
        >>> from datastill.ops.optimizers import AdamW
        >>> optimizer = AdamW(lr=0.5).make([torch.zeros(2, requires_grad=True)])
        >>> set_learning_rates(optimizer, Linear(end=0.0), step=1, length=2)
        >>> optimizer.param_groups[0]["lr"]
        0.25
    """
    factor = schedule.factor(step, length)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def _check(step: int, length: int) -> None:
    if not 0 <= step <= length or length < 1:
        raise ConfigError(f"step {step} is outside of a training of {length} steps")
