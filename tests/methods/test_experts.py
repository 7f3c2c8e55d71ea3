"""Expert trajectories: what they are, and that a cache changes nothing but the time they take."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from factories import equal, killed, toy_images
from torch import Tensor

from datastill.augment.dsa import Dsa
from datastill.batches import Batches
from datastill.core.errors import NotFiniteError
from datastill.core.rng import fork, seeded
from datastill.images import ImageSet, Normalizer
from datastill.methods._experts import Experts, ExpertTraining, flat_parameters
from datastill.networks.convnet import ConvNet
from datastill.problem import Problem

TRAINING = ExpertTraining(
    epochs=3, batch=10, lr=0.05, momentum=0.0, weight_decay=0.0, seed=0, zca_ridge_of_mean=None
)
NETWORK = ConvNet(widths=(3,), norm="instance")


def problem(cache: Path | None = None, **changes: Any) -> Problem:
    arguments = {"images": toy_images(), "network": NETWORK, **changes}
    return Problem(target=None, count=4, cache=cache, **arguments)


def experts(cache: Path | None = None, training: ExpertTraining = TRAINING) -> Experts:
    """Return experts as a new process does: nothing is in memory."""
    return experts_of(problem(cache), training)


def experts_of(of: Problem, training: ExpertTraining = TRAINING) -> Experts:
    ridge = training.zca_ridge_of_mean
    source = of.images if ridge is None else of.images.whitened(ridge)
    return Experts(of, source, training)


def trajectories(of: Experts, count: int = 2) -> list[Tensor]:
    of.make(range(count))
    return [of.trajectory(number) for number in range(count)]


def files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.safetensors"))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A cache with two experts."""
    trajectories(experts(tmp_path))
    return tmp_path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the experts that are trained from here on."""
    numbers: list[int] = []
    train = Experts._train

    def noting(self: Experts, number: int, show: Callable[[int, Tensor], None]) -> Tensor:
        numbers.append(number)
        return train(self, number, show)

    monkeypatch.setattr(Experts, "_train", noting)
    return numbers


@pytest.mark.parametrize(
    ("momentum", "weight_decay"), [(0.0, 0.0), (0.5, 0.01)], ids=["as published", "with both"]
)
def test_expert__equals_training_by_hand(momentum: float, weight_decay: float) -> None:
    training = replace(TRAINING, momentum=momentum, weight_decay=weight_decay)
    images = toy_images()
    assert images.labels is not None
    with seeded(0, "expert", 1):
        network = NETWORK(image_size=8, channels=1, outputs=4)
    batches = Batches.over(24, fork(0, "expert", 1, "batches"))
    augmentation = fork(0, "expert", 1, "augmentation")
    moving = [torch.zeros_like(p) for p in network.parameters()]
    expected = [flat_parameters(network)]
    for _ in range(3):
        for size in (10, 10, 4):
            index = batches.draw(10)
            assert len(index) == size
            x = Dsa()(images.normalized(index), augmentation)
            loss = F.cross_entropy(network(x), images.labels[index])
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            with torch.no_grad():
                for p, v, g in zip(network.parameters(), moving, gradients, strict=True):
                    v.mul_(momentum).add_(g + weight_decay * p)
                    p.sub_(0.05 * v)
        expected.append(flat_parameters(network))
    trajectory = experts(training=training).trajectory(1)
    torch.testing.assert_close(trajectory, torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_expert__sees_whitened_images() -> None:
    plain, whitened = (
        experts(training=replace(TRAINING, zca_ridge_of_mean=ridge)).trajectory(0)
        for ridge in (None, 0.1)
    )
    assert torch.equal(plain[0], whitened[0]) and not torch.equal(plain[1], whitened[1])


def test_experts__do_not_depend_on_how_many_there_are() -> None:
    assert equal(trajectories(experts(), 3)[:2], trajectories(experts(), 2))


def test_experts__that_are_in_memory_are_not_trained_again(trained: list[int]) -> None:
    whole = experts()
    trajectories(whole)
    trajectories(whole, 3)
    assert trained == [0, 1, 2]


def test_experts__same_bits_with_and_without_cache(filled: Path, trained: list[int]) -> None:
    assert [file.name for file in files(filled)] == ["0.safetensors", "1.safetensors"]
    assert not list(filled.rglob("*.part"))
    cached = trajectories(experts(filled))
    assert not trained
    assert equal(cached, trajectories(experts()))
    assert trained == [0, 1]


def test_cache__keeps_finished_experts_where_the_next_was_killed(
    tmp_path: Path, trained: list[int]
) -> None:
    with killed(torch.optim.SGD, "step", 13):  # of expert 1, epoch 2
        experts(tmp_path).make(range(2))
    assert [file.name for file in files(tmp_path)] == ["0.safetensors"]
    trained.clear()
    assert equal(trajectories(experts(tmp_path)), trajectories(experts()))
    assert trained == [1, 0, 1]  # with the cache the killed one only; without it both


def test_cache__damaged_expert_is_named_and_made_again(
    filled: Path, trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Any damage is found by the file's SHA-256 (tests/test_damage.py)."""
    file = files(filled)[1]
    file.write_bytes(file.read_bytes()[:-100])
    again = trajectories(experts(filled))
    message = capsys.readouterr().err
    assert "expert 1 is trained again: " in message and str(files(filled)[1]) in message
    assert trained == [1] and equal(again, trajectories(experts()))
    trained.clear()
    trajectories(experts(filled))
    assert not trained


def test_cache__file_of_another_expert_is_not_taken(
    filled: Path, trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = files(filled)
    other.write_bytes(one.read_bytes())
    assert not torch.equal(*trajectories(experts(filled)))
    assert trained == [1] and "is of another expert" in capsys.readouterr().err


def one_pixel_changed() -> ImageSet:
    images = toy_images()
    pixels = images.images.clone()
    pixels[0, 0, 0, 0] += 1
    return replace(images, images=pixels)


def one_label_changed() -> ImageSet:
    images = toy_images()
    assert images.labels is not None
    return replace(images, labels=images.labels.roll(1))


@pytest.mark.parametrize(
    ("settings", "of"),
    [
        ({"epochs": 4}, {}),
        ({"batch": 9}, {}),
        ({"lr": 0.04}, {}),
        ({"momentum": 0.5}, {}),
        ({"weight_decay": 0.1}, {}),
        ({"seed": 1}, {}),
        ({"zca_ridge_of_mean": 0.1}, {}),
        ({}, {"images": one_pixel_changed()}),
        ({}, {"images": one_label_changed()}),
        ({}, {"images": toy_images().with_normalizer(Normalizer((0.5,), (0.5,)))}),
        ({}, {"network": ConvNet(widths=(3,), norm="none")}),
    ],
)
def test_cache__of_anything_else_is_not_used(
    settings: dict[str, Any], of: dict[str, Any], filled: Path, trained: list[int]
) -> None:
    experts_of(problem(filled, **of), replace(TRAINING, **settings)).make([0])
    assert trained == [0] and len(files(filled)) == 3


LONGER = replace(TRAINING, epochs=30)
OTHER_PROCESS = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import torch
from test_experts import LONGER, experts
torch.set_num_threads(1)
whole = experts(Path(sys.argv[1]), LONGER)
print("ready", flush=True)
sys.stdin.readline()
whole.make(range(4))
print(*[float(whole.trajectory(number).sum()) for number in range(4)])
"""


@pytest.mark.slow
def test_cache__two_processes_fill_it_at_once(tmp_path: Path, trained: list[int]) -> None:
    tests = Path(__file__).parents[1]
    arguments = [str(tmp_path), str(tests), str(tests / "methods")]
    command = [sys.executable, "-c", OTHER_PROCESS, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tests.parent
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("go\n")
            process.stdin.flush()
            ours = trajectories(experts(tmp_path, LONGER), 4)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert [float(number) for number in output.split()] == [float(t.sum()) for t in ours]
    assert len(files(tmp_path)) == 4 and not list(tmp_path.rglob("*.part"))
    trained.clear()
    assert equal(ours, trajectories(experts(training=LONGER), 4))


def test_expert__that_diverges_is_named_and_not_cached(tmp_path: Path) -> None:
    message = r"expert 0: .* after epoch 1; lower --method.expert_lr"
    with pytest.raises(NotFiniteError, match=message):
        experts(tmp_path, replace(TRAINING, lr=1e30)).make([0])
    assert not files(tmp_path)
