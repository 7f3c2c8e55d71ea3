"""From public names to components."""

import pytest

from datastill.core.errors import ConfigError
from datastill.core.lookup import check_name, find, names, public_name
from datastill.methods.krr_st import KRRST

FOLDERS = ["data", "methods", "networks", "objectives", "transfer"]


def test_names__are_the_files_without_underscore() -> None:
    compared = "dc dm dsa frepo full-source herding high-loss k-means kip"
    listed = f"{compared} krr-st label-solve mkdt mtt random-subset"
    assert names("datastill.methods") == listed.split()


def test_find__gives_the_class_in_the_file() -> None:
    assert find("datastill.methods", "krr-st") is KRRST


@pytest.mark.parametrize("folder", FOLDERS)
def test_find__knows_every_name(folder: str) -> None:
    components = {name: find(f"datastill.{folder}", name) for name in names(f"datastill.{folder}")}
    assert all(public_name(component) == name for name, component in components.items())


def test_find__wrong_name_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(
        ConfigError,
        match=r"no 'krrst' among the methods; did you mean 'krr-st'.*full-source, .*krr-st, .*mtt",
    ):
        find("datastill.methods", "krrst")


def test_check_name__strange_name_is_answered_with_all() -> None:
    with pytest.raises(ConfigError, match=r"no 'xyz' among the tasks\. Choose one of: finetune"):
        check_name("xyz", ["finetune"], kind="tasks")


def test_public_name__of_class_and_object() -> None:
    assert public_name(KRRST) == public_name(KRRST()) == "krr-st"
