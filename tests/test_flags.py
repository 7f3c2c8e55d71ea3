"""The driver flags are frozen: scripts of others use them. Add here what you add there."""

import typing

import pytest

from datastill.flags import NAMED_IN, VERBS
from datastill.ground.lookup import names
from datastill.ground.options import check_bounds, options

COMMON = ["device", "out", "resume", "checkpoint_seconds"]
FLAGS = {
    "run": [
        "recipe", "data_root", "to", "precision", "scale", "seed", "workers", "ray",
        "reuse", *COMMON, "resolved",
    ],
    "estimate": ["recipe", "scale", "device", "workers", "count_only"],
    "target": [
        "data", "data_root", "image_size", "limit", "outputs", "optimizer", "lr", "weight_decay",
        "warmup", "batch", "epochs", "steps", "standardize", "monitor_every", "seed", "precision",
        *COMMON, "profile",
    ],
    "distill": [
        "data", "data_root", "image_size", "limit", "target", "count", "probe_every", "seed",
        "precision", *COMMON, "profile",
    ],
    "transfer": [
        "origins", "to", "task", "protocol", "data_root", "seeds", "pretrain_steps",
        "pretrain_epochs", "held_out", "target", "image_size", "precision", *COMMON,
    ],
    "convert": [
        "path", "data", "data_root", "source", "method", "mean", "std", "pixel_space",
        "target_kind", "num_classes", "target", "device", "out",
    ],
    "report": ["folders", "out", "format"],
    "show": ["file"],
    "list": ["kind", "name"],
    "data": ["action", "data", "data_root", "image_size", "sheet"],
}  # fmt: skip
COMPONENTS = {
    "target": {"network": "resnet18", "objective": "barlow-twins"},
    "distill": {"method": "krr-st", "network": ""},
    "transfer": {"network": ""},
    "convert": {"format": ""},
}


def test_flags__verbs_are_frozen() -> None:
    assert list(VERBS) == list(FLAGS)


@pytest.mark.parametrize("verb", FLAGS)
def test_flags__driver_flags_are_frozen(verb: str) -> None:
    assert sorted(o.name for o in options(VERBS[verb].flags)) == sorted(FLAGS[verb])


@pytest.mark.parametrize("verb", FLAGS)
def test_flags__components_are_frozen(verb: str) -> None:
    found = {component.flag: component.default for component in VERBS[verb].components}
    assert found == COMPONENTS.get(verb, {})


@pytest.mark.parametrize("verb", FLAGS)
def test_flags__defaults_are_within_their_bounds(verb: str) -> None:
    required = {"action": "check"} if verb == "data" else {}
    check_bounds(VERBS[verb].flags(**required))


def test_flags__formats_of_the_report_are_frozen() -> None:
    hints = typing.get_type_hints(VERBS["report"].flags)
    assert typing.get_args(hints["format"]) == ("md", "csv", "tex")


@pytest.mark.parametrize("folder", sorted(set(NAMED_IN.values())))
def test_flags__named_folders_have_names(folder: str) -> None:
    assert names(folder)
