"""The rows of the paper's tables: which methods each has, and that none comes by accident."""

import pytest

from datastill.core.lookup import public_name
from datastill.experiments.recipe import get_recipe

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
    methods = [public_name(sets.method) for sets in get_recipe(name).sets]
    controls = [method for method in methods if method == "random-subset"]
    assert set(methods) - {"random-subset"} == set(TABLES[name].split()) - {"random"}
    assert len(controls) == 2 and methods[-1] == "krr-st"


@every_table
def test_table__all_sets_have_its_count(name: str) -> None:
    assert len({sets.count for sets in get_recipe(name).sets}) == 1
