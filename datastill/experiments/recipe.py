"""A recipe: a whole experiment as one value. `stages` lists its stages, `runner` runs them."""

import importlib
from dataclasses import dataclass, replace
from typing import Any, Literal

from datastill.core import lookup
from datastill.core.errors import ConfigError
from datastill.core.lookup import public_name
from datastill.core.machine import PrecisionName
from datastill.core.options import Json, with_smoke_values
from datastill.data.source import source
from datastill.experiments.scale import Scale
from datastill.methods.method import Method
from datastill.networks.architecture import Architecture
from datastill.protocols.protocol import Protocol
from datastill.stored_form.compression import Compression
from datastill.train_target import TargetTraining

FOLDER = "datastill.recipes"
SAVED_NAMES = {"DistillationSpec": "Sets"}  # in each config.yaml: an older run must resume
SMOKE_COUNT = 4  # distilled images
SMOKE_DATA = 2  # target data


@dataclass(frozen=True)
class DistillationSpec:
    """Distilled sets of one method and size.

    Args:
        method: The method that makes the sets.
        count: Distilled images per set; "all": as many as the source has.
        number: Sets, with seeds 0, 1, ...; a network of seed n is trained on set n modulo `number`.
        network: Architecture of the inner models; None: that of the recipe.
        compression: How finished sets are stored; None: in float32.
    """

    method: Method[Any]
    count: int | Literal["all"]
    number: int = 1
    network: Architecture | None = None
    compression: Compression | None = None


@dataclass(frozen=True)
class Recipe:
    """One experiment: source, target model, distilled sets, networks and protocols.

    Args:
        name: Name of the recipe.
        source: Name of the data set that is distilled.
        image_size: Pixels on a side, of all images.
        target: Training of the target model; None: no method needs one.
        network: Architecture of the inner models.
        sets: The sets that are distilled or selected.
        data: Names of the target data.
        protocols: How the sets are evaluated.
        seeds: Networks per row.
        networks: Architectures that are pre-trained on the sets; empty: `network`.
        probe_every: Outer steps between held-out probes of sets that are not coded; 0: none.
        judge_target: Evaluate the target model itself, too.
        precision: Number format in which networks compute.
        scale: "smoke": ten to thirty synthetic images per split instead of the data sets.

    Raises:
        ConfigError: Something needs a target model, and there is none.

    Example:
        >>> from datastill.experiments.recipe import get_recipe
        >>> recipe = get_recipe("quick")
        >>> recipe.source, recipe.data, [spec.count for spec in recipe.sets]
        ('glyphs', ('digits',), [50, 50, 107, 107, 'all'])
    """

    name: str
    source: str
    image_size: int
    target: TargetTraining | None
    network: Architecture
    sets: tuple[DistillationSpec, ...]
    data: tuple[str, ...]
    protocols: tuple[Protocol, ...]
    seeds: int
    networks: tuple[Architecture, ...] = ()
    probe_every: int = 0
    judge_target: bool = True
    precision: PrecisionName = "float32"
    scale: Scale = "full"

    def __post_init__(self) -> None:
        needing = [public_name(spec.method) for spec in self.sets if spec.method.needs_target]
        needing += ["judge_target"] * self.judge_target + ["probe_every"] * bool(self.probe_every)
        if self.target is None and needing:
            raise ConfigError(
                f"recipe {self.name} has no target model, which {', '.join(needing)} would need;"
                " give it a target, or leave them out"
            )


def get_recipe(name: str, scale: Scale = "full") -> Recipe:
    """Return the recipe of that name; paper.table3-imagenet is in the folder `recipes/paper`.

    Raises:
        ConfigError: There is none, or not at this scale; the message has the nearest name.
    """
    lookup.check_name(name, lookup.names(FOLDER), kind="recipes")
    module = importlib.import_module(f"{FOLDER}.{name.replace('-', '_')}")
    if scale == "smoke":
        return smoke(module.recipe())
    make_recipe = getattr(module, "recipe" if scale == "full" else scale, None)
    if make_recipe is None:
        raise ConfigError(f"{name} has no scale {scale!r}; choose smoke or full")
    recipe: Recipe = make_recipe()
    return recipe


def smoke(recipe: Recipe) -> Recipe:
    """Shorten a recipe to a test that everything works: a few steps on synthetic images.

    All methods, networks and tasks stay, and the first two target data. The results are
    meaningless.
    """
    sets = tuple(
        replace(spec, count=_smoke_count(spec, recipe), number=1)
        for spec in with_smoke_values(recipe.sets)
    )
    short = replace(with_smoke_values(recipe), sets=sets, data=recipe.data[:SMOKE_DATA])
    return replace(short, seeds=1, probe_every=0, scale="smoke")


def _smoke_count(spec: DistillationSpec, recipe: Recipe) -> int | Literal["all"]:
    if spec.count == "all":
        return "all"
    if spec.method.by_class:  # one image of each class
        return source(recipe.source).miniature("train", recipe.image_size).num_classes
    return SMOKE_COUNT


def describe(value: Any) -> Any:
    """Return nested components as JSON, each with the name of its class."""
    if isinstance(value, tuple | list):
        return [describe(v) for v in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    name = type(value).__name__
    values = {k: v for k, v in vars(value).items() if (k, v) != ("compression", None)}  # likewise
    fields: Json = {k: describe(v) for k, v in values.items()}
    return {"kind": SAVED_NAMES.get(name, name), **fields}
