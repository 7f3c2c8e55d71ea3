"""What ranks do beside computing: who writes, who stops when, who notices that ranks differ.

Each rank has a folder of its own here, so that whatever it writes is seen.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toys import toy_problem

from datastill.distill import distill
from datastill.ground.errors import DatastillError
from datastill.ground.loop import Metrics, run_steps
from datastill.ground.machine import Machine
from datastill.ground.run_folder import RunFolder
from datastill.ground.world import World
from datastill.methods._base import Problem
from datastill.methods.krr_st import KRRST
from datastill.objectives.barlow_twins import BarlowTwins
from datastill.train_target import TargetTraining, train_target

SHORT = KRRST(outer_steps=3, outer_batch=8, pool_size=2, max_age=2)
STEPS = 6


@dataclass
class Count:
    """Counts its steps."""

    steps: int = 0


def folder(place: Path, world: World) -> RunFolder:
    return RunFolder.open(place, {}, resume=True, checkpoint_seconds=0.0, world=world)


def counted(place: Path, world: World, before: Callable[[int], None]) -> str:
    """Count to `STEPS`; returns how that ended, and where."""
    state, opened = Count(), RunFolder(place, 1e9, world)

    def step(number: int) -> Metrics:
        before(number)
        state.steps += 1
        return {"steps": state.steps}

    try:
        run_steps("count", state, step, length=STEPS, saving=opened.saving("count", {}))
    except (SystemExit, DatastillError) as error:
        return f"{type(error).__name__} {error} after {state.steps}"
    return f"done after {state.steps}"


def everything(place: Path, world: World) -> dict[str, str]:
    """What each piece of work said on this rank."""
    plain, machine = toy_problem(), Machine(world=world)
    problem = Problem(plain.images, plain.target, 6, network=plain.network, machine=machine)
    found = distill(SHORT, problem, folder=folder(place / "distilled", world))
    training = TargetTraining(plain.network, 5, BarlowTwins((6,)), batch=8, steps=2)
    target = train_target(
        plain.images, training, machine=machine, folder=folder(place / "trained", world)
    )

    shared, apart = place.parent / "counting", place / "apart"
    shared.mkdir(exist_ok=True)
    stopped = counted(shared, world, lambda number: terminate(world.rank == 1 and number == 2))
    world.wait()  # the first one has saved
    resumed = counted(shared, world, lambda number: None)
    if world.writes:  # so that this rank alone has a checkpoint to continue from
        apart.mkdir()
        counted(apart, World(), lambda number: terminate(number == 1))
    differing = counted(apart, world, lambda number: None)
    return {
        "distilled": found.fingerprint,
        "trained": target.fingerprint,
        "stopped": stopped,
        "resumed": resumed,
        "differing": differing,
    }


def terminate(now: bool) -> None:
    """Send this process a signal, or do not."""
    if now:
        os.kill(os.getpid(), signal.SIGTERM)
