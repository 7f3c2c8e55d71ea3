"""The stored form: coded images and targets, within a budget, and nothing wrong ever passes."""

import io
import json
import pickle
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from factories import NETWORK, toy_images, toy_problem, toy_target, toy_task
from PIL import Image, ImageFilter
from torch import Tensor

from datastill.cli.main import main
from datastill.core import tensor_file
from datastill.core.errors import ArtefactError, ConfigError, DataWarning
from datastill.core.machine import Machine
from datastill.core.rng import fork
from datastill.core.run_folder import RunFolder
from datastill.distill import distill
from datastill.distilled_set import DistilledSet
from datastill.images import ImageSet
from datastill.methods.random_subset import RandomSubset
from datastill.pretrain import Pretraining, pretrain, with_provenance
from datastill.stored_form import mosaic, stored
from datastill.stored_form.mosaic import QUALITIES
from datastill.stored_form.stored import TargetBasis
from datastill.transfer.evaluation import EvaluationSuite, evaluate_networks
from datastill.transfer.held_out import HeldOut
from datastill.transfer.linear_probe import LinearProbe
from datastill.transfer.origins import from_distilled, from_pretrained

CODECS = ("avif", "webp", "jpeg", "png", "raw")
LOSSLESS = ("png", "raw")
SETTINGS = Pretraining(steps=3, batch=4)


def smooth_images(count: int = 24, channels: int = 3, size: int = 16) -> ImageSet:
    """Blurred noise, which codecs store well."""
    noise = torch.randint(0, 256, (count * channels, size, size), generator=fork(0, "smooth"))
    blur = ImageFilter.GaussianBlur(2)
    planes = [Image.fromarray(plane.byte().numpy()).filter(blur).tobytes() for plane in noise]
    pixels = torch.frombuffer(bytearray(b"".join(planes)), dtype=torch.uint8)
    images = pixels.view(count, channels, size, size)
    return replace(toy_images(count, size=size, channels=channels), images=images)


def a_set(count: int = 20, channels: int = 3, **options: Any) -> DistilledSet:
    problem = toy_problem(count, images=smooth_images(channels=channels))
    return distill(RandomSubset(**options), problem)


def psnr(one: DistilledSet, other: DistilledSet) -> float:
    error = (one.unit_pixels() - other.unit_pixels()).square().mean()
    return float(-10 * error.log10())


def saved(distilled: DistilledSet, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    distilled.save(folder / "distilled.safetensors")
    return folder / "distilled.safetensors"


def rewritten(file: Path, tensors: dict[str, Tensor | None], **form: Any) -> Path:
    """The file with other tensors and another stored form, under a SHA-256 that fits."""
    metadata, kept = tensor_file.read_tensors(file)
    metadata.pop("sha256")
    provenance = json.loads(metadata["provenance"])
    provenance["stored"] |= form
    metadata["provenance"] = json.dumps(provenance, sort_keys=True)
    merged = {name: x for name, x in {**kept, **tensors}.items() if x is not None}
    tensor_file.write_checked(file, merged, metadata, compressed=("provenance",))
    return file


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("codec", CODECS)
def test_stored__comes_back_as_it_was_saved(codec: str, channels: int, tmp_path: Path) -> None:
    plain = a_set(channels=channels)
    quality = QUALITIES[codec][1] if codec in QUALITIES else None
    small = plain.compress(codec=codec, quality=quality)
    file = saved(small, tmp_path / "one")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = DistilledSet.load(file)
    assert torch.equal(loaded.images, small.images) and torch.equal(loaded.targets, small.targets)
    assert loaded.fingerprint == small.fingerprint != plain.fingerprint
    assert loaded.num_bytes == small.num_bytes == file.stat().st_size
    assert saved(loaded, tmp_path / "two").read_bytes() == file.read_bytes()
    if codec in LOSSLESS:
        assert torch.equal(small.images, plain.images)
    else:
        assert psnr(small, plain) > 33


def test_stored__plain_sets_keep_their_format_and_know_their_size(tmp_path: Path) -> None:
    plain = a_set()
    file = saved(plain, tmp_path)
    assert tensor_file.read_tensors(file)[0]["format_version"] == "1"
    assert plain.num_bytes == file.stat().st_size == plain.describe()["bytes"]
    assert not TargetBasis.path(file).exists()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [2, 11, 23])
def test_num_bytes__is_the_size_of_every_kind_of_file(
    count: int, channels: int, tmp_path: Path
) -> None:
    plain = a_set(count, channels)
    white = replace(plain, normalizer=smooth_images(channels=channels).whitened(0.1).normalizer)
    hard = a_set(count, channels, targets="class-label")
    named = {**hard.provenance, "num_classes": 300, "note": 'an "ö" \\ and a\nline'}
    hard = replace(hard, provenance=named)
    forms = [plain.compress(codec="raw", targets=form) for form in ("int8", "float16", "float32")]
    for distilled in (plain, white, hard, hard.compress(quality=50), *forms):
        assert distilled.num_bytes == saved(distilled, tmp_path).stat().st_size


def test_stored__enlarges_smaller_images() -> None:
    plain = a_set()
    small = plain.compress(codec="png", stored_size=8)
    assert small.images.shape == plain.images.shape
    assert small.num_bytes < plain.compress(codec="png").num_bytes
    assert 20 < psnr(small, plain) < 60


def test_stored__codes_are_coordinates_of_the_targets(tmp_path: Path) -> None:
    plain = a_set()
    small = plain.compress(codec="raw")
    assert small.basis is not None and small.outputs == 5
    exact = small.basis.project(plain.targets)
    largest = exact.abs().amax(0)
    assert ((small.targets - exact).abs() <= largest / 127 * 0.51 + 1e-6).all()
    spread = exact.square().mean(0)
    assert (spread[:-1] >= spread[1:]).all(), "principal axes come in the order of their variance"
    file = saved(small, tmp_path)
    TargetBasis.path(file).unlink()
    without = DistilledSet.load(file)
    assert without.basis is None and torch.equal(without.targets, small.targets)
    assert without.fingerprint == small.fingerprint
    fewer = small.compress(codec="raw", components=2)
    assert torch.allclose(fewer.targets, small.targets[:, :2], atol=1e-6)
    assert torch.equal(fewer.basis.basis, small.basis.basis[:, :2])  # type: ignore[union-attr]


def test_stored__basis_may_be_given() -> None:
    basis = TargetBasis(torch.ones(5), torch.eye(5)[:, 2:4])
    small = a_set().compress(codec="raw", basis=basis)
    assert torch.allclose(small.targets, a_set().targets[:, 2:4] - 1, atol=0.05)
    with pytest.raises(ConfigError, match="the basis is of 4 numbers, the targets have 5"):
        a_set().compress(codec="raw", basis=TargetBasis(torch.ones(4), torch.eye(4)))


@pytest.mark.parametrize(
    ("options", "dtype"),
    [({}, torch.int8), ({"targets": "float16"}, torch.float16), ({"targets": "float32"}, None)],
)
def test_stored__targets_have_the_chosen_type(
    options: dict[str, Any], dtype: torch.dtype | None
) -> None:
    plain = a_set()
    small = plain.compress(codec="raw", **options)
    assert small.stored is not None and small.targets.dtype == torch.float32
    assert small.stored.targets.dtype == (dtype or torch.float32)
    if dtype is None:
        assert torch.equal(small.targets, plain.targets) and small.basis is None


@pytest.mark.parametrize(("classes", "dtype"), [(4, torch.uint8), (1000, torch.int16)])
def test_stored__class_labels_take_few_bytes(classes: int, dtype: torch.dtype) -> None:
    labelled = a_set(targets="class-label")
    provenance = {**labelled.provenance, "num_classes": classes}
    labelled = replace(labelled, targets=labelled.targets + classes - 4, provenance=provenance)
    small = pickle.loads(pickle.dumps(labelled.compress(quality=50)))  # as worker processes get it
    assert small.stored.targets.dtype == dtype and small.outputs == classes
    assert torch.equal(small.targets, labelled.targets)


def test_stored__soft_labels_are_float16() -> None:
    soft = replace(a_set(), target_kind="soft-label")
    small = soft.compress(quality=50)
    assert small.stored is not None and small.stored.targets.dtype == torch.float16
    assert torch.allclose(small.targets, soft.targets, rtol=1e-3) and small.basis is None
    with pytest.raises(ConfigError, match="float16 or float32, not as int8"):
        soft.compress(quality=50, targets="int8")


def test_stored__pixel_spaces() -> None:
    plain = a_set()
    normalized = replace(
        plain, images=plain.normalizer(plain.images), pixel_space="normalized"
    ).compress(codec="png")
    assert normalized.pixel_space == "unit" and torch.equal(normalized.images, plain.images)
    assert replace(plain, pixel_space="raw").compress(codec="png").pixel_space == "raw"
    loud = replace(plain, images=plain.images * 3 - 1).compress(codec="png")
    assert loud.provenance["stored"]["clipped"] > 0 == normalized.provenance["stored"]["clipped"]
    assert loud.images.min() >= 0 and loud.images.max() <= 1


def test_stored__many_channels_are_raw_only() -> None:
    plain = a_set(channels=5)
    assert torch.equal(plain.compress(codec="raw").images, plain.images)
    with pytest.raises(ConfigError, match="one or three channels, not 5; use the codec raw"):
        plain.compress(codec="png")


@pytest.mark.parametrize("codec", ["avif", "webp", "jpeg"])
def test_budget__is_used_and_never_exceeded(codec: str) -> None:
    plain = a_set(24)
    worst, best = (plain.compress(codec=codec, quality=q).num_bytes for q in (20, 90))
    budget = (worst + best) // 2
    small = plain.compress(bytes=budget, codec=codec)
    assert 0.95 * budget < small.num_bytes <= budget  # steps of so few images are large
    assert small.provenance["stored"]["budget"] == budget
    with pytest.raises(ConfigError, match=r"below the smallest file of these 24 images, ([\d,]+)"):
        plain.compress(bytes=500, codec=codec)


def test_budget__smallest_size_that_is_named_is_possible() -> None:
    with pytest.raises(ConfigError) as error:
        a_set().compress(bytes=500, codec="webp")
    smallest = int(str(error.value).split("images, ")[1].split(" bytes")[0].replace(",", ""))
    made = a_set().compress(bytes=smallest, codec="webp")
    assert made.num_bytes <= smallest and made.outputs == 1


def test_decoder__other_pixels_are_told_with_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = a_set().compress(quality=50)
    file = saved(small, tmp_path)
    decoded = mosaic.decode_mosaic

    def other(*args: Any) -> Any:
        tiles = decoded(*args).copy()
        tiles[0, 0, 0, 0] ^= 1
        return tiles

    monkeypatch.setattr(stored, "decode_mosaic", other)
    monkeypatch.setattr("PIL.__version__", "99.0")
    with pytest.warns(DataWarning, match=r"stored with Pillow \d.* decoded by Pillow 99\.0, avif"):
        loaded = DistilledSet.load(file)
    assert loaded.fingerprint == small.fingerprint and not torch.equal(loaded.images, small.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "avif needs a quality; give it, or the bytes"),
        ({"quality": 101}, "expected 0 to 100"),
        ({"quality": 0, "codec": "jpeg"}, "quality 0 of jpeg: expected 1 to 95"),
        ({"quality": 5, "codec": "png"}, "loses nothing and has no quality"),
        ({"quality": 5, "codec": "gif"}, "codec='gif'"),
        ({"quality": 5, "stored_size": 17}, "stored size 17, expected 1 to 16"),
        ({"quality": 5, "components": 6}, "at most 5"),
        ({"quality": 5, "components": 2, "targets": "float16"}, "a choice of int8 targets"),
    ],
    ids=str,
)
def test_compress__bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        a_set().compress(**options)


def test_compress__labels_have_no_form_of_targets() -> None:
    with pytest.raises(ConfigError, match="class labels are stored as whole numbers"):
        a_set(targets="class-label").compress(quality=5, targets="int8")


def test_compress__whitened_sets_are_refused() -> None:
    images = smooth_images()
    white = replace(a_set(), normalizer=images.whitened(0.1).normalizer)
    with pytest.raises(ConfigError, match="whitened"):
        white.compress(quality=5)


def test_compress__codec_that_pillow_lacks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(a_set().compress(quality=50), tmp_path)
    Image.init()
    monkeypatch.delitem(Image.SAVE, "AVIF")
    with pytest.raises(ConfigError, match=r"Pillow .* lacks avif; update Pillow"):
        a_set().compress(quality=5)
    with pytest.raises(ArtefactError, match=r"Pillow .* lacks avif; update Pillow"):
        DistilledSet.load(file)


def test_save__changed_images_are_not_lost(tmp_path: Path) -> None:
    small = a_set().compress(quality=50)
    changed = replace(small, images=small.images / 2)
    with pytest.raises(ArtefactError, match="changed after they were encoded"):
        saved(changed, tmp_path)
    again = DistilledSet.load(saved(replace(changed, stored=None), tmp_path))
    assert torch.equal(again.images, changed.images)


def picture(width: int, height: int, form: str = "PNG") -> Tensor:
    content = io.BytesIO()
    Image.new("RGB", (width, height)).save(content, format=form)
    return torch.frombuffer(bytearray(content.getvalue()), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("tensors", "form", "message"),
    [
        ({"mosaic": picture(96, 80)}, {}, "mosaic is RGB of 96 x 80 pixels, expected 80 x 64"),
        ({"mosaic": picture(80, 64, "GIF")}, {}, "mosaic is damaged"),
        ({"mosaic": picture(80, 64)[:60]}, {}, "mosaic is damaged"),
        ({"mosaic": torch.zeros(0, dtype=torch.uint8)}, {}, "mosaic is damaged"),
        ({"mosaic": None}, {}, "lacks a part"),
        ({"scale": None}, {}, "codes without their scale"),
        ({"scale": torch.ones(4)}, {}, "codes without their scale"),
        ({}, {"size": 17}, "stored size 17, expected 1 to 16"),
        ({}, {"size": "16"}, "stored size '16'"),
        ({}, {"codec": "gif"}, "no codec 'gif'"),
        ({}, {"codec": "raw"}, "mosaic has shape"),
        ({}, {"codec": ["png"]}, "no codec"),
    ],
    ids=str,
)
def test_load__damage_is_one_sentence(
    tensors: dict[str, Tensor | None], form: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = rewritten(saved(a_set().compress(codec="png"), tmp_path), tensors, **form)
    with pytest.raises(ArtefactError, match=message) as error:
        DistilledSet.load(file)
    assert str(file) in str(error.value)


def test_load__changed_bytes_of_a_mosaic_end_in_our_error_or_other_pixels(tmp_path: Path) -> None:
    """Whoever means harm puts the SHA-256 right."""
    for codec in ("avif", "webp", "jpeg", "png"):
        quality = 50 if codec in QUALITIES else None
        small = a_set(4).compress(codec=codec, quality=quality)
        file, random, refused = saved(small, tmp_path), Random(0), 0
        for _ in range(30):
            damaged = small.stored.mosaic.clone()  # type: ignore[union-attr]
            for _ in range(random.randint(1, 8)):
                damaged[random.randrange(len(damaged))] = random.randrange(256)
            rewritten(file, {"mosaic": damaged[: random.randint(1, 2 * len(damaged))]})
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    assert DistilledSet.load(file).images.shape == small.images.shape
            except ArtefactError:
                refused += 1
        assert refused


def test_load__too_many_pixels_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(a_set().compress(codec="png"), tmp_path)
    monkeypatch.setattr(mosaic, "LARGEST", 5_000)
    with pytest.raises(ArtefactError, match="more than the 5,000 pixels"):
        DistilledSet.load(file)
    with pytest.raises(ConfigError, match="more than the 5,000 pixels"):
        a_set().compress(codec="png")


def test_load__basis_of_another_set_is_refused(tmp_path: Path) -> None:
    file = saved(a_set().compress(quality=50), tmp_path)
    saved(a_set(15).compress(quality=50), tmp_path / "other")
    shutil.copy(tmp_path / "other/distilled.basis.safetensors", tmp_path)
    with pytest.raises(ArtefactError, match="basis of another set"):
        DistilledSet.load(file)


def test_load__compressed_metadata_have_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(a_set().compress(quality=50), tmp_path)
    monkeypatch.setattr(tensor_file, "LARGEST_TEXT", 100)
    with pytest.raises(ArtefactError, match="too long"):
        DistilledSet.load(file)


def test_transfer__compressed_sets_are_sets_like_any_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = toy_images(24, size=8, channels=1)
    plain = distill(RandomSubset(), toy_problem(12, images=source))
    small = DistilledSet.load(saved(plain.compress(quality=60, components=3), tmp_path / "set"))
    held_out = HeldOut(toy_task().test.unlabelled(), toy_target(source))
    suite = EvaluationSuite([LinearProbe(labels=("2-per-class",))], [toy_task()], held_out)

    def rows(origin: Any, name: str) -> list[Any]:
        folder = RunFolder.open(tmp_path / name, {}, resume=False)
        return evaluate_networks([(origin, [0])], suite, machine=Machine(), folder=folder)

    probe, r2 = rows(from_distilled(small, NETWORK, Machine(), SETTINGS), "rows")
    assert probe.set_bytes == small.num_bytes and probe.artefact == small.fingerprint
    assert probe.settings["stored"] == "avif, quality 60, components 3, 8 pixels, int8"
    network = pretrain(NETWORK, small, pretraining=SETTINGS)
    assert r2.r_squared == held_out.r2(network, Machine(), basis=small.basis)
    kept = with_provenance(network, small, {}, steps=3, seed=0, precision="float32")
    assert kept.provenance["set"]["bytes"] == small.num_bytes
    (row,) = rows(from_pretrained({0: kept}, Machine()), "kept")  # no basis, no held-out R²
    assert row.accuracy_percent == probe.accuracy_percent
    assert caplog.text.count("has no held-out R²: its outputs are coordinates") == 1


def test_command__compresses_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = saved(a_set(), tmp_path / "run")
    out = tmp_path / "small"
    words = ["compress", str(file.parent), "--codec", "webp", "--out"]
    assert main([*words, str(out), "--bytes", "2.5kB"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "distilled.safetensors")
    assert "20 images by webp, quality" in caplog.text and "int8 targets of 5" in caplog.text
    assert (out / "distilled.safetensors").stat().st_size <= 2500 and (out / "preview.png").exists()
    assert main(["show", str(out)]) == 0
    assert "codec: webp" in capsys.readouterr().out
    assert main(["show", str(out / "distilled.basis.safetensors")]) == 0
    assert capsys.readouterr().out.startswith("target_basis: distilled.basis\n")
    for budget in ("many", "-3", "100"):
        assert main([*words, str(tmp_path / "none"), "--bytes", budget]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "none").exists()
