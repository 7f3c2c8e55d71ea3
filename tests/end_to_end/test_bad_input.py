"""Bad input: exit code 2, one message that says what to do, no traceback, nothing written."""

import shutil
from pathlib import Path

import pytest
import torch
from commands import TARGET, Command, Outcome, draw_photos

DISTILL = "distill --data folder:{photos} --target {runs}/target --count 5 --out {out} "
TRAIN = "target --data folder:{photos} --image-size 16 --steps 2 --batch 16 --out {out} "
TRANSFER = "transfer {runs}/set --to folder:{photos} --seeds 1 --out {out} "

MKDT = TRANSFER + "--protocol mkdt "

WRONG = {
    # names
    "command": ("distil --data glyphs", "did you mean 'distill'?"),
    "flag": (TRAIN + "--epoch 3", "target has no --epoch; did you mean --epochs?"),
    "flag without its group": (DISTILL + "--outer_steps 3", "did you mean --method.outer_steps?"),
    "flag of another command": (TRAIN + "--count 3", "target has no --count"),
    "option": (DISTILL + "--method.outer_stps 3", "did you mean --method.outer_steps?"),
    "data": ("target --data cifr10 --out {out}", "did you mean 'cifar10'?"),
    "folder as data": ("target --data {photos} --image-size 8 --out {out}", "write folder:"),
    "data with a path": ("target --data glyphs:x --out {out}", "takes nothing after a colon"),
    "method": (DISTILL + "--method krrst", "did you mean 'krr-st'?"),
    "network": (DISTILL + "--network conv", "did you mean 'convnet'?"),
    "network and its option": (DISTILL + "--network convnet:x", "--network.widths x: expected"),
    "network for larger images": (DISTILL + "--network vgg11", "at least 32 pixels, got 16"),
    "width of mobilenet": (DISTILL + "--network mobilenet:6", "must be a multiple of 4, got 6"),
    "objective": (TRAIN + "--objective barlow", "did you mean 'barlow-twins'?"),
    "task": (TRANSFER + "--task linear", "did you mean 'linear-probe'?"),
    "task not chosen": (TRANSFER + "--finetune.steps 3", "needs finetune among the names"),
    "network not chosen": (TRANSFER + "--network.widths 4,8", "needs --network NAME beside it"),
    "target data": ("transfer scratch --to digitz --out {out}", "did you mean 'digits'?"),
    "recipe": ("run quik --out {out}", "did you mean 'quick'?"),
    "kind": ("list method", "did you mean 'methods'?"),
    "action": ("data checked digits", "among the actions; did you mean 'check'?"),
    "component": ("list methods krr", "did you mean 'krr-st'?"),
    "optimizer": (TRAIN + "--optimizer adam", "expected adamw, sgd or lars; did you mean adamw?"),
    "device": (TRAIN + "--device gpu", "choose auto, cpu, cuda or cuda:NUMBER"),
    "word": (TRAIN + "fast", "'fast' was not expected here"),
    "number out of bounds": (TRAIN + "--limit 0", "--limit 0: expected at least 1"),
    "part of a number": (DISTILL + "--method.outer_steps 2.5", "2.5: expected a whole number"),
    "neither true nor false": (TRAIN + "--standardize maybe", "maybe: expected true or false"),
    # something is missing
    "no data": ("target --out {out}", "--data is missing; for example: datastill target --data"),
    "no out": ("target --data folder:{photos}", "--out is missing; for example: datastill target"),
    "no recipe": ("run", "recipe is missing; for example: datastill run quick"),
    "no value": (TRAIN + "--seed", "--seed needs a value"),
    "no value before a flag": ("target --data --out {out}", "--data needs a value"),
    "no image size": ("target --data folder:{photos} --out {out}", "needs --image-size"),
    "no target": (DISTILL.replace("--target {runs}/target", "--image-size 16"), "--target DIR"),
    "no target for held-out": (TRANSFER + "--held-out glyphs", "pass its folder as --target"),
    "no folder": ("target --data folder:{photos}/none --image-size 8 --out {out}", "no folder"),
    "no path": ("target --data folder --image-size 8 --out {out}", "Write folder:PATH"),
    "no artefact": ("transfer {runs}/none --to digits --out {out}", "there is no "),
    "no report folder": ("report {runs}/none --out {out}", "there is no folder"),
    "no data root": ("target --data cifar10 --data-root {runs}/none --out {out}", "does not exist"),
    "no config": ("target --config {runs}/none.yaml --out {out}", "cannot be read"),
    "no test images": (DISTILL.replace("{photos}", "{photos}/cat") + "--probe-every 2", "no test "),
    # what does not fit
    "count above the source": (DISTILL + "--count 49", "which has 48; choose --count from 1 to 48"),
    "full source with a count": (DISTILL + "--method full-source", "pass --count all"),
    "few images": (TRAIN + "--batch 99", "less than one batch of 99; lower --batch"),
    "image size of the target": (DISTILL + "--image-size 8", "pass --image-size 16"),
    "channels of the target": (DISTILL.replace("folder:{photos}", "digits"), "made for 3 channels"),
    "channels of the target data": (TRANSFER.replace("folder:{photos}", "digits"), "of 1;"),
    "image sizes of origins": (TRANSFER + "--image-size 8", "image sizes differ"),
    "no labels": ("transfer scratch --to glyphs --image-size 16 --out {out}", "has no labels"),
    "class without images": (TRANSFER + "--linear-probe.labels 99-per-class", "fewer than the 99"),
    "no labels for the objective": ("target --data glyphs --objective supervised --out {out}",
                                    "supervised objective needs labels"),
    "labels": (TRANSFER + "--linear-probe.labels some", "expected all, a share"),
    "set as target": (DISTILL.replace("{runs}/target", "{runs}/set/distilled.safetensors"),
                      "is a distilled set, where a target model is needed"),
    "set folder as target": (DISTILL.replace("{runs}/target", "{runs}/set"), "target.safetensors"),
    "pictures as artefact": ("transfer {photos} --to digits --out {out}", "distilled.safetensors"),
    "picture as artefact": ("show {photos}/cat/0.png", "no safetensors file"),
    "folder without artefact": ("show {photos}", "neither distilled.safetensors nor"),
    "small images": (TRAIN + "--image-size 4", "needs images of at least 8 pixels"),
    "scratch without a place": ("transfer scratch --to digits", "--out is missing"),
    # protocols
    "protocol": (TRANSFER + "--protocol mkd", "did you mean 'mkdt'?"),
    "epochs of a protocol": (MKDT + "--pretrain-epochs 0", "expected at least 1"),
    "epochs without numbers": (MKDT + "--pretrain-epochs 20,x", "whole numbers, separated by"),
    "sweep without a protocol": (TRANSFER + "--pretrain-epochs 20,100", "pass --protocol too"),
    "epochs and steps": (TRANSFER + "--pretrain-epochs 20 --pretrain-steps 5", "leave one of them"),
    "task of a protocol": (MKDT + "--task finetune", "--task contradicts --protocol mkdt"),
    "default task": (MKDT + "--task linear-probe", "--task contradicts --protocol mkdt, which fix"),
    "network of a protocol": (MKDT + "--network convnet", "--network contradicts --protocol"),
    "its option": (MKDT + "--network.widths 4,8", "--network.widths contradicts --protocol mkdt"),
    "steps of a protocol": (MKDT + "--pretrain-steps 3", "--pretrain-steps contradicts --protocol"),
    "option of its task": (MKDT + "--linear-probe.l2 1", "--linear-probe.l2 contradicts --protoc"),
    "option of another task": (MKDT + "--data-free-kd.epochs 3", "--data-free-kd.epochs contradic"),
    "target model without images": ("transfer {runs}/target --to folder:{photos} --out {out} "
                                    "--task data-free-kd", "give distilled sets, or scratch"),
    "report without rows": ("report {photos} --out {out}", "rows.jsonl"),
}  # fmt: skip


@pytest.fixture
def places(tmp_path: Path, photos: Path, runs: Path) -> dict[str, Path]:
    return {"photos": photos, "runs": runs, "out": tmp_path / "out"}


def assert_refused(outcome: Outcome, expected: str) -> None:
    messages = [x for x in outcome.err.splitlines() if x.startswith("datastill: error: ")]
    assert outcome.code == 2 and expected in outcome.err, outcome.err
    assert len(messages) == 1 and "Traceback" not in outcome.err and not outcome.out


@pytest.mark.parametrize(("words", "expected"), WRONG.values(), ids=WRONG)
def test_cli__refuses(
    words: str, expected: str, datastill: Command, places: dict[str, Path]
) -> None:
    assert_refused(datastill(*words.format(**places).split()), expected)
    assert not places["out"].exists()


NUMBERS = {  # of each dataclass of options, and of each kind of value
    TRAIN: [
        "--image-size 0", "--batch 1", "--batch x", "--lr 0", "--lr nan", "--lr .inf", "--seed -1",
        "--checkpoint-seconds -1", "--steps 1.5", "--network.width 0", "--objective.scale 0",
        "--network convnet --network.widths 0,4", "--network convnet --network.widths 4,8,8,8,8,8",
        "--objective.projector 0", "--views.flip 2", "--views.jitter .nan,0,0,0",
    ],
    DISTILL: [
        "--count 0", "--count some", "--probe-every -1", "--method.outer_lr 0",
        "--method.inner_momentum 1", "--method.flip perhaps", "--method.pixel_space grey",
    ],
    TRANSFER: [
        "--seeds 0", "--pretrain-epochs -1", "--linear-probe.l2 0",
        "--task finetune --finetune.lr .inf", "--task knn-probe --knn-probe.k 0",
        "--task data-free-kd --data-free-kd.batch_norm sync",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "number"), [(command, n) for command, numbers in NUMBERS.items() for n in numbers]
)
def test_cli__refuses_a_number_that_makes_no_sense(
    command: str, number: str, datastill: Command, places: dict[str, Path]
) -> None:
    option = number.split()[-2].lstrip("-").replace("-", "_").rpartition(".")[2]
    outcome = datastill(*command.format(**places).split(), *number.split())
    assert_refused(outcome, "")
    assert option in outcome.err.replace("-", "_") and not places["out"].exists()


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_cli__converts_grey_and_transparent_images_and_says_so_every_time(
    mode: str, datastill: Command, tmp_path: Path
) -> None:
    photos = draw_photos(tmp_path / "photos", mode=mode)
    words = ("target", "--data", f"folder:{photos}", *TARGET)
    first = datastill(*words, "--out", tmp_path / "first")
    again = datastill(*words, "--out", tmp_path / "again")
    assert (first.code, again.code) == (0, 0)
    assert [run.err.count("were converted") for run in (first, again)] == [1, 1]


def test_cli__refuses_an_out_folder_with_another_run(
    datastill: Command, places: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(places["runs"] / "target", places["out"])
    before = {file.name: file.read_bytes() for file in places["out"].iterdir()}
    words = TRAIN.format(**places).split()
    assert_refused(datastill(*words), "has a run in it; pass --resume to continue it")
    assert_refused(datastill(*words, "--resume"), "differs in steps: 3, now 2")
    assert {file.name: file.read_bytes() for file in places["out"].iterdir()} == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stps: 3", "did you mean --steps?"),
        ("network: {name: resnet18, widths: [3, 4]}", "no --network.widths"),
        ("network: resnet", "did you mean 'resnet18'?"),
        ("epochs: many", "--epochs many: expected a whole number"),
        ("- 3", "does not hold flags"),
        ("a: [", "cannot be read"),
    ],
)
def test_cli__refuses_a_wrong_config_file(
    text: str, expected: str, datastill: Command, places: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    words = [*TRAIN.format(**places).split(), "--config", tmp_path / "wrong.yaml"]
    assert_refused(datastill(*words), expected)


def test_cli__refuses_cuda_where_there_is_none(
    datastill: Command, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = TRAIN.format(**places).split()
    assert_refused(datastill(*words, "--device", "cuda"), "PyTorch sees no CUDA device")
