"""Run a recipe: images in; target model, distilled sets, transfer table and report out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datastill.cli.parser import CommandParser
from datastill.cli.shared_flags import DATA_ROOT, RunOptions, chosen, path_or_none
from datastill.core import lookup
from datastill.core.checkpoint import differences
from datastill.core.errors import ConfigError
from datastill.core.machine import Machine, PrecisionName
from datastill.core.options import Json, option
from datastill.core.progress import logger
from datastill.experiments.recipe import Recipe, describe, get_recipe
from datastill.experiments.runner import Experiment, run_recipe
from datastill.experiments.scale import Scale

RUN = ("resume", "checkpoint_seconds", "config", "device")
SCALE = "smoke: a few steps on synthetic images, to test everything; small: for two CPU cores"
REUSE = "take equal target models and distilled sets from this run folder"


@dataclass(frozen=True)
class Run:
    """Flags of `datastill run` beside those that all runs have."""

    data_root: str | None = option(None, DATA_ROOT)
    to: tuple[str, ...] = option((), "only these of the recipe's target data")
    precision: PrecisionName | None = option(None, "of networks; default: the recipe's")
    scale: Scale = option("full", SCALE)
    seed: int = option(0, "seed of all random numbers", at_least=0)
    workers: int = option(1, "stages that run side by side, each in its own process", at_least=1)
    ray: str | None = option(None, "run the stages on the Ray cluster at this address, or 'local'")
    reuse: str | None = option(None, REUSE)
    out: str | None = option(None, "run folder; default: runs/RECIPE, and the scale if not full")
    resolved: dict[str, Any] | None = option(None, "")  # config.yaml: the whole recipe


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser("run", arguments, __doc__, "datastill run quick", required=("recipe",))
    parser.add_positional("recipe", ", ".join(lookup.names("datastill.recipes")))
    parser.add_options(Run)
    parser.add_options(RunOptions, only=RUN, title="run")
    return parser


def run(config: Json) -> None:
    """Run the recipe and print its table."""
    flags, name = chosen(Run, config), config["recipe"]
    run_options = chosen(RunOptions, {key: config[key] for key in RUN if key in config})
    recipe = _selected(get_recipe(name, flags.scale), flags)
    if flags.resolved and (changed := differences(flags.resolved, describe(recipe))):
        raise ConfigError(
            f"the recipe {name} has changed since --config was written: {'; '.join(changed)}."
            " Run the recipe as it is now without --config"
        )
    default = f"runs/{name}" + ("" if flags.scale == "full" else f"-{flags.scale}")
    experiment = Experiment(
        recipe,
        Path(flags.out or default),
        flags.seed,
        Machine.find(run_options.device, recipe.precision),
        path_or_none(flags.data_root),
        run_options.checkpoint_seconds,
        path_or_none(flags.reuse),
    )
    files = run_recipe(experiment, resume=run_options.resume, workers=flags.workers, ray=flags.ray)
    print(files.table_markdown.read_text(encoding="utf-8"))
    logger.info(f"{files.headline}\nreport: {files.page}")


def _selected(recipe: Recipe, flags: Run) -> Recipe:
    """Return the recipe with the target data and the precision of the flags, or of config.yaml."""
    for name in flags.to:
        lookup.check_name(name, recipe.data, kind=f"target data of {recipe.name}")
    before = flags.resolved or {}
    names = flags.to or before.get("data") or recipe.data
    data = tuple(name for name in recipe.data if name in names) or recipe.data
    precision = flags.precision or before.get("precision") or recipe.precision
    return replace(recipe, data=data, precision=precision)
