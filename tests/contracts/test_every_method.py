"""The contract of every file in datastill/methods, and of its variants."""

import contextlib
import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_mutations import omissions
from factories import (
    NETWORK,
    KilledError,
    equal,
    killed_at,
    toy_images,
    toy_problem,
    toy_target,
    weights,
)
from reliability import Figures
from torch import Tensor

from datastill.core import checkpoint
from datastill.core.errors import ConfigError, ResumeError
from datastill.core.lookup import find, names, public_name
from datastill.core.options import from_json, options, to_json, with_smoke_values
from datastill.core.run_folder import RunFolder
from datastill.distill import Probe, distill
from datastill.distilled_set import DistilledSet
from datastill.methods.method import Method, Problem
from datastill.protocols.paper import PROTOCOL
from datastill.transfer.held_out import HeldOut

FOLDER = "datastill.methods"
Method = Method[Any]
SMALL = {  # of whatever has such an option; all others have their smoke values. The pool dies twice
    "outer_steps": 6,
    "outer_batch": 10,
    "outer_lr": 0.01,
    "pool_size": 2,
    "max_age": 2,
    "crop_padding": 1,
}
VARIANTS: list[tuple[str, object]] = [
    ("targets", "class-label"),
    ("balanced", True),
    ("stale_pool", True),
    ("bank", "lazy"),
    ("bank", "full"),
    ("pixel_space", "normalized"),
    ("space", "pixels"),
    ("zca", False),
    ("learn", "labels"),
    ("learn", "images-and-labels"),
]
COUNT, DIM = 8, 5
NONDETERMINISM_TOLERANCE = {
    "frepo": 0.01
}  # LAMB: distilled pixels 1e-8 apart are 0.002 apart after six steps


def small(name: str, **changes: object) -> Method:
    component = find(FOLDER, name)
    fields = {f.name for f in dataclasses.fields(component)}
    made: Method = with_smoke_values(component())
    return replace(made, **{k: v for k, v in {**SMALL, **changes}.items() if k in fields})


def methods() -> list[Method]:
    """Every method as it is, and with each of its variants."""
    plain = {name: small(name) for name in names(FOLDER)}
    varied = [
        small(name, **{key: value})
        for name, method in plain.items()
        for key, value in VARIANTS
        if hasattr(method, key)
    ]
    return [*plain.values(), *varied]


def title(method: Method) -> str:
    return f"{public_name(method)} {method.variant}{getattr(method, 'bank', '')}"


every_method = pytest.mark.parametrize("method", methods(), ids=title)


def solvable(method: Method, *, seed: int = 0) -> Problem:
    images = toy_images()
    return toy_problem(len(images) if method.takes_all else COUNT, seed=seed, images=images)


def same(one: DistilledSet, other: DistilledSet) -> bool:
    return equal([one.images, one.targets], [other.images, other.targets])


def run(method: Method, folder: Path, *, seed: int = 0, probe: Probe | None = None) -> DistilledSet:
    """A run that is saved after every step."""
    opened = RunFolder.open(folder, method.identity(), resume=True, checkpoint_seconds=0.0)
    return distill(method, solvable(method, seed=seed), folder=opened, probe=probe)


def every_third_step(method: Method) -> Probe | None:
    """An evaluation, of sets that can be evaluated so."""
    problem = solvable(method)
    if method.result(problem, method.init(problem)).target_kind != "representation":
        return None
    images = toy_images()
    pretraining = with_smoke_values(PROTOCOL.pretraining("representation"))
    return Probe(HeldOut(images, toy_target(images)), 3, pretraining)


def memory(value: Problem) -> list[Tensor]:
    images, target = value.images, value.needed_target
    assert images.labels is not None
    kept = [images.images, images.labels, target.offset, target.scale]
    return [*(x.clone() for x in kept), *weights(target.module)]


@every_method
def test_every_method__result_has_count_images(method: Method) -> None:
    problem = solvable(method)
    assert distill(method, problem).images.shape == (problem.count, 1, 8, 8)


@every_method
def test_every_method__result_is_finite(method: Method) -> None:
    distilled = distill(method, solvable(method))
    assert distilled.images.isfinite().all() and distilled.targets.isfinite().all()


@every_method
def test_every_method__targets_fit_their_kind(method: Method) -> None:
    distilled = distill(method, solvable(method))
    if distilled.target_kind == "hard-label":
        assert distilled.targets.dtype == torch.int64 and distilled.targets.dim() == 1
        assert distilled.outputs == 4
    else:
        assert distilled.targets.dtype == torch.float32
        assert distilled.targets.shape == (len(distilled), distilled.outputs)
        assert distilled.target_kind != "representation" or distilled.outputs == DIM


@every_method
def test_every_method__result_says_how_it_was_made(method: Method) -> None:
    problem = solvable(method)
    provenance = distill(method, problem).provenance
    assert provenance["method"] == method.identity()
    assert provenance["source"]["fingerprint"] == problem.images.fingerprint
    assert provenance["target"]["fingerprint"] == problem.needed_target.fingerprint
    assert (provenance["count"], provenance["seed"]) == (problem.count, 0)


@every_method
def test_every_method__same_seed_gives_the_same_result(method: Method) -> None:
    one, other = (distill(method, solvable(method)) for _ in range(2))
    assert same(one, other)


@every_method
def test_every_method__does_not_depend_on_the_global_generator(method: Method) -> None:
    one = distill(method, solvable(method))
    torch.rand(7)
    assert same(one, distill(method, solvable(method)))


@every_method
def test_every_method__leaves_the_global_generator_alone(method: Method) -> None:
    problem = solvable(method)
    before = torch.get_rng_state()
    distill(method, problem)
    assert torch.equal(torch.get_rng_state(), before)


@every_method
def test_every_method__another_seed_gives_another_result(method: Method) -> None:
    one, other = (distill(method, solvable(method, seed=seed)) for seed in (0, 1))
    assert same(one, other) != method.draws


@every_method
def test_every_method__problem_is_unchanged(method: Method) -> None:
    problem = solvable(method)
    before = memory(problem)
    distill(method, problem)
    assert equal(memory(problem), before)


@every_method
def test_every_method__result_is_a_copy_of_the_state(method: Method) -> None:
    problem = solvable(method)
    state = method.init(problem)
    first = method.result(problem, state)
    before = first.images.clone(), first.targets.clone()
    for _ in range(min(3, method.length(problem))):
        method.step(problem, state)
    assert torch.equal(first.images, before[0]) and torch.equal(first.targets, before[1])


@every_method
def test_every_method__resumes_bit_for_bit(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distill(method, solvable(method))
    for step in range(method.length(solvable(method))):
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(type(method), "step", killed_at(step, type(method).step))
            run(method, tmp_path / str(step))
        assert same(run(method, tmp_path / str(step)), whole)


WARMING_UP = [m for m in methods() if m.warm_up_length(solvable(m))]


@pytest.mark.parametrize("method", WARMING_UP, ids=title)
def test_every_method__resumes_its_warm_up_bit_for_bit(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = replace(method, max_age=6)
    whole, length = distill(method, solvable(method)), method.warm_up_length(solvable(method))
    assert length > 2
    for step in range(length):
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            killed = killed_at(step, type(method).warm_up_step)
            patch.setattr(type(method), "warm_up_step", killed)
            run(method, tmp_path / str(step))
        taken: list[int] = []
        warm_up_step = type(method).warm_up_step

        def counted(*given: Any, warm_up_step: Any = warm_up_step, taken: Any = taken) -> Any:
            taken.append(0)
            return warm_up_step(*given)

        with monkeypatch.context() as patch:
            patch.setattr(type(method), "warm_up_step", counted)
            assert same(run(method, tmp_path / str(step)), whole)
        assert len(taken) == length - step


@pytest.mark.torture
@every_method
def test_every_method__killed_at_each_of_twenty_steps_with_an_evaluation(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    """Epochs wrap, pools are replaced, and a probe runs in between; the whole run has none."""
    options = {f.name for f in dataclasses.fields(method)}
    longer = {k: v for k, v in {"outer_steps": 20, "networks": 10}.items() if k in options}
    method = replace(method, **longer)
    whole, length, probe = (
        distill(method, solvable(method)),
        method.length(solvable(method)),
        every_third_step(method),
    )
    for step in range(length):
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(type(method), "step", killed_at(step, type(method).step))
            run(method, tmp_path / str(step), probe=probe)
        assert same(run(method, tmp_path / str(step), probe=probe), whole)
    if length:
        probed = " and probed" if probe else ""
        figures.add(
            f"{title(method)}, resumed{probed}",
            f"bit-equal wherever it was killed, {length} of {length} steps",
        )


@every_method
def test_every_method__resumes_after_a_kill_at_each_step(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distill(method, solvable(method))
    for _ in range(method.length(solvable(method)) - 1):
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(type(method), "step", killed_at(1, type(method).step, after=True))
            run(method, tmp_path)
    assert same(run(method, tmp_path), whole)


@every_method
def test_every_method__checkpoint_without_any_one_part_is_refused(method: Method) -> None:
    problem = solvable(method)
    if not method.length(problem):
        pytest.skip("is never interrupted")
    state, fresh = method.init(problem), method.init(problem)
    for _ in range(min(3, method.length(problem))):
        method.step(problem, state)
    accepted, tried = [], 0
    for place, tree, tensors in omissions(*checkpoint.capture(state)):
        tried += 1
        with contextlib.suppress(ResumeError):
            checkpoint.restore(fresh, tree, tensors)
            accepted.append(place)
    assert tried > 20 and not accepted


@every_method
def test_every_method__finished_run_leaves_its_artefact_and_no_checkpoint(
    method: Method, tmp_path: Path
) -> None:
    distilled = run(method, tmp_path)
    assert same(DistilledSet.load(tmp_path), distilled)
    assert not list(tmp_path.glob("checkpoint*"))


@every_method
def test_every_method__initial_set_is_that_of_no_steps(method: Method, tmp_path: Path) -> None:
    run(method, tmp_path)
    problem = solvable(method)
    initial = DistilledSet.load(tmp_path / "initial.safetensors")
    assert same(initial, method.result(problem, method.init(problem)))


@every_method
def test_every_method__metrics_are_finite_numbers(method: Method) -> None:
    problem = solvable(method)
    state = method.init(problem)
    for _ in range(min(2, method.length(problem))):
        found = method.step(problem, state)
        assert found and all(torch.as_tensor(value).isfinite() for value in found.values())


@every_method
def test_every_method__missing_target_is_refused_before_any_work(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not method.needs_target:
        pytest.skip("needs no target model")
    images = toy_images()
    monkeypatch.setattr(type(method), "init", None)
    with pytest.raises(ConfigError, match=r"needs a target model; .*datastill target .*--target"):
        distill(method, Problem(images, None, len(images), network=NETWORK))


@every_method
def test_every_method__way_without_a_target_leads_there(method: Method) -> None:
    if not method.needs_target or not method.without_target:
        pytest.skip("has no such way")
    images = toy_images()
    with pytest.raises(ConfigError, match=f"without one by {method.without_target}$"):
        distill(method, Problem(images, None, len(images), network=NETWORK))
    words = method.without_target.split()
    fields = [flag.removeprefix("--method.") for flag in words[::2]]
    assert not replace(method, **dict(zip(fields, words[1::2], strict=True))).needs_target


@every_method
def test_every_method__works_without_what_it_does_not_need(method: Method) -> None:
    images = toy_images()
    target = toy_target(images) if method.needs_target else None
    given = images if method.needs_labels else images.unlabelled()
    count = len(images) if method.takes_all else COUNT
    assert len(distill(method, Problem(given, target, count, network=NETWORK))) == count


@every_method
def test_every_method__missing_label_is_refused_before_any_work(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not method.needs_labels:
        pytest.skip("needs no labels")
    images = toy_images().unlabelled()
    target = toy_target(images) if method.needs_target else None
    monkeypatch.setattr(type(method), "init", None)
    with pytest.raises(ConfigError, match="needs labels, and toy/train has none"):
        distill(method, Problem(images, target, len(images), network=NETWORK))


@every_method
def test_every_method__another_count_than_all_is_refused_where_all_are_taken(
    method: Method,
) -> None:
    if not method.takes_all:
        pytest.skip("takes any count")
    with pytest.raises(ConfigError, match=r"takes all 24 images.*--count all instead of 8"):
        distill(method, toy_problem(8))


@every_method
def test_every_method__unfit_classes_are_refused_before_any_work(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not method.by_class:
        pytest.skip("takes images of any class")
    monkeypatch.setattr(type(method), "init", None)
    with pytest.raises(ConfigError, match=r"each of the 4 classes .* --count a multiple of 4"):
        distill(method, toy_problem(6))
    images = toy_images()
    lopsided = images.take(torch.tensor([0, 1, 2, 3, 4, 8, 12, 16]))  # one of classes 1 to 3
    with pytest.raises(ConfigError, match=r"2 images per class .* smallest class has 1"):
        distill(method, toy_problem(8, images=lopsided))
    with pytest.raises(ConfigError, match="a class without images"):
        distill(method, toy_problem(2, images=images.take(torch.tensor([0, 1, 2]))))


@every_method
def test_every_method__survives_json(method: Method) -> None:
    assert from_json(type(method), to_json(method)) == method


@every_method
def test_every_method__explains_every_option(method: Method) -> None:
    assert all(option.help for option in options(method))


@pytest.mark.parametrize("count", [0, 25])
def test_problem__strange_count_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"count={count} .* choose --count from 1 to 24"):
        toy_problem(count)


def test_problem__target_of_another_image_size_is_refused() -> None:
    target = toy_target(toy_images(size=16))
    with pytest.raises(ConfigError, match=r"images of 16 pixels, toy/train has 8"):
        Problem(toy_images(), target, COUNT, network=NETWORK)


def test_problem__target_of_other_channels_is_refused() -> None:
    target = toy_target(toy_images(channels=3))
    with pytest.raises(ConfigError, match=r"made for 3 channels, toy/train has 1"):
        Problem(toy_images(), target, COUNT, network=NETWORK)
