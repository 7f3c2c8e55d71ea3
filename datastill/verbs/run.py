"""datastill run RECIPE."""

from dataclasses import replace
from pathlib import Path

from datastill.command.understand import Command
from datastill.experiments.recipe import Recipe, describe, get_recipe
from datastill.experiments.runner import Experiment, run_recipe
from datastill.flags import Run
from datastill.ground.checkpoint import differences
from datastill.ground.errors import ConfigError
from datastill.ground.lookup import check_name
from datastill.ground.machine import Machine
from datastill.ground.progress import say
from datastill.verbs._components import folder_of


def main(command: Command) -> None:
    """Run a recipe and print its table."""
    flags = command.flags
    assert isinstance(flags, Run)
    recipe = _chosen(get_recipe(flags.recipe, flags.scale), flags)
    _check_same(recipe, flags)
    default = f"runs/{flags.recipe}" + ("" if flags.scale == "full" else f"-{flags.scale}")
    experiment = Experiment(
        recipe,
        Path(flags.out or default),
        flags.seed,
        Machine.find(flags.device, recipe.precision),
        folder_of(flags.data_root),
        flags.checkpoint_seconds,
        folder_of(flags.reuse),
    )
    files = run_recipe(experiment, resume=flags.resume, workers=flags.workers, ray=flags.ray)
    print(files.table_markdown.read_text(encoding="utf-8"))
    say(f"{files.headline}\nreport: {files.page}")


def _chosen(recipe: Recipe, flags: Run) -> Recipe:
    """The recipe with the target data and the precision that were asked for."""
    for name in flags.to:
        check_name(name, recipe.data, kind=f"target data of {recipe.name}")
    data = tuple(name for name in recipe.data if name in flags.to) or recipe.data
    return replace(recipe, data=data, precision=flags.precision or recipe.precision)


def _check_same(recipe: Recipe, flags: Run) -> None:
    """A config.yaml has the whole recipe in it: it must still be the recipe of that name."""
    if flags.resolved and (found := differences(flags.resolved, describe(recipe))):
        raise ConfigError(
            f"the recipe {flags.recipe} has changed since --config was written: {'; '.join(found)}."
            f" Run the recipe as it is now without --config"
        )
