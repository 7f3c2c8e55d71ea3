"""Ranks beside computing: which one writes, when they stop, and whether they notice differences.

Each rank has a folder of its own here, so that whatever it writes is seen.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from factories import toy_problem

from datastill.core.errors import DatastillError
from datastill.core.loop import Metrics, run_steps
from datastill.core.machine import Machine
from datastill.core.ranks import Ranks
from datastill.core.run_folder import RunFolder
from datastill.distill import distill
from datastill.methods.krr_st import KRRST
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.problem import Problem
from datastill.train_target import TargetTraining, train_target

SHORT = KRRST(outer_steps=3, outer_batch=8, pool_size=2, max_age=2)
STEPS = 6


@dataclass
class Count:
    """Counts its steps."""

    steps: int = 0


def folder(path: Path, ranks: Ranks) -> RunFolder:
    return RunFolder.open(path, {}, resume=True, checkpoint_seconds=0.0, ranks=ranks)


def counted(path: Path, ranks: Ranks, before: Callable[[int], None]) -> str:
    """Count to `STEPS`; returns how that ended, and where."""
    state, opened = Count(), RunFolder(path, 1e9, ranks)

    def step(number: int) -> Metrics:
        before(number)
        state.steps += 1
        return {"steps": state.steps}

    try:
        run_steps("count", state, step, length=STEPS, saving=opened.saving("count", {}))
    except (SystemExit, DatastillError) as error:
        return f"{type(error).__name__} {error} after {state.steps}"
    return f"done after {state.steps}"


def everything(path: Path, ranks: Ranks) -> dict[str, str]:
    """Return how each piece of work ended on this rank."""
    plain, machine = toy_problem(), Machine(ranks=ranks)
    problem = Problem(plain.images, plain.target, 6, network=plain.network, machine=machine)
    distilled = distill(SHORT, problem, folder=folder(path / "distilled", ranks))
    training = TargetTraining(plain.network, 5, BarlowTwins((6,)), batch=8, steps=2)
    target = train_target(
        plain.images, training, machine=machine, folder=folder(path / "trained", ranks)
    )

    shared, apart = path.parent / "counting", path / "apart"
    shared.mkdir(exist_ok=True)
    stopped = counted(shared, ranks, lambda number: terminate(ranks.rank == 1 and number == 2))
    ranks.barrier()  # the first one has saved
    resumed = counted(shared, ranks, lambda number: None)
    if ranks.is_main:  # so that this rank alone has a checkpoint to continue from
        apart.mkdir()
        counted(apart, Ranks(), lambda number: terminate(number == 1))
    differing = counted(apart, ranks, lambda number: None)
    return {
        "distilled": distilled.fingerprint,
        "trained": target.fingerprint,
        "stopped": stopped,
        "resumed": resumed,
        "differing": differing,
    }


def terminate(now: bool) -> None:
    """Send this process a signal, or do not."""
    if now:
        os.kill(os.getpid(), signal.SIGTERM)
