"""What is read from the text of a module equals what the imported class says."""

import pytest

from datastill.augment.views import TwoViews
from datastill.ground.lookup import find, names
from datastill.ground.options import options
from datastill.ground.outline import class_constant, outline, summary

FOLDERS = ("data", "methods", "networks", "objectives", "transfer")
COMPONENTS = [
    (f"datastill.{folder}", n) for folder in FOLDERS for n in names(f"datastill.{folder}")
]


def module_of(folder: str, name: str) -> str:
    return f"{folder}.{name.replace('-', '_')}"


@pytest.mark.parametrize(("folder", "name"), COMPONENTS)
def test_outline__equals_the_options_of_the_class(folder: str, name: str) -> None:
    assert outline(module_of(folder, name)) == options(find(folder, name))


def test_outline__knows_the_options_of_views() -> None:
    assert outline("datastill.augment.views") == options(TwoViews)


@pytest.mark.parametrize(("folder", "name"), COMPONENTS)
def test_summary__is_a_sentence(folder: str, name: str) -> None:
    assert len(summary(module_of(folder, name))) > 20


@pytest.mark.parametrize("name", names("datastill.data"))
def test_class_constant__equals_that_of_the_class(name: str) -> None:
    expected = find("datastill.data", name).licence
    assert class_constant(module_of("datastill.data", name), "licence") == expected
