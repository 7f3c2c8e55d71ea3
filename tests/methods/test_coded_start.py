"""Methods that start from images as they will be decoded, or from another set."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from factories import NETWORK, equal, killed, toy_target

from datastill.core.errors import ConfigError, ResumeError
from datastill.core.run_folder import RunFolder
from datastill.data.source import source
from datastill.distill import Probe, distill
from datastill.distilled_set import DistilledSet
from datastill.methods.dm import DM
from datastill.methods.frepo import FRePo
from datastill.methods.krr_st import KRRST
from datastill.methods.label_solve import LabelSolve
from datastill.methods.method import Method
from datastill.methods.random_subset import RandomSubset
from datastill.pretrain import Pretraining
from datastill.problem import Problem
from datastill.stored_form.compression import Compression
from datastill.stored_form.stored import TargetBasis
from datastill.transfer.held_out import HeldOut

SOLVE = LabelSolve(inner_models=2, max_age=3, real_images=60, real_batch=30)
LEARN = KRRST(outer_steps=3, outer_batch=20, outer_lr=0.05, pool_size=2, max_age=3, crop_padding=1)
BUDGET = Compression(bytes=4000, codec="webp", components=3)


@pytest.fixture(scope="module")
def problem() -> Problem:
    images = source("digits").load("train").limit(120, seed=0)
    return Problem(images, toy_target(images), 20, network=NETWORK, compression=BUDGET)


def run(method: Method[Any], problem: Problem, folder: Path) -> DistilledSet:
    """A run with a checkpoint after every step."""
    opened = RunFolder.open(folder, method.identity(), resume=True, checkpoint_seconds=0.0)
    return distill(method, problem, folder=opened)


@pytest.mark.parametrize(
    "compression",
    [BUDGET, Compression(quality=40), replace(BUDGET, components=None), Compression(codec="png")],
    ids=str,
)
def test_label_solve__solves_on_the_pixels_of_the_file(
    problem: Problem, compression: Compression, tmp_path: Path
) -> None:
    problem = replace(problem, compression=compression)
    solved_on = SOLVE.init(problem).start.x
    made = distill(SOLVE, problem, folder=tmp_path)
    loaded, initial = (
        DistilledSet.load(tmp_path / f"{name}.safetensors") for name in ("distilled", "initial")
    )
    assert torch.equal(loaded.network_input(), solved_on) and torch.equal(
        made.images, loaded.images
    )
    assert torch.equal(initial.images, loaded.images) and loaded.num_bytes == initial.num_bytes
    assert not torch.equal(initial.targets, loaded.targets)
    assert loaded.num_bytes <= (compression.bytes or loaded.num_bytes)
    original = distill(RandomSubset(), replace(problem, compression=None)).images
    assert torch.equal(loaded.images, original) == (compression.codec == "png")


def test_label_solve__kill_does_not_change_a_coded_set(problem: Problem, tmp_path: Path) -> None:
    whole, length = run(SOLVE, problem, tmp_path / "whole"), SOLVE.length(problem)
    with killed(LabelSolve, "step", length // 2):
        run(SOLVE, problem, tmp_path / "killed")
    assert run(SOLVE, problem, tmp_path / "killed").fingerprint == whole.fingerprint


def test_resume__another_decoder_is_refused(problem: Problem, tmp_path: Path) -> None:
    with killed(LabelSolve, "step", 3):
        run(SOLVE, problem, tmp_path)
    with (
        patch("datastill.distill.decoder", lambda _: "Pillow 99"),
        pytest.raises(ResumeError, match=r"decoder"),
    ):
        run(SOLVE, problem, tmp_path)


def test_coded__targets_are_coordinates_in_the_axes_of_the_source(problem: Problem) -> None:
    images, target = problem.images, problem.needed_target
    g = target.represent_images(images)
    basis = TargetBasis.principal(g, components=3).first(3)
    subset = distill(RandomSubset(), problem)
    assert subset.basis is not None and subset.basis.fingerprint == basis.fingerprint
    scores = basis.project(g)
    assert scores.square().mean() == pytest.approx(float((g - g.mean(0)).square().mean()), rel=1e-3)
    chosen = RandomSubset().choose(problem)
    assert torch.allclose(subset.targets, scores[chosen], atol=float(scores.abs().max()) / 120)
    restored = torch.linalg.lstsq(basis.basis.T, scores[chosen].T).solution.T + basis.mean
    assert torch.allclose(basis.outputs(scores[chosen]), restored, atol=1e-4)


def test_coded__basis_is_computed_once(problem: Problem, tmp_path: Path) -> None:
    cached = replace(problem, cache=tmp_path)
    basis = cached.target_basis
    with patch("datastill.target_model.TargetModel.represent", side_effect=AssertionError):
        again = replace(cached, seed=1, count=5).target_basis
    assert basis is not None and again is not None and again.fingerprint == basis.fingerprint


def test_krr_st__learns_from_coded_images(problem: Problem, tmp_path: Path) -> None:
    plain = replace(problem, compression=None)
    original = LEARN.result(plain, LEARN.init(plain))
    state = LEARN.init(replace(problem, compression=Compression(codec="webp", quality=40)))
    assert torch.equal(state.x_syn, original.compress(codec="webp", quality=40).images)
    probe = Probe(HeldOut(problem.images, problem.needed_target), 2, Pretraining(steps=2, batch=4))
    made = distill(LEARN, problem, folder=tmp_path, probe=probe)
    assert made.num_bytes <= 4000 and made.outputs == 3 and made.stored is not None
    assert made.provenance["compression"] == {"bytes": 4000, "codec": "webp", "components": 3}


def test_start__solved_targets_before_and_after_learning(problem: Problem, tmp_path: Path) -> None:
    plain = replace(problem, compression=None)
    solved = distill(SOLVE, plain)
    learned = distill(LEARN, replace(plain, start_set=solved), folder=tmp_path)
    initial = DistilledSet.load(tmp_path / "initial.safetensors")
    assert equal([initial.images, initial.targets], [solved.images, solved.targets])
    last = distill(SOLVE, replace(plain, start_set=learned))
    assert torch.equal(last.images, learned.images) and not torch.equal(
        last.targets, learned.targets
    )
    assert last.provenance["start"] == {"method": "krr-st", "fingerprint": learned.fingerprint}


def test_start__coded_set_has_its_targets_in_the_same_axes(problem: Problem) -> None:
    coded = distill(RandomSubset(), problem)
    pairs = LEARN.init(replace(problem, start_set=coded))
    assert torch.allclose(pairs.y_syn, coded.targets, atol=1e-5)
    without = replace(coded, stored=replace(coded.stored, basis=None))  # type: ignore[type-var]
    with pytest.raises(ConfigError, match="their basis is missing"):
        replace(problem, start_set=without)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 21}, r"images \(20, 1, 16, 16\), expected \(21, 1, 16, 16\)"),
        ({"target": None}, "targets of 5 numbers, the target model None"),
        ({"start_set": "labels"}, "hard-label targets and unit pixels; expected representations"),
    ],
    ids=str,
)
def test_start__set_that_does_not_fit_is_refused(
    problem: Problem, change: dict[str, Any], message: str
) -> None:
    plain = replace(problem, compression=None)
    start = distill(
        RandomSubset("class-label" if "start_set" in change else "representation"), plain
    )
    with pytest.raises(ConfigError, match=message):
        replace(plain, **{**change, "start_set": start})


@pytest.mark.parametrize(
    ("method", "compression", "message"),
    [
        (SOLVE, Compression(bytes=500), r"a budget of 500 bytes is below .* 20 images, [\d,]+ byt"),
        (SOLVE, replace(BUDGET, components=6), "6 components: these targets have at most 5"),
        (LEARN, Compression(quality=5, stored_size=17), "stored size 17, expected 1 to 16"),
        (DM(), Compression(quality=5, components=2), "give no form of targets"),
        (FRePo(), BUDGET, "no codec stores whitened images"),
    ],
    ids=str,
)
def test_coded__bad_forms_are_refused_before_anything_is_written(
    problem: Problem, method: Method[Any], compression: Compression, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        distill(method, replace(problem, compression=compression), folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_coded__learned_set_that_does_not_fit_is_kept(problem: Problem, tmp_path: Path) -> None:
    noisy = replace(LEARN, outer_lr=0.1)
    png = replace(problem, compression=Compression(codec="png"))
    learned = png.stored(LEARN.result(png, LEARN.init(png)))
    size = max(learned.num_bytes, distill(RandomSubset(), png).num_bytes) + 60
    tight = replace(problem, compression=Compression(bytes=size, codec="png"))
    with pytest.raises(ConfigError, match=r"below the smallest file .*uncoded\.safetensors"):
        distill(noisy, tight, folder=tmp_path)
    assert len(DistilledSet.load(tmp_path / "uncoded.safetensors")) == 20


def test_start__other_methods_refuse_it(problem: Problem) -> None:
    plain = replace(problem, compression=None)
    with pytest.raises(ConfigError, match="dm starts from source images"):
        DM().check(replace(plain, start_set=distill(RandomSubset(), plain)))
