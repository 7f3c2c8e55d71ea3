"""Loop 2: a problem and a method make a distilled set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from datastill.artefact import DistilledSet
from datastill.ground.loop import run_steps
from datastill.ground.profile import profiled
from datastill.ground.progress import say
from datastill.ground.rng import derive
from datastill.ground.run_folder import RunFolder
from datastill.held_out import HeldOut
from datastill.methods._base import AbstractMethod, Problem
from datastill.pretrain import Pretraining, pretrain


@dataclass(frozen=True)
class Probe:
    """Every so often, pre-train a fresh network on the set as it is and ask held-out images."""

    held_out: HeldOut  # source images that are not distilled
    every_steps: int
    pretraining: Pretraining | None = None


def distill(
    method: AbstractMethod[Any],
    problem: Problem,
    *,
    folder: RunFolder | Path | str | None = None,
    probe: Probe | None = None,
) -> DistilledSet:
    """Run a method on a problem; with a folder, log, checkpoint and save the artefact there.

    The folder gets `initial.safetensors` (before the first step) and `distilled.safetensors`; one
    that has this run in it is continued, and where the run was finished, its artefact is read.

    Raises:
        ConfigError: the method needs a target model or labels that the problem lacks.
        NotFiniteError: the loss or the result is not finite; the last checkpoint is unharmed.
    """
    method.check(problem)
    identity = {"method": method.identity(), **problem.identity}
    folder = RunFolder.of(folder, identity, problem.world)
    if folder is not None and (folder.path / "distilled.safetensors").exists():
        say(f"{folder.path} is finished already")
        return DistilledSet.load(folder.path)
    state = method.init(problem)
    if folder is not None and folder.writes:
        _keep_initial(folder.path / "initial.safetensors", method.result(problem, state))

    def step(number: int) -> dict[str, Tensor | float | int]:
        metrics = method.step(problem, state)
        if probe is not None and (number + 1) % probe.every_steps == 0:
            metrics["held_out_r2"] = _probe(problem, method.result(problem, state), probe, number)
        return metrics

    saving = None if folder is None else folder.saving("distill", identity)
    cost = run_steps(
        "distill",
        state,
        profiled(step, folder),
        length=method.length(problem),
        saving=saving,
        log=folder,
        lower="--count or a batch of the method",
    )
    distilled = method.result(problem, state)
    if folder is not None and saving is not None and folder.writes:
        distilled.save(folder.path / "distilled.safetensors")
        folder.finish_phase("distill", cost)
        saving.clear()
    return distilled


def _keep_initial(file: Path, initial: DistilledSet) -> None:
    """What the first step starts from; it is there already where a run goes on."""
    if not file.exists():
        initial.save(file)


def _probe(problem: Problem, distilled: DistilledSet, probe: Probe, number: int) -> float:
    network = pretrain(
        problem.network,
        distilled,
        seed=derive(problem.seed, "probe", number),
        pretraining=probe.pretraining,
        machine=problem.machine,
    )
    return probe.held_out.r2(network, problem.machine)
