"""Measure how much time, memory and disk a recipe will need on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass

from datastill.cli.parser import CommandParser
from datastill.cli.shared_flags import DEVICE, chosen
from datastill.core.machine import Machine
from datastill.core.options import Json, option
from datastill.core.progress import logger
from datastill.experiments.estimate import estimate_table
from datastill.experiments.recipe import get_recipe
from datastill.experiments.scale import Scale


@dataclass(frozen=True)
class EstimateFlags:
    """Flags of `datastill estimate`."""

    scale: Scale = option("full", "smoke, small or full, as for 'datastill run'")
    device: str = option("auto", DEVICE)


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        "estimate", arguments, __doc__, "datastill estimate quick", required=("recipe",)
    )
    parser.add_positional("recipe", "name of a recipe")
    parser.add_options(EstimateFlags)
    return parser


def run(config: Json) -> None:
    """Print a row per group of equal stages, and the total."""
    flags = chosen(EstimateFlags, config)
    recipe = get_recipe(config["recipe"], flags.scale)
    machine = Machine.find(flags.device, recipe.precision)
    logger.info(f"measuring {recipe.name} on {machine.device}; nothing is written")
    print(estimate_table(recipe, machine))
