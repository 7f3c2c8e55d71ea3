"""Run a method on a problem: warm-up, steps, checkpoints, and the distilled set at the end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from datastill.core.errors import ConfigError
from datastill.core.loop import CheckpointConfig, PhaseCost, run_steps
from datastill.core.profile import profiled
from datastill.core.progress import logger
from datastill.core.rng import derive
from datastill.core.run_folder import RunFolder
from datastill.distilled_set import DistilledSet
from datastill.methods.method import Method
from datastill.pretrain import Pretraining, pretrain
from datastill.problem import Problem
from datastill.stored_form.mosaic import decoder
from datastill.transfer.held_out import HeldOut


@dataclass(frozen=True)
class Probe:
    """Periodically pre-train a new network on the current set and log its held-out R².

    Args:
        held_out: Source images that are not distilled, and the target model.
        every_steps: Steps between two evaluations.
        pretraining: How the network is trained. Default: as usual for representations.

    Example:
        >>> import datastill as ds, torch
        >>> from datastill.transfer.held_out import HeldOut
        >>> images = ds.source("digits").load("test")
        >>> target = ds.TargetModel(torch.nn.Flatten(), images.normalizer, images.image_size)
        >>> Probe(HeldOut(images, target), every_steps=100).every_steps
        100
    """

    held_out: HeldOut
    every_steps: int
    pretraining: Pretraining | None = None


def distill(
    method: Method[Any],
    problem: Problem,
    *,
    folder: RunFolder | Path | str | None = None,
    probe: Probe | None = None,
) -> DistilledSet:
    """Run a method on a problem; with a folder, log, checkpoint and save the artefact there.

    Args:
        method: The method with its hyperparameters.
        problem: Source, target model and number of images.
        folder: Gets `initial.safetensors` (before the first step) and `distilled.safetensors`. One
            that has this run in it is continued, and where the run was finished, its artefact is
            read. None: nothing is written.
        probe: Evaluates the set while it is distilled.

    Returns:
        The distilled set, stored as the problem's `compression` says.

    Raises:
        ConfigError: The method needs a target model or labels that the problem lacks, or the set
            does not fit in the bytes that its file may have.
        NotFiniteError: The loss or the result is not finite; the last checkpoint is unharmed.

    Example:
        >>> import datastill as ds
        >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=10)
        >>> distilled = ds.distill(ds.KIP(outer_steps=2, outer_batch=100), problem)
        >>> distilled.images.shape
        torch.Size([10, 1, 16, 16])
    """
    method.check(problem)
    identity = {"method": method.identity(), **problem.identity}
    if problem.compression is not None:  # another one would start from other pixels
        identity["decoder"] = decoder(problem.compression.codec)
    folder = RunFolder.open_or_resume(folder, identity, problem.ranks)
    if folder is not None and (folder.path / "distilled.safetensors").exists():
        logger.info(f"{folder.path} is finished already")
        return DistilledSet.load(folder.path)
    state = method.init(problem)
    if problem.compression is not None or (folder is not None and folder.writes):
        first = problem.stored(method.result(problem, state))  # refuses a form that does not fit
        if folder is not None and folder.writes:
            initial = folder.path / "initial.safetensors"
            if not initial.exists():  # it is there where a run goes on
                first.save(initial)

    saving = None if folder is None else folder.saving("distill", identity)
    if saving is None or not saving.path.exists():  # else the checkpoint is of a warm state
        cost = warm_up(method, problem, state, saving)
        if folder is not None and cost is not None:
            folder.finish_phase("warm-up", cost)

    def step(number: int) -> dict[str, Tensor | float | int]:
        metrics = method.step(problem, state)
        if probe is not None and (number + 1) % probe.every_steps == 0:
            distilled = problem.stored(method.result(problem, state))
            network = pretrain(
                problem.network,
                distilled,
                seed=derive(problem.seed, "probe", number),
                pretraining=probe.pretraining,
                machine=problem.machine,
            )
            r2 = probe.held_out.r2(network, problem.machine, basis=distilled.basis)
            metrics["held_out_r2"] = r2
        return metrics

    cost = run_steps(
        "distill",
        state,
        profiled(step, folder),
        length=method.length(problem),
        saving=saving,
        log=folder,
        lower="--count or a batch of the method",
    )
    distilled = _stored(method.result(problem, state), problem, folder)
    if folder is not None and saving is not None and folder.writes:
        distilled.save(folder.path / "distilled.safetensors")
        folder.finish_phase("distill", cost)
        saving.clear()
    return distilled


def _stored(distilled: DistilledSet, problem: Problem, folder: RunFolder | None) -> DistilledSet:
    """Return the finished set in its stored form; where that is impossible, save it as it is."""
    try:
        return problem.stored(distilled)
    except ConfigError as error:
        if folder is None or not folder.writes:
            raise
        path = folder.path / "uncoded.safetensors"
        distilled.save(path)
        raise ConfigError(
            f"{error}. What was distilled is in {path}; 'datastill compress' stores it otherwise"
        ) from error


def warm_up(
    method: Method[Any], problem: Problem, state: Any, saving: CheckpointConfig | None = None
) -> PhaseCost | None:
    """Take the warm-up steps of a method, with checkpoints of their own.

    Args:
        method: The method; most have no warm-up.
        problem: What is distilled.
        state: The state from `method.init`, which is changed in place.
        saving: Where the checkpoints of the run stand. None: there are none.

    Returns:
        What it took; None without a warm-up.
    """
    length = method.warm_up_length(problem)
    if not length:
        return None
    return run_steps(
        "warm-up",
        state,
        lambda _: method.warm_up_step(problem, state),
        length=length,
        saving=None if saving is None else saving.for_part("warm-up"),
        lower="--count",
    )
