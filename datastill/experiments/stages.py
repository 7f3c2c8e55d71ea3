"""The stages of a recipe: target model, distilled sets, evaluations. Each has a folder of its own.

A stage reads the results of the stages that it depends on from their folders.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from datastill.core.lookup import public_name
from datastill.core.options import non_default
from datastill.experiments.recipe import DistillationSpec, Recipe
from datastill.networks.architecture import Architecture
from datastill.protocols.protocol import Protocol
from datastill.train_target import TargetTraining

TARGET, SETS, ROWS = "target", "sets/", "rows/"  # prefixes of the names of stages
SHARED = "shared"  # folder for what evaluations share, such as teachers


@dataclass(frozen=True)
class Stage:
    """A piece of work, whose results are in the folder of its name."""

    name: str
    depends_on: tuple[str, ...]


@dataclass(frozen=True)
class TargetStage(Stage):
    """Train the target model."""

    training: TargetTraining


@dataclass(frozen=True)
class DistillationStage(Stage):
    """Make one distilled set."""

    spec: DistillationSpec
    number: int  # which of the sets of this spec


@dataclass(frozen=True)
class EvaluationStage(Stage):
    """Evaluate one network by all tasks of a protocol on all target data.

    The network is pre-trained on set `number` of `spec`. Without a `spec` it is the target model
    (`of_target`) or an untrained network.
    """

    protocol: Protocol
    network: Architecture
    seed: int
    spec: DistillationSpec | None = None
    number: int = 0
    of_target: bool = False


def stages(recipe: Recipe) -> dict[str, Stage]:
    """Return all stages of a recipe by name, each after those that it depends on."""
    all_stages: list[Stage] = []
    after_target = () if recipe.target is None else (TARGET,)
    if recipe.target is not None:
        all_stages.append(TargetStage(TARGET, (), recipe.target))
    for spec in recipe.sets:
        if not spec.method.uses_full_source:  # a copy of the source is not kept
            for number in range(spec.number):
                name = set_name(spec, number)
                all_stages.append(DistillationStage(name, after_target, spec, number))
    for protocol in recipe.protocols:
        for seed in range(recipe.seeds):
            for stage in _evaluations(recipe, protocol, seed):
                all_stages.append(replace(stage, depends_on=(*after_target, *stage.depends_on)))
    return {stage.name: stage for stage in all_stages}


def _evaluations(recipe: Recipe, protocol: Protocol, seed: int) -> Iterator[EvaluationStage]:
    candidates = recipe.networks or (recipe.network,)
    for network in dict.fromkeys(protocol.network(recipe.image_size, n) for n in candidates):
        folder = folder_name(protocol.name, network_name(network), seed)
        yield EvaluationStage(f"{ROWS}scratch/{folder}", (), protocol, network, seed)
        for spec in recipe.sets:
            number = seed % spec.number
            distilled = set_name(spec, number)
            name = f"{ROWS}{distilled.removeprefix(SETS)}/{folder}"
            depends_on = () if spec.method.uses_full_source else (distilled,)
            yield EvaluationStage(name, depends_on, protocol, network, seed, spec, number)
    if recipe.judge_target and recipe.target is not None:
        name = f"{ROWS}target-model/{folder_name(protocol.name, seed)}"
        network = recipe.target.architecture
        yield EvaluationStage(name, (), protocol, network, seed, of_target=True)


def set_name(spec: DistillationSpec, number: int) -> str:
    """Return the name of the stage that makes a set, such as sets/krr-st-1000-0."""
    stored = non_default(spec.compression).values() if spec.compression else ()
    name = (public_name(spec.method), spec.method.variant, *stored, spec.count, number)
    return SETS + folder_name(*name)


def network_name(network: Architecture) -> str:
    """Return the name and what differs from the defaults, such as convnet-32-64-128."""
    return folder_name(public_name(network), *non_default(network).values())


def folder_name(*parts: object) -> str:
    """Join words and numbers to the name of a folder."""
    return re.sub(r"[^\w.]+", "-", "-".join(map(str, parts))).strip("-")
