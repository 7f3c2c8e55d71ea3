"""Flags become values: those of commands, of the components that they choose, of config.yaml."""

import importlib
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from datastill.cli import main
from datastill.cli.main import NAMES
from datastill.cli.shared_flags import saved
from datastill.core.errors import ConfigError
from datastill.core.progress import logger

DISTILL = "distill --data glyphs --out runs/a"
TARGET = "target --data glyphs --out targets/a"
TRANSFER = "transfer a --to digits"
CONFIGS = Path(__file__).parent / "configs"  # written by commit 41354f4


def parsed(line: str) -> Any:
    """All values of a command line."""
    command, *arguments = line.split(" ")
    module = importlib.import_module(f"datastill.cli.{command}")
    return module.make_parser(arguments).parse()


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        (f"{TARGET} --seed 3", "seed", 3),
        (f"{TARGET} --seed=3 --seed 4", "seed", 4),
        (f"{TARGET} --image_size 8", "image_size", 8),
        (f"{TARGET} --lr 1", "lr", 1.0),
        (f"{TARGET} --standardize --resume", "standardize", True),
        (f"{TARGET} --standardize false", "standardize", False),
        (f"{TARGET} --objective.projector none", "objective.projector", ()),
        (f"{TARGET} --views.jitter 0,.5,1e-1,0", "views.jitter", (0.0, 0.5, 0.1, 0.0)),
        (f"{TARGET} --network convnet:4", "network.widths", (4,)),
        (f"{DISTILL} --count all", "count", "all"),
        (f"{DISTILL} --count 7", "count", 7),
        (f"{DISTILL} --method.outer-steps 3", "method.outer_steps", 3),
        (f"{DISTILL} --network timm:hf-hub:me/mine", "network.model", "hf-hub:me/mine"),
        (f"{DISTILL} --network timm --network.model resnet18", "network.model", "resnet18"),
        (f"{DISTILL} --network.widths 4,8 --network convnet", "network.widths", (4, 8)),
        (f"{TRANSFER} --linear-probe.labels 1%,all", "linear_probe.labels", ("1%", "all")),
        (f"{TRANSFER} --task finetune,knn-probe", "task", ("finetune", "knn-probe")),
        (f"{TRANSFER},folder:b", "to", ("digits", "folder:b")),
        (f"{TRANSFER} --resume b --seeds 2", "origins", ["a", "b"]),
        ("run quick", "scale", "full"),
        ("list methods krr-st", "name", "krr-st"),
    ],
)  # fmt: skip
def test_parser__reads_values(line: str, key: str, value: object) -> None:
    values = parsed(line)
    for part in key.split("."):
        values = values[part]
    assert values == value and type(values) is type(value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{TARGET} --seed 1e3", "--seed 1e3: expected a whole number"),
        (f"{TARGET} --lr fast", "--lr fast: expected a number"),
        (f"{TARGET} --views.jitter 1,2", "--views.jitter 1,2: expected 4 numbers, separated by"),
        (f"{TARGET} --network convnet:4,x", "--network.widths 4,x: expected whole numbers, sep"),
        (f"{TARGET} --network :4,8", "there is no '' among the networks"),
        (f"{DISTILL} --count some", "--count some: expected a whole number or all"),
        (f"{TRANSFER} --task linear-probe:3", "did you mean 'linear-probe'?"),
        (f"{TARGET} --weights a --network timm --lr 1", "--lr is for training, and --weights"),
        (f"{TARGET} --weights a --network timm --objective byol", "--objective is for training"),
        (f"{TARGET} --weights a", "--weights is for --network timm:NAME, not for resnet18"),
        ("run a b", "'b' was not expected here; flags begin with two dashes"),
        ("run --recipe quick", "datastill run has no --recipe"),
    ],
)
def test_parser__refuses_in_one_sentence(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(line)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["target", "distill", "transfer"])
def test_config__of_an_earlier_version_is_taken_whole(command: str) -> None:
    file = CONFIGS / f"{command}.yaml"
    written, values = yaml.safe_load(file.read_text()), parsed(f"{command} --config {file} --out x")
    differing = {"out", "resume", "checkpoint_seconds", "profile", "config"}
    differing |= {"keep_networks", "weights"}  # later flags
    assert {k: v for k, v in plain(saved(values)).items() if k not in differing} == written


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, tuple) else value


def test_config__command_line_wins_and_another_component_voids_its_options() -> None:
    file = CONFIGS / "distill.yaml"
    values = parsed(f"distill --count 4 --config {file} --method dm --out x")
    assert values["count"] == 4 and values["limit"] == 64
    assert values["method"]["name"] == "dm" and "pool_size" not in values["method"]


def test_config__component_may_be_a_word(tmp_path: Path) -> None:
    values = yaml.safe_load((CONFIGS / "distill.yaml").read_text()) | {"method": "random-subset"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values))
    method = parsed(f"distill --config {tmp_path / 'own.yaml'} --out x")["method"]
    assert method == {"name": "random-subset", "targets": "representation", "balanced": False}


def test_config__positional_arguments_replace_those_of_the_file() -> None:
    values = parsed(f"transfer b --config {CONFIGS / 'transfer.yaml'} --task finetune")
    assert values["origins"] == ["b"] and values["task"] == ("finetune",)
    assert "finetune" in values and "linear_probe" not in values


def test_help__of_the_program_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in NAMES)


@pytest.mark.parametrize("command", NAMES)
def test_help__of_a_command_explains_every_flag(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    module = importlib.import_module(f"datastill.cli.{command}")
    parser = module.make_parser([])
    assert (
        text.startswith(f"usage: datastill {command}") and f"Example: datastill {command}" in text
    )
    assert not [word for word in ("None", "null", "Literal", "<", "()") if word in text]
    assert all(len(line) <= 100 for line in text.splitlines() if not line.startswith("Example"))
    for key, option in parser.options.items():
        shown = f"--{key}".replace("_", "-").removesuffix(".name") in text.replace("_", "-")
        assert (shown or key in parser.positionals) == (key != "resolved"), key
        assert option.help or key == "resolved"


def test_main__command_that_shares_no_work_refuses_torchrun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["run", "quick", "--out", str(tmp_path / "run")]) == 2
    assert "run does not share its work among 2 ranks" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


DISTILL_DIGITS = "distill --data digits --method random-subset --method.targets class-label"


@pytest.mark.parametrize(("flag", "shown"), [("--quiet", False), ("--verbose", True)])
def test_verbosity__is_a_flag_of_every_command(
    flag: str, shown: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*DISTILL_DIGITS.split(), "--count", "4", "--limit", "20", "--out", str(tmp_path / "x")]
    assert main([*words, flag]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path}/x/distilled.safetensors\n"
    assert ("4 distilled images" in captured.err) == shown and (captured.err != "") == shown
    assert logger.level == logging.INFO


def test_help__shows_the_options_of_the_chosen_components(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        main(["distill", "--help", "--method", "random-subset", "--network", "timm:resnet18"]) == 0
    )
    text = capsys.readouterr().out
    assert "--method.targets" in text and "--network.model" in text
    assert main(["transfer", "--task", "finetune", "--help"]) == 0
    assert "--finetune.steps" in capsys.readouterr().out
    assert main(["distill", "--method", "krr", "--help"]) == 2
    assert "did you mean 'krr-st'" in capsys.readouterr().err
