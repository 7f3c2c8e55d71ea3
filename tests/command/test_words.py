"""Words of a command line and a config file become keys and texts."""

from pathlib import Path

import pytest

from datastill.command.words import BARE, flag_of, said
from datastill.flags import VERBS
from datastill.ground.errors import ConfigError


def spoken(line: str) -> dict[str, str]:
    verb, *words = line.split()
    return said(VERBS[verb], words)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("target --seed 3", {"seed": "3"}),
        ("target --seed=3", {"seed": "3"}),
        ("target --seed -3", {"seed": "-3"}),
        ("target --seed 3 --seed 4", {"seed": "4"}),
        ("target --data-root x --image_size 8", {"data_root": "x", "image_size": "8"}),
        ("target --network convnet", {"network.name": "convnet"}),
        ("target --network.name=convnet", {"network.name": "convnet"}),
        ("distill --method.outer-steps 3", {"method.outer_steps": "3"}),
        ("distill --method.stale_pool --resume", {"method.stale_pool": BARE, "resume": BARE}),
        ("distill --resume false", {"resume": "false"}),
        ("transfer --linear-probe.labels 1%,all", {"linear_probe.labels": "1%,all"}),
        ("transfer a --resume b --to c", {"resume": BARE, "to": "c", "origins": '["a", "b"]'}),
        ("list methods krr-st", {"kind": "methods", "name": "krr-st"}),
        ("target --out=", {"out": ""}),
    ],
)
def test_said__words(line: str, expected: dict[str, str]) -> None:
    assert spoken(line) == expected


def test_said__too_many_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="'b' was not expected here"):
        spoken("run a b")


def test_said__config_file(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("{data: a, limit: null, to: [b, c], method: {name: m, flip: false, x-y: 1.0}}")
    assert said(VERBS["distill"], ["--config", str(file), "--data", "d"]) == {
        "data": "d",
        "to": '["b", "c"]',
        "method.name": "m",
        "method.flip": "false",
        "method.x_y": "1.0",
    }


@pytest.mark.parametrize("key", ["data_root", "method.name", "method.outer_steps", "a_b.c_d"])
def test_flag_of__is_understood_again(key: str) -> None:
    assert said(VERBS["distill"], [flag_of(key), "x"]) == {key: "x"}
