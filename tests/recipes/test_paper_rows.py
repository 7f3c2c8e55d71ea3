"""The rows of the paper's tables: which methods each has, and that none comes by accident."""

import pytest

from datastill.core.lookup import public_name
from datastill.experiments.recipe import get_recipe
from datastill.recipes.paper import _shared

TABLES = {
    "paper.table1-cifar100": "random k-means dsa dm mtt kip frepo krr-st",
    "paper.table2-tinyimagenet": "random k-means dsa dm mtt frepo krr-st",
    "paper.table3-imagenet": "random frepo krr-st",
    "paper.table4-data-free-kd": "random k-means dsa dm mtt frepo krr-st",
    "paper.figure3-architectures": "random k-means dsa dm mtt frepo krr-st",
}
every_table = pytest.mark.parametrize("name", TABLES)


@every_table
def test_table__has_the_methods_of_the_paper_s(name: str) -> None:
    found = [public_name(sets.method) for sets in get_recipe(name).sets]
    controls = [method for method in found if method == "random-subset"]
    assert set(found) - {"random-subset"} == set(TABLES[name].split()) - {"random"}
    assert len(controls) == 2 and found[-1] == "krr-st"


@every_table
def test_table__all_sets_have_its_count(name: str) -> None:
    assert len({sets.count for sets in get_recipe(name).sets}) == 1


def test_tables__are_those_of_the_paper() -> None:
    assert " ".join(_shared.TABLE_1) == TABLES["paper.table1-cifar100"]
    assert " ".join(_shared.TABLE_2) == TABLES["paper.table2-tinyimagenet"]
    assert " ".join(_shared.TABLE_3) == TABLES["paper.table3-imagenet"]


def test_sets__table_without_a_method_has_no_row_of_it() -> None:
    found = _shared.sets(("random",), 8, outer_lr=1e-3)
    assert [sets.method.variant for sets in found] == ["targets=class-label", ""]
