"""Learning-rate schedules as values: the factor on the full rate is a pure function of the step.

Step 0 is the first update and step `length - 1` the last one. A schedule holds no state, so
resuming a run needs nothing but the number of its next step.
"""

import math
from dataclasses import dataclass

from torch.optim import Optimizer

from datastill.ground.errors import ConfigError
from datastill.ground.options import option


@dataclass(frozen=True)
class Constant:
    """The full rate all the way."""

    def factor(self, step: int, length: int) -> float:
        """Factor on the full rate at `step`."""
        _check(step, length)
        return 1.0


@dataclass(frozen=True)
class Cosine:
    """Half a cosine wave from one to `end` (Loshchilov & Hutter, ICLR 2017), after a warm-up."""

    warmup_steps: int = option(0, "updates over which the rate rises linearly from zero", smoke=0)
    end: float = option(0.0, "factor on the full rate at the end")

    def factor(self, step: int, length: int) -> float:
        """Factor on the full rate at `step`; with a warm-up the first update has rate zero.

        Raises:
            ConfigError: the warm-up is as long as the whole training.
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
    """A straight line from one towards `end`, which a step after the last one would reach."""

    end: float = option(1e-3, "factor on the full rate at the end")

    def factor(self, step: int, length: int) -> float:
        """Factor on the full rate at `step`."""
        _check(step, length)
        return 1 + (self.end - 1) * step / length


@dataclass(frozen=True)
class HalfDrop:
    """The full rate for the first half, a fraction of it for the second."""

    drop: float = option(0.1, "factor on the full rate in the second half")

    def factor(self, step: int, length: int) -> float:
        """Factor on the full rate at `step`; an odd length has the longer second half."""
        _check(step, length)
        return self.drop if step >= length // 2 else 1.0


Schedule = Constant | Cosine | Linear | HalfDrop


def set_rates(optimizer: Optimizer, schedule: Schedule, step: int, length: int) -> None:
    """Set the rate of every group of an optimizer made by `optimizers`, before update `step`."""
    factor = schedule.factor(step, length)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def _check(step: int, length: int) -> None:
    if not 0 <= step <= length or length < 1:
        raise ConfigError(f"step {step} is outside of a training of {length} steps")
