"""Checkpoints: everything comes back bit for bit, and nothing that does not fit is accepted."""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_mutations import places, without
from torch import Generator, Tensor, nn

from datastill.core import checkpoint
from datastill.core.errors import ArtefactError, ResumeError
from datastill.core.rng import fork, seeded
from datastill.core.tensor_file import read_checked, write_checked
from datastill.ops.optimizers import AdamW, Sgd

IDENTITY = {"method": {"name": "toy", "options": {"lr": 0.1}}, "seed": 0}


@dataclass
class Part:
    """A module with its optimizer, as the members of a pool."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    age: int = 0


@dataclass
class State:
    """One of everything that may be part of a state."""

    x_syn: Tensor
    learner: torch.optim.Optimizer
    generator: Generator
    parts: list[Part]
    order: Tensor
    by_name: dict[str, nn.Module]
    several: tuple[Generator, nn.Module]
    rate: float = 0.1
    name: str | None = None
    done: bool = False
    pair: tuple[int, float] = (1, 0.5)
    table: dict[str, Tensor] = field(default_factory=lambda: {"a": torch.zeros(2)})


def a_part(seed: int) -> Part:
    with seeded(seed, "part"):
        layers = [nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 2)]
    model = nn.Sequential(*layers)
    return Part(model, Sgd(0.1, weight_decay=1e-3).make(model.parameters()))


def a_state(seed: int = 0) -> State:
    x_syn = torch.randn(3, 1, 4, 4, generator=fork(seed, "x")).requires_grad_()
    return State(
        x_syn,
        AdamW(0.01).make([x_syn]),
        fork(seed, "draws"),
        [a_part(seed), a_part(seed + 1)],
        torch.arange(5),
        {"a": a_part(seed).model},
        (fork(seed, "several"), a_part(seed).model),
    )


def advance(state: State, steps: int) -> State:
    """Train everything, with random numbers of the state's generator."""
    for _ in range(steps):
        for part in state.parts:
            part.optimizer.zero_grad()
            part.model(state.x_syn.detach()).square().mean().backward()
            part.optimizer.step()
            part.age += 1
        noise = torch.randn(3, 1, 4, 4, generator=state.generator)
        state.x_syn.grad = 2 * state.x_syn.detach() + noise
        state.learner.step()
        state.order = torch.randperm(5, generator=state.generator)
        state.rate, state.name, state.done = state.rate / 3, f"after {state.rate}", not state.done
        state.pair = (state.pair[0] + 1, state.pair[1] / 3)
        state.table["a"] += state.rate
    return state


def same(one: Any, other: Any) -> bool:
    """Equality of two states, bit for bit."""
    (tree_a, tensors_a), (tree_b, tensors_b) = checkpoint.capture(one), checkpoint.capture(other)
    return (
        json.dumps(tree_a) == json.dumps(tree_b)
        and tensors_a.keys() == tensors_b.keys()
        and all(torch.equal(tensors_a[k], tensors_b[k]) for k in tensors_a)
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.write(path, advance(a_state(), 3), IDENTITY)
    return path


def test_checkpoint__continues_bit_for_bit(file: Path) -> None:
    restored = a_state(seed=7)
    checkpoint.read(file, restored, IDENTITY)
    assert same(advance(restored, 4), advance(a_state(), 7))


def test_checkpoint__fills_tensors_and_modules_in_place(file: Path) -> None:
    restored = a_state(seed=7)
    held, several = restored.learner.param_groups[0]["params"][0], restored.several
    checkpoint.read(file, restored, IDENTITY)
    assert restored.x_syn is held and held.requires_grad
    assert restored.several == several and isinstance(restored.pair, tuple)


def test_checkpoint__refuses_what_it_cannot_write(tmp_path: Path) -> None:
    @dataclass
    class Strange:
        value: object

    with pytest.raises(TypeError, match=r"state\.value: a object cannot be part"):
        checkpoint.write(tmp_path / "file.safetensors", Strange(object()), IDENTITY)


TREE, TENSORS = checkpoint.capture(advance(a_state(), 2))
PLACES = list(places(TREE))
assert len(PLACES) > 100, "the mutations cover the whole state"


@pytest.mark.parametrize("path", PLACES, ids=str)
def test_checkpoint__refuses_a_tree_with_a_part_left_out(path: tuple[int | str, ...]) -> None:
    with pytest.raises(ResumeError):
        checkpoint.restore(a_state(), without(TREE, path), TENSORS)


@pytest.mark.parametrize("missing", TENSORS)
def test_checkpoint__refuses_a_tensor_left_out(missing: str) -> None:
    rest = {k: v for k, v in TENSORS.items() if k != missing}
    with pytest.raises(ResumeError, match="lacks the tensor"):
        checkpoint.restore(a_state(), TREE, rest)


@pytest.mark.parametrize("other", [torch.zeros(4, 1, 4, 4), TENSORS["state.x_syn"].double()])
def test_checkpoint__refuses_a_tensor_of_another_shape_or_type(other: Tensor) -> None:
    with pytest.raises(ResumeError, match=r"state\.x_syn does not fit: .*, 1, 4, 4\)"):
        checkpoint.restore(a_state(), TREE, {**TENSORS, "state.x_syn": other})


def test_checkpoint__refuses_a_longer_list() -> None:
    state = a_state()
    state.parts.append(a_part(5))
    with pytest.raises(ResumeError, match=r"state\.parts is not a list of 3"):
        checkpoint.restore(state, TREE, TENSORS)


def test_checkpoint__refuses_a_field_that_this_program_does_not_have() -> None:
    tree = copy.deepcopy(TREE)
    tree["dict"].append(["new_field", 3])
    with pytest.raises(ResumeError, match=r"differ in .*new_field"):
        checkpoint.restore(a_state(), tree, TENSORS)


def test_checkpoint__names_the_fields_of_another_run_and_leaves_the_state_alone(file: Path) -> None:
    other = {"method": {"name": "toy", "options": {"lr": 0.2}}, "seed": 1}
    state = a_state(seed=7)
    with pytest.raises(ResumeError, match=r"options\.lr: 0\.1, now 0\.2; seed: 0, now 1.*--out"):
        checkpoint.read(file, state, other)
    assert same(state, a_state(seed=7))


def test_checkpoint__tuples_of_the_identity_are_as_good_as_lists(tmp_path: Path) -> None:
    file = tmp_path / "file.safetensors"
    checkpoint.write(file, a_state(), {"widths": (4, 8)})
    checkpoint.read(file, a_state(), {"widths": [4, 8]})


def test_differences__absent_fields_are_named() -> None:
    assert checkpoint.differences({"a": 1}, {"b": None}) == [
        "a: 1, now absent",
        "b: absent, now None",
    ]


def test_differences__equal_fingerprints_are_equal_whatever_the_name() -> None:
    old = {"source": {"name": "folder:a/train", "fingerprint": "1"}}
    moved, other = ({"source": {"name": "folder:b/train", "fingerprint": x}} for x in "12")
    assert checkpoint.differences(old, moved) == []
    assert len(checkpoint.differences(old, other)) == 2


def test_checkpoint__flipped_bits_are_refused(file: Path) -> None:
    content = file.read_bytes()
    bits = torch.randint(8 * len(content), (40,), generator=fork(0, "bits")).tolist()
    for bit in bits:
        broken = bytearray(content)
        broken[bit // 8] ^= 1 << bit % 8
        file.write_bytes(broken)
        with pytest.raises(ArtefactError, match=str(file)):
            checkpoint.read(file, a_state(), IDENTITY)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("tree", '{"dict": [["x_syn", {}]]}'),
        ("tree", '{"dict": 3}'),
        ("tree", '{"tensor": []}'),
        ("tree", "[" * 5000 + "]" * 5000),
        ("tree", '{"dict": [["x_syn"]]}'),
        ("identity", "[]"),
        ("identity", "nothing"),
    ],
)
def test_checkpoint__tree_that_is_none_is_refused(file: Path, part: str, text: str) -> None:
    """With the right SHA-256, as somebody writes it who means harm."""
    tensors, metadata = read_checked(file, checkpoint.FORMAT, checkpoint.FORMAT_VERSION)
    write_checked(file, tensors, {**metadata, part: text})
    with pytest.raises((ArtefactError, ResumeError)):
        checkpoint.read(file, a_state(), IDENTITY)
