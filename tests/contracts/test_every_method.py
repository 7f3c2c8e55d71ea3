"""The contract of every file in datastill/methods, and of its variants."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from checkpoint_mutations import omissions
from factories import NETWORK, equal, killed, toy_images, toy_problem, toy_target, weights
from reliability import Figures
from torch import Tensor

from datastill.core import checkpoint
from datastill.core.errors import ConfigError, ResumeError
from datastill.core.lookup import find, names, public_name
from datastill.core.options import from_json, options, to_json, with_smoke_values
from datastill.core.run_folder import RunFolder
from datastill.distill import Probe, distill
from datastill.distilled_set import DistilledSet
from datastill.methods.method import Method
from datastill.problem import Problem
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
    ("start", "random"),
    ("start", "high-loss"),
    ("start", "k-means"),
    ("balanced", True),
    ("stale_pool", True),
    ("bank", "lazy"),
    ("bank", "full"),
    ("pixel_space", "normalized"),
    ("space", "pixels"),
    ("rescale", False),
    ("rounds", 2),
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
    method: Method = with_smoke_values(component())
    return replace(method, **{k: v for k, v in {**SMALL, **changes}.items() if k in fields})


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


def every(
    condition: Callable[[Method], object], among: Iterable[Method] | None = None
) -> pytest.MarkDecorator:
    """Each method for which the condition holds, with its variants unless others are given."""
    found = [m for m in among or methods() if condition(m)]
    return pytest.mark.parametrize("method", found, ids=title)


def solvable(method: Method, *, seed: int = 0) -> Problem:
    images = toy_images()
    return toy_problem(len(images) if method.uses_full_source else COUNT, seed=seed, images=images)


def steps(method: Method) -> int:
    return method.length(solvable(method))


PLAIN = [small(name) for name in names(FOLDER)]
every_method, every_plain_method = every(bool), every(bool, PLAIN)
every_plain_method_with_steps = every(steps, PLAIN)


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


def copied(problem: Problem) -> list[Tensor]:
    images, target = problem.images, problem.needed_target
    assert images.labels is not None
    tensors = [images.images, images.labels, target.offset, target.scale]
    return [*(x.clone() for x in tensors), *weights(target.module)]


@every_method
def test_every_method__result_is_complete(method: Method) -> None:
    problem = solvable(method)
    distilled = distill(method, problem)
    assert distilled.images.shape == (problem.count, 1, 8, 8)
    assert distilled.images.isfinite().all() and distilled.targets.isfinite().all()
    if distilled.target_kind == "hard-label":
        assert distilled.targets.dtype == torch.int64 and distilled.targets.dim() == 1
        assert distilled.outputs == 4
    else:
        assert distilled.targets.dtype == torch.float32
        assert distilled.targets.shape == (len(distilled), distilled.outputs)
        assert distilled.target_kind != "representation" or distilled.outputs == DIM
    provenance = distilled.provenance
    assert provenance["method"] == method.identity()
    assert provenance["source"]["fingerprint"] == problem.images.fingerprint
    assert provenance["target"]["fingerprint"] == problem.needed_target.fingerprint
    assert (provenance["count"], provenance["seed"]) == (problem.count, 0)


@every_method
def test_every_method__seed_alone_decides_and_nothing_else_changes(method: Method) -> None:
    problem = solvable(method)
    before, generator = copied(problem), torch.get_rng_state()
    distilled = distill(method, problem)
    assert equal(copied(problem), before)
    assert torch.equal(torch.get_rng_state(), generator)
    torch.rand(7)
    assert same(distilled, distill(method, solvable(method)))
    assert same(distilled, distill(method, solvable(method, seed=1))) != method.is_stochastic


@every_method
def test_every_method__result_is_a_copy_of_the_state(method: Method) -> None:
    problem = solvable(method)
    state = method.init(problem)
    first = method.result(problem, state)
    before = first.images.clone(), first.targets.clone()
    for _ in range(min(3, method.length(problem))):
        metrics = method.step(problem, state)
        assert metrics and all(torch.as_tensor(value).isfinite() for value in metrics.values())
    assert torch.equal(first.images, before[0]) and torch.equal(first.targets, before[1])


@every(lambda method: method.warm_up_length(solvable(method)), PLAIN)
def test_every_method__resumes_its_warm_up_bit_for_bit(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = replace(method, max_age=6)
    whole, length = distill(method, solvable(method)), method.warm_up_length(solvable(method))
    assert length > 2
    for step in range(length):
        with killed(type(method), "warm_up_step", step):
            run(method, tmp_path / str(step))
        with monkeypatch.context() as patch:
            counted = Mock(side_effect=partial(type(method).warm_up_step, method))
            patch.setattr(type(method), "warm_up_step", counted)
            assert same(run(method, tmp_path / str(step)), whole)
        assert counted.call_count == length - step


@pytest.mark.torture
@every(steps)
def test_every_method__killed_at_each_of_twenty_steps_with_an_evaluation(
    method: Method, tmp_path: Path, figures: Figures
) -> None:
    """Epochs wrap, pools are replaced, and a probe runs in between; the whole run has none."""
    options = {f.name for f in dataclasses.fields(method)}
    longer = {k: v for k, v in {"outer_steps": 20, "networks": 10}.items() if k in options}
    method = replace(method, **longer)
    whole, probe = distill(method, solvable(method)), every_third_step(method)
    length = steps(method)
    for step in range(length):
        with killed(type(method), "step", step):
            run(method, tmp_path / str(step), probe=probe)
        assert same(run(method, tmp_path / str(step), probe=probe), whole)
    probed = " and probed" if probe else ""
    figures.add(
        f"{title(method)}, resumed{probed}",
        f"bit-equal wherever it was killed, {length} of {length} steps",
    )


@every(steps)
def test_every_method__resumes_after_a_kill_at_each_step(method: Method, tmp_path: Path) -> None:
    """One run, killed before its first step, then after each step and before that is saved."""
    for number in range(steps(method)):
        with killed(type(method), "step", min(number, 1), after=number > 0):
            run(method, tmp_path)
    assert same(run(method, tmp_path), distill(method, solvable(method)))


@every(steps)
def test_every_method__checkpoint_without_any_one_part_is_refused(method: Method) -> None:
    problem = solvable(method)
    state, fresh = method.init(problem), method.init(problem)
    for _ in range(min(3, method.length(problem))):
        method.step(problem, state)
    accepted, tried = [], 0
    for path, tree, tensors in omissions(*checkpoint.capture(state)):
        tried += 1
        with contextlib.suppress(ResumeError):
            checkpoint.restore(fresh, tree, tensors)
            accepted.append(path)
    assert tried > 20 and not accepted


@every_method
def test_every_method__finished_run_leaves_initial_and_final_set(
    method: Method, tmp_path: Path
) -> None:
    problem, distilled = solvable(method), run(method, tmp_path)
    assert same(DistilledSet.load(tmp_path), distilled)
    assert not list(tmp_path.glob("checkpoint*"))
    initial = DistilledSet.load(tmp_path / "initial.safetensors")
    assert same(initial, method.result(problem, method.init(problem)))


@every(lambda method: method.needs_target)
def test_every_method__missing_target_is_refused_before_any_work(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where options make a method do without one, the message names them."""
    images, options = toy_images(), method.no_target_hint.split()
    monkeypatch.setattr(type(method), "init", None)
    message = r"needs a target model; .*datastill target .*--target"
    with pytest.raises(ConfigError, match=f"{message}.*{method.no_target_hint}$"):
        distill(method, Problem(images, None, len(images), network=NETWORK))
    names = [option.removeprefix("--method.") for option in options[::2]]
    changes: dict[str, Any] = dict(zip(names, options[1::2], strict=True))
    assert not options or not replace(method, **changes).needs_target


@every_method
def test_every_method__works_without_what_it_does_not_need(method: Method) -> None:
    images = toy_images()
    target = toy_target(images) if method.needs_target else None
    source = images if method.needs_labels else images.unlabelled()
    count = len(images) if method.uses_full_source else COUNT
    assert len(distill(method, Problem(source, target, count, network=NETWORK))) == count


@every(lambda method: method.needs_labels)
def test_every_method__missing_label_is_refused_before_any_work(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = toy_images().unlabelled()
    target = toy_target(images) if method.needs_target else None
    monkeypatch.setattr(type(method), "init", None)
    with pytest.raises(ConfigError, match="needs labels, and toy/train has none"):
        distill(method, Problem(images, target, len(images), network=NETWORK))


@every(lambda method: method.uses_full_source)
def test_every_method__another_count_than_all_is_refused_where_all_are_taken(
    method: Method,
) -> None:
    with pytest.raises(ConfigError, match=r"takes all 24 images.*--count all instead of 8"):
        distill(method, toy_problem(8))


@every(lambda method: method.by_class)
def test_every_method__unfit_classes_are_refused_before_any_work(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_every_method__options_survive_json_and_are_explained(method: Method) -> None:
    assert from_json(type(method), to_json(method)) == method
    assert all(option.help for option in options(method))


@pytest.mark.parametrize("count", [0, 25])
def test_problem__strange_count_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"count={count} .* choose --count from 1 to 24"):
        toy_problem(count)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"size": 16}, "images of 16 pixels, toy/train has 8"),
        ({"channels": 3}, "made for 3 channels, toy/train has 1"),
    ],
)
def test_problem__target_of_other_images_is_refused(other: dict[str, int], message: str) -> None:
    target = toy_target(toy_images(**other))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        Problem(toy_images(), target, COUNT, network=NETWORK)
