"""One command on many ranks, as torchrun starts it: all work, the first one speaks."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from datastill.ground.machine import Machine, PrecisionChoice
from datastill.ground.progress import say
from datastill.ground.world import PATIENCE_SECONDS, joined_world


@contextlib.contextmanager
def joined_machine(
    device: str,
    precision: PrecisionChoice,
    *,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Iterator[Machine]:
    """The machine of this process and the world it belongs to; only the first rank is heard.

    Raises:
        ConfigError: the device does not exist here, or torchrun's environment makes no sense.
        RankLostError: another rank has died, or does not answer for `patience_seconds`.
    """
    with joined_world(device, patience_seconds=patience_seconds) as world:
        machine = Machine.find(device, precision, world)
        with contextlib.nullcontext() if world.writes else _silence():
            if precision == "auto":
                say(f"networks compute in {machine.precision}")
            yield machine


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing of this process is seen but the error that ends it."""
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
