"""Words of a command line and a config file become keys and texts, and other words."""

from pathlib import Path

import pytest

from datastill.command.words import Said, flag_of, said
from datastill.flags import VERBS


@pytest.mark.parametrize(
    ("line", "flags", "loose"),
    [
        ("target --seed 3", {"seed": "3"}, []),
        ("target --seed=3", {"seed": "3"}, []),
        ("target --seed -3", {"seed": "-3"}, []),
        ("target --seed 3 --seed 4", {"seed": "4"}, []),
        ("target --data-root x --image_size 8", {"data_root": "x", "image_size": "8"}, []),
        ("target --network convnet", {"network.name": "convnet"}, []),
        ("target --network.name=convnet", {"network.name": "convnet"}, []),
        ("distill --method.outer-steps 3", {"method.outer_steps": "3"}, []),
        ("distill --method.stale_pool --resume", {"method.stale_pool": None, "resume": None}, []),
        ("distill --resume false", {"resume": "false"}, []),
        ("transfer --linear-probe.labels 1%,all", {"linear_probe.labels": "1%,all"}, []),
        ("transfer a --resume b --to c", {"resume": None, "to": "c"}, ["a", "b"]),
        ("list methods krr-st", {}, ["methods", "krr-st"]),
        ("target --out=", {"out": ""}, []),
    ],
)
def test_said__words(line: str, flags: dict[str, str | None], loose: list[str]) -> None:
    verb, *words = line.split()
    assert said(VERBS[verb], words) == Said(flags, loose)


def test_said__config_file(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("{data: a, limit: null, to: [b, c], method: {name: m, flip: false, x-y: 1.0}}")
    flags = said(VERBS["distill"], ["--config", str(file), "--data", "d"]).flags
    assert flags == {
        "data": "d",
        "to": '["b", "c"]',
        "method.name": "m",
        "method.flip": "false",
        "method.x_y": "1.0",
    }


def test_said__words_without_a_flag_replace_those_of_the_config_file(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("{origins: [a, b=c], seeds: 1}")
    assert said(VERBS["transfer"], ["--config", str(file)]).loose == ["a", "b=c"]
    assert said(VERBS["transfer"], ["--config", str(file), "d"]).loose == ["d"]


@pytest.mark.parametrize("key", ["data_root", "method.name", "method.outer_steps", "a_b.c_d"])
def test_flag_of__is_understood_again(key: str) -> None:
    assert said(VERBS["distill"], [flag_of(key), "x"]).flags == {key: "x"}
