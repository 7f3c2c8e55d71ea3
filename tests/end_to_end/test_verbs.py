"""What the verbs print: list, show, data, transfer."""

from pathlib import Path

import pytest
import yaml
from archives import write_archive
from commands import METHOD, NETWORK, TARGET, Command
from PIL import Image

from datastill.cli import main
from datastill.cli.list import PACKAGES
from datastill.core import checkpoint
from datastill.core.lookup import names
from datastill.distilled_set import DistilledSet


@pytest.fixture
def random_set(photos: Path, tmp_path: Path) -> Path:
    words = ["distill", "--data", f"folder:{photos}", "--image-size", "16", "--count", "4"]
    words += ["--method", "random-subset", "--method.targets", "class-label", *NETWORK]
    assert main([*words, "--out", str(tmp_path / "set")]) == 0
    return tmp_path / "set"


def test_list__without_a_kind_names_everything(datastill: Command) -> None:
    text = datastill("list").out
    for folder in PACKAGES.values():
        assert all(f"\n  {name} " in text for name in names(folder))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("methods krr-st", ["--method.outer_steps N", "default: 160000"]),
        ("recipes quick", ["  image_size: 16\n"]),
        ("protocols mkdt", ["weight_decay: 0.0001", "5%-at-random"]),
        *((f"data {name}", ["  licence: ", "  citation: "]) for name in names("datastill.data")),
    ],
)
def test_list__shows_all_about_one(words: str, shown: list[str], datastill: Command) -> None:
    text = datastill("list", *words.split()).out
    assert all(part in text for part in shown)


def test_show__distilled_set(datastill: Command, random_set: Path) -> None:
    facts = yaml.safe_load(datastill("show", random_set).out)
    assert facts["images"] == [4, 3, 16, 16] and facts["target_kind"] == "hard-label"


def test_distill__codes_a_set_whose_targets_are_solved_learned_and_solved_again(
    datastill: Command, photos: Path, runs: Path, tmp_path: Path
) -> None:
    common = ["--data", f"folder:{photos}", "--target", runs / "target", "--out"]
    solve = ["--method", "label-solve", "--method.max_age", "2", "--method.inner_models", "2"]
    first, learned, last = (tmp_path / name for name in ("first", "learned", "last"))
    done = datastill("distill", *common, first, *solve, "--count", "6", *NETWORK)
    assert done.code == 0, done.err
    done = datastill("distill", *common, learned, *METHOD, *NETWORK, "--start-set", first)
    assert done.code == 0, done.err
    form = ["--start-set", learned, "--bytes", "6kB", "--codec", "webp", "--components", "2"]
    done = datastill("distill", *common, last, *solve, *NETWORK, *form)
    assert done.code == 0 and "6 distilled images, " in done.err, done.err
    small = DistilledSet.load(last)
    assert small.num_bytes <= 6000 and small.targets.shape == (6, 2)
    assert small.provenance["start"]["fingerprint"] == DistilledSet.load(learned).fingerprint
    again = datastill("distill", "--resume", "--out", last)
    assert again.code == 0 and again.out.strip() == str(last / "distilled.safetensors")
    assert yaml.safe_load((last / "config.yaml").read_text())["bytes"] == "6kB"


def test_distill__chooses_what_fills_the_bytes(
    datastill: Command, photos: Path, runs: Path, tmp_path: Path
) -> None:
    flags = ["--data", f"folder:{photos}", "--target", runs / "target", *NETWORK]
    flags += ["--method", "random-subset", "--codec", "webp", "--out"]
    small = datastill("distill", *flags, tmp_path / "small", "--bytes", "900")
    assert small.code == 2 and "smallest file of these 1 images, " in small.err
    assert not (tmp_path / "small").exists()
    done = datastill("distill", *flags, tmp_path / "set", "--bytes", "9kB")
    assert done.code == 0 and "     quality  components       count          r2\n" in done.err
    made = DistilledSet.load(tmp_path / "set")
    assert 0.97 * 9000 <= made.num_bytes <= 9000
    shown = yaml.safe_load(datastill("show", tmp_path / "set").out)
    assert shown["choice"] == made.provenance["choice"] and shown["count"] == len(made)
    again = datastill("distill", "--resume", "--out", tmp_path / "set")
    assert again.code == 0 and "is finished already" in again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--bytes 100B", "a budget of 100 bytes is below the smallest file of these 6 images, "),
        ("--bytes many", "--bytes many: expected a number of bytes such as 80000"),
        ("--codec avif", "avif needs a quality; give it, or the bytes that the file may have"),
        ("--bytes 9kB --components 7", "7 components: these targets have at most 6"),
        (
            "--start-set {set} --count 4",
            "the set to start from has images (5, 3, 16, 16), expected (4",
        ),
        ("--start-set {set} --method dm", "dm starts from source images"),
    ],
)
def test_distill__bad_form_or_start_is_one_sentence(
    words: str, message: str, datastill: Command, photos: Path, runs: Path, tmp_path: Path
) -> None:
    common = ["--data", f"folder:{photos}", "--target", runs / "target"]
    flags = words.format(set=runs / "set").split()
    flags += [] if "--count" in words else ["--count", "5" if "--start-set" in words else "6"]
    done = datastill("distill", *common, *flags, "--out", tmp_path / "new")
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "new").exists()


def test_show__checkpoint(datastill: Command, tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "checkpoint-x.safetensors", {"step": 3}, {"seed": 7})
    facts = yaml.safe_load(datastill("show", tmp_path / "checkpoint-x.safetensors").out)
    assert facts == {"checkpoint": "checkpoint-x", "tensors": 0, "identity": {"seed": 7}}


def test_data__prepare_says_where_the_images_are(datastill: Command, photos: Path) -> None:
    done = datastill("data", "prepare", f"folder:{photos}", "--image-size", "8")
    assert [line.partition(" at ")[0] for line in done.out.splitlines()] == [
        "train: 48 images",
        "test: 12 images",
    ]


def test_data__check_says_the_facts(datastill: Command, photos: Path) -> None:
    facts = yaml.safe_load(datastill("data", "check", f"folder:{photos}", "--image-size", "8").out)
    assert facts["classes"] == ["cat", "dog", "elk"]
    assert facts["splits"]["train"]["images_per_class"] == [16, 16]


def test_data__contact_sheet_has_a_row_per_class(datastill: Command, tmp_path: Path) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    done = datastill("data", "check", "digits", "--sheet", sheet)
    assert yaml.safe_load(done.out)["source"] == "digits"
    assert "rows from the top: 0, 1, 2" in done.err
    with Image.open(sheet) as picture:  # 16 pixels enlarged three times, gaps of 2
        assert picture.size == (10 * 50 + 2, 10 * 50 + 2)


def test_data__contact_sheet_belongs_to_check(datastill: Command, tmp_path: Path) -> None:
    done = datastill("data", "prepare", "digits", "--sheet", tmp_path / "sheet.png")
    assert done.code == 2 and "--sheet belongs to 'datastill data check'" in done.err


def test_data__prepare_says_how_much_of_the_official_split_it_found(
    datastill: Command, tmp_path: Path
) -> None:
    write_archive("cifar10", tmp_path)
    done = datastill("data", "prepare", "cifar10", "--data-root", tmp_path)
    assert done.out.startswith("train: 20 of 50000 images at ")
    assert "warning: cifar10/train has 20 images here, officially 50000" in done.err


def test_transfer__hard_labels_and_every_task(
    datastill: Command, random_set: Path, photos: Path, tmp_path: Path
) -> None:
    words = ("transfer", random_set, "--to", f"folder:{photos}", "--seeds", "1")
    words += (
        "--task",
        "linear-probe,finetune,classify",
        "--linear-probe.labels",
        "1-per-class,50%,all",
    )
    words += ("--pretrain-steps", "2", "--linear-probe.steps", "2", "--finetune.steps", "2")
    done = datastill(*words, "--out", tmp_path / "rows")
    assert done.code == 0, done.err
    assert len((tmp_path / "rows" / "rows.jsonl").read_text().splitlines()) == 5
    assert (
        "Fine-tuning" in done.out
        and "Classification" in done.out
        and "1-per-class, body" in done.out
    )


def test_profile__is_written_and_changes_nothing(
    datastill: Command, photos: Path, tmp_path: Path
) -> None:
    fingerprints = []
    for name, words in (("plain", ()), ("watched", ("--profile", "true"))):
        target, out = tmp_path / name / "target", tmp_path / name / "set"
        source = ("--data", f"folder:{photos}")
        assert datastill("target", *source, *TARGET, "--out", target, *words).code == 0
        words = (*source, "--target", target, "--count", "4", *NETWORK, *METHOD, *words)
        assert datastill("distill", *words, "--out", out).code == 0
        assert [(x / "profile.txt").exists() for x in (target, out)] == [name == "watched"] * 2
        fingerprints.append(DistilledSet.load(out).fingerprint)
    assert fingerprints[0] == fingerprints[1]
    profile = (tmp_path / "watched" / "set" / "profile.txt").read_text()
    parts = ("target representations", "kernel ridge regression", "update", "inner model")
    assert all(f"datastill: {part} " in profile for part in parts)
