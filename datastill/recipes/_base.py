"""A recipe: a whole experiment as one value. `_workshop` knows its parts, `_run` runs them."""

import importlib
from dataclasses import dataclass, replace
from typing import Any, Literal

from datastill.data._base import source
from datastill.ground import lookup
from datastill.ground.errors import ConfigError
from datastill.ground.lookup import public_name
from datastill.ground.machine import PrecisionName
from datastill.ground.options import Json, shortened
from datastill.methods._base import AbstractMethod
from datastill.networks._base import AbstractArchitecture
from datastill.protocols._base import Protocol
from datastill.recipes._scale import Scale
from datastill.train_target import TargetTraining

FOLDER = "datastill.recipes"
SMOKE_COUNT = 4  # distilled images
SMOKE_DATA = 2  # target data


@dataclass(frozen=True)
class Sets:
    """Distilled sets of one method and count; network seed n starts from set n modulo `number`."""

    method: AbstractMethod[Any]
    count: int | Literal["all"]
    number: int = 1
    network: AbstractArchitecture | None = None  # of the inner models; None: the recipe's


@dataclass(frozen=True)
class Recipe:
    """Source, target model, distilled sets, networks and protocols of one experiment.

    Raises:
        ConfigError: something needs a target model, and there is none.
    """

    name: str
    source: str
    image_size: int
    target: TargetTraining | None  # None: all sets are made without one
    network: AbstractArchitecture  # of the inner models
    sets: tuple[Sets, ...]
    data: tuple[str, ...]  # target data
    protocols: tuple[Protocol, ...]
    seeds: int  # networks per row
    networks: tuple[AbstractArchitecture, ...] = ()  # to be pre-trained; empty: `network`
    probe_every: int = 0  # outer steps between held-out probes; 0: none
    judge_target: bool = True  # whether the target model itself gets rows
    precision: PrecisionName = "float32"
    scale: Scale = "full"  # smoke: ten to thirty made images per split instead of the data sets

    def __post_init__(self) -> None:
        needing = [public_name(sets.method) for sets in self.sets if sets.method.needs_target]
        needing += ["judge_target"] * self.judge_target + ["probe_every"] * bool(self.probe_every)
        if self.target is None and needing:
            raise ConfigError(
                f"recipe {self.name} has no target model, which {', '.join(needing)} would need;"
                " give it a target, or leave them out"
            )


def named(name: str, scale: Scale = "full") -> Recipe:
    """The recipe in the file of that name; paper.table3-imagenet is in the folder paper.

    Raises:
        ConfigError: there is none, or not at this scale; the message has the nearest name.
    """
    lookup.check_name(name, lookup.names(FOLDER), kind="recipes")
    module = importlib.import_module(f"{FOLDER}.{name.replace('-', '_')}")
    if scale == "smoke":
        return smoke(module.recipe())
    recipe = getattr(module, "recipe" if scale == "full" else scale, None)
    if recipe is None:
        raise ConfigError(f"{name} has no scale {scale!r}; choose smoke or full")
    found: Recipe = recipe()
    return found


def smoke(recipe: Recipe) -> Recipe:
    """Every method, network and task in a few steps on made images: all works, no number counts.

    Of many target data the first two are taken: they differ in their readers only, and those have
    nothing to read here.
    """
    sets = tuple(
        replace(found, count=_smoke_count(found, recipe), number=1)
        for found in shortened(recipe.sets)
    )
    short = replace(shortened(recipe), sets=sets, data=recipe.data[:SMOKE_DATA])
    return replace(short, seeds=1, probe_every=0, scale="smoke")


def _smoke_count(sets: Sets, recipe: Recipe) -> int | Literal["all"]:
    if sets.count == "all":
        return "all"
    if sets.method.by_class:  # one image of each class
        return source(recipe.source).miniature("train", recipe.image_size).num_classes
    return SMOKE_COUNT


def describe(value: Any) -> Any:
    """Any nest of components as JSON, each with its public name."""
    if isinstance(value, tuple | list):
        return [describe(v) for v in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    fields: Json = {k: describe(v) for k, v in vars(value).items()}
    return {"kind": type(value).__name__, **fields}
