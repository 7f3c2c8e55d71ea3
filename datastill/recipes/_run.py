"""Run a recipe: its parts as a grid, then the report of whatever was measured."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datastill.ground.alone import undisturbed
from datastill.ground.atomic import write_json
from datastill.ground.errors import GridError
from datastill.ground.grid import Submit, here, run_grid
from datastill.ground.options import Json, option
from datastill.ground.processes import processes
from datastill.ground.ray_cluster import ray_cluster
from datastill.ground.run_folder import RunFolder
from datastill.recipes._base import describe
from datastill.recipes._places import ROWS
from datastill.recipes._workshop import Experiment, Workshop
from datastill.report.build import ReportFiles, build


@dataclass(frozen=True)
class Workers:
    """Who makes the parts of a recipe."""

    number: int = option(1, "parts made at once, each by a process of its own", at_least=1)
    ray: str | None = option(None, "address of a Ray cluster that makes the parts instead")


def run_recipe(
    experiment: Experiment, *, resume: bool = False, workers: Workers | None = None
) -> ReportFiles:
    """Make all parts of a recipe in sub-folders of `out`, then the report in `out/report`.

    A part that fails stops only those that need it; the report is of what there is, and
    `failed.json` names the rest. Run again with `resume`, only what is missing is made.

    Raises:
        ConfigError: `out` has another run in it.
        DataError: images are missing.
        GridError: parts failed; the message names the first.
    """
    out, config = experiment.out, _config(experiment)
    RunFolder.check(out, config, resume=resume)
    workshop = Workshop(experiment)
    workshop.read_images()
    RunFolder.open(out, config, resume=resume)
    with undisturbed(out / ".recipe.lock", experiment.recipe.name):
        return _make_all(workshop, workers or Workers())


def _make_all(workshop: Workshop, workers: Workers) -> ReportFiles:
    out = workshop.experiment.out
    with _submitting(workshop, workers) as submit:
        failed = run_grid([part.job for part in workshop.parts.values()], submit)
    _note(out / "failed.json", failed)
    if any(name.startswith(ROWS) for name in workshop.parts.keys() - failed.keys()):
        files = build([out], out / "report")
    if failed:
        name, error = next(iter(failed.items()))
        raise GridError(
            f"{len(failed)} of {len(workshop.parts)} parts failed, as {out / 'failed.json'} says;"
            f" the first was {name}: {error}. The others are kept; --resume tries again"
        )
    return files


def _config(experiment: Experiment) -> Json:
    recipe, root = experiment.recipe, experiment.data_root
    return {
        "recipe": recipe.name,
        "scale": recipe.scale,
        "seed": experiment.seed,
        "device": experiment.machine.device,
        "data_root": root and str(root),
        "reuse": experiment.reuse and str(experiment.reuse),
        "resolved": describe(recipe),
    }


def _note(file: Path, failed: Mapping[str, str]) -> None:
    """Keep the names of failed parts for the report; an earlier run's are void."""
    file.unlink(missing_ok=True)
    if failed:
        write_json(file, [{"part": name, "error": error} for name, error in failed.items()])


@contextmanager
def _submitting(workshop: Workshop, workers: Workers) -> Iterator[Submit]:
    work = partial(_make, workshop.experiment)
    if workers.ray is not None:
        gpus = int(workshop.experiment.machine.device.startswith("cuda"))
        with ray_cluster(work, workers.ray, gpus=gpus) as submit:
            yield submit
    elif workers.number > 1:
        with processes(work, workers.number) as submit:
            yield submit
    else:
        yield here(workshop.make)


def _make(experiment: Experiment, name: str) -> None:
    """In a process of its own, which shares nothing with other parts but the folders."""
    Workshop(experiment).make(name)
