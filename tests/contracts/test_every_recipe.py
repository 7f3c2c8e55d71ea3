"""The contract of every file in datastill/recipes."""

import json

import pytest

from datastill.core.errors import ConfigError
from datastill.core.lookup import names
from datastill.data.source import source
from datastill.experiments.recipe import describe, get_recipe
from datastill.experiments.stages import stages

NAMES = names("datastill.recipes")
every_recipe = pytest.mark.parametrize("name", NAMES)


@every_recipe
def test_every_recipe__is_called_as_its_file_and_can_be_written_down(name: str) -> None:
    assert get_recipe(name).name == name
    assert json.loads(json.dumps(describe(get_recipe(name))))["kind"] == "Recipe"


@every_recipe
def test_every_recipe__needs_only_data_that_exist_and_networks_that_take_them(name: str) -> None:
    recipe = get_recipe(name)
    for data in (recipe.source, *recipe.data):
        assert source(data).size(recipe.image_size) == recipe.image_size
    inner = [sets.network for sets in recipe.sets if sets.network is not None]
    targets = [] if recipe.target is None else [recipe.target.architecture]
    for network in (recipe.network, *recipe.networks, *inner, *targets):
        network.check(recipe.image_size)


@every_recipe
def test_every_recipe__stages_come_after_those_that_they_depend_on(name: str) -> None:
    seen: set[str] = set()
    for stage in stages(get_recipe(name)).values():
        assert seen.issuperset(stage.depends_on)
        seen.add(stage.name)


@every_recipe
def test_every_recipe__has_a_row_of_each_origin_network_protocol_and_seed(name: str) -> None:
    recipe = get_recipe(name)
    size, candidates = recipe.image_size, recipe.networks or (recipe.network,)
    networks = sum(len({p.network(size, n) for n in candidates}) for p in recipe.protocols)
    judged = len(recipe.protocols) if recipe.judge_target else 0
    rows = [name for name in stages(recipe) if name.startswith("rows/")]
    assert len(rows) == recipe.seeds * (networks * (1 + len(recipe.sets)) + judged)


@every_recipe
def test_every_recipe__smoke_scale_differs_in_lengths_alone(name: str) -> None:
    full, short = get_recipe(name), get_recipe(name, "smoke")
    kept = ("name", "source", "image_size", "network", "networks", "judge_target")
    assert all(getattr(short, field) == getattr(full, field) for field in kept)
    assert short.data == full.data[:2]
    assert [s.method.variant for s in short.sets] == [s.method.variant for s in full.sets]
    if short.target is not None and full.target is not None:
        assert short.target.architecture == full.target.architecture
    assert (short.target is None) == (full.target is None)
    assert (short.scale, short.seeds) == ("smoke", 1)
    tasks = [[type(task) for task in p.tasks] for p in short.protocols]
    assert tasks == [[type(task) for task in p.tasks] for p in full.protocols]


@every_recipe
def test_every_recipe__sets_of_one_table_have_different_names(name: str) -> None:
    recipe = get_recipe(name)
    distilled = [name for name in stages(recipe) if name.startswith("sets/")]
    assert len(distilled) == sum(x.number for x in recipe.sets if not x.method.uses_full_source)


def test_named__scale_that_a_recipe_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="quick has no scale 'small'; choose smoke or full"):
        get_recipe("quick", "small")
