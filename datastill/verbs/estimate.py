"""datastill estimate RECIPE: time, memory, disk and operations, before anything is made."""

from datastill.command.understand import Command
from datastill.experiments.estimate import estimate_table
from datastill.experiments.recipe import get_recipe
from datastill.flags import Estimate
from datastill.ground.machine import Machine
from datastill.ground.progress import say


def main(command: Command) -> None:
    """Print a row per group of equal stages, and the total."""
    flags = command.flags
    assert isinstance(flags, Estimate)
    recipe = get_recipe(flags.recipe, flags.scale)
    machine = Machine.find(flags.device, recipe.precision)
    say(f"measuring {recipe.name} on {machine.device}; nothing is written")
    workers, count_only = flags.workers, flags.count_only
    print(estimate_table(recipe, machine, workers=workers, count_only=count_only))
    if recipe.scale == "smoke":
        print("The smoke scale shows that all works; its time says nothing of the full scale.")
