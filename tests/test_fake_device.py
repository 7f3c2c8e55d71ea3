"""On a fake device: host and device tensors never mix, and the host waits for few numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import NETWORK, killed, moved, toy_images, toy_network, toy_set, toy_task, weights
from fake_device import NAME, fake_device
from ranks import small as small_objective
from test_every_method import NONDETERMINISM_TOLERANCE, methods, small, solvable, title
from test_every_task import FOLDER as TASKS
from test_every_task import SMALL, with_options
from test_pretrain import KINDS, a_set, short
from torch import Tensor

from datastill.augment.views import TwoViews
from datastill.core.lookup import find, names
from datastill.core.machine import Machine
from datastill.core.ranks import Ranks
from datastill.core.run_folder import RunFolder
from datastill.distill import distill
from datastill.distilled_set import DistilledSet
from datastill.experiments.recipe import get_recipe
from datastill.experiments.runner import Experiment, run_recipe
from datastill.methods.method import Method
from datastill.ops.optimizers import Sgd
from datastill.pretrain import pretrain
from datastill.problem import Problem
from datastill.train_target import TargetTraining, train_target
from datastill.transfer.task import TaskContext

FAKE = Machine(NAME)
READS = {  # in one step
    **{"krr-st": 3, "frepo": 3, "kip": 3, "label-solve": 1},
    **{"dc": 2, "dsa": 2, "dm": 2, "mkdt": 5, "mtt": 5},
}
READS_TO_CACHE = 1  # whether new representations are finite

Method = Method[Any]
iterative = [m for m in methods() if m.identity()["name"] in READS]
every_iterative = pytest.mark.parametrize("method", iterative, ids=title)


def on_fake_device(problem: Problem) -> Problem:
    """The same problem, on the fake device."""
    return moved(problem, FAKE)


def on_both(work: Callable[[Machine], list[Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    near = work(Machine())
    with fake_device():
        return near, [x.cpu() for x in work(FAKE)]


def test_fake_device__refuses_tensors_of_the_host() -> None:
    with fake_device():
        x = torch.ones(3).to(NAME)
        with pytest.raises(RuntimeError, match="of the host and of the fake device"):
            x + torch.ones(3)


def test_fake_device__counts_what_the_host_waits_for() -> None:
    with fake_device() as counts:
        x = torch.ones(3).to(NAME, non_blocking=True)
        assert counts["reads"] == counts["writes"] == 0
        torch.ones(3).to(NAME), torch.tensor([1.0], device=NAME), x[torch.tensor([0, 2])]
        assert (counts["reads"], counts["writes"]) == (0, 3)
        assert x.cpu().sum() == float(x.sum()) == 3 and x[x > 0].shape == (3,)
        assert (counts["reads"], counts["writes"]) == (3, 3)


@pytest.mark.parametrize("method", methods(), ids=title)
def test_every_method__makes_the_same_set_there(method: Method) -> None:
    near = distill(method, solvable(method))
    with fake_device():
        far = distill(method, on_fake_device(solvable(method)))
    atol = NONDETERMINISM_TOLERANCE.get(method.identity()["name"], 1e-5)
    torch.testing.assert_close(near.images, far.images, atol=atol, rtol=1e-4)
    torch.testing.assert_close(near.targets, far.targets, atol=atol, rtol=1e-4)


def waits(method: Method, machine: Machine = FAKE) -> tuple[int, int]:
    """How many numbers the host waits to read, and to send, in the last step."""
    with fake_device() as counts:
        problem = moved(solvable(method), machine)
        state = method.init(problem)
        for _ in range(method.length(problem)):
            counts.clear()
            method.step(problem, state)
        return counts["reads"], counts["writes"]


@every_iterative
def test_every_method__waits_for_few_numbers_and_sends_none(method: Method) -> None:
    reads = READS[method.identity()["name"]]
    if getattr(method, "bank", "off") == "lazy":
        reads += READS_TO_CACHE
    if getattr(method, "learn", "images") == "labels":  # a solve for each part of the source
        reads = -(-len(toy_images()) // method.outer_batch) + 1
    assert waits(method) == (reads, 0)


def test_ranks__share_a_step_of_distilling_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total, _: total.mul_(2))
    two = replace(FAKE, ranks=Ranks(size=2))
    assert waits(small("krr-st", bank="full"), two) == (READS["krr-st"], 0)


@pytest.mark.parametrize("name", ["krr-st", "dsa", "mtt"])
def test_every_method__resumes_there_bit_for_bit(name: str, tmp_path: Path) -> None:
    method = small(name)

    def run(folder: str) -> DistilledSet:
        opened = RunFolder.open(tmp_path / folder, {}, resume=True, checkpoint_seconds=0.0)
        return distill(method, on_fake_device(solvable(method)), folder=opened)

    with fake_device():
        whole = run("whole")
        with killed(type(method), "step", 2):
            run("killed")
        again = run("killed")
    assert torch.equal(whole.images, again.images) and torch.equal(whole.targets, again.targets)


@pytest.mark.parametrize("name", names("datastill.objectives"))
def test_every_objective__trains_the_same_target_model_there(name: str) -> None:
    training = TargetTraining(
        architecture=NETWORK,
        outputs=5,
        objective=small_objective(name),
        optimizer=Sgd(lr=0.01),
        batch=10,
        steps=4,
        standardize=True,
    )
    near, far = on_both(
        lambda machine: weights(train_target(toy_images(), training, machine=machine).module)
    )
    for one, other in zip(near, far, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", names(TASKS))
def test_every_task__measures_the_same_there(name: str) -> None:
    task, data = with_options(find(TASKS, name)(), SMALL), toy_task()
    outputs = data.train.num_classes if task.evaluates_outputs else 5

    def found(machine: Machine) -> list[Tensor]:
        network = machine.to_device(toy_network(outputs=outputs))
        start = TaskContext(network, NETWORK, 0, distilled=toy_set(), machine=machine)
        return [torch.tensor(one.accuracy_percent) for one in task.measure(start, data)]

    near, far = on_both(found)
    assert near == far


def sent_in(work: Callable[[int], object]) -> int:
    """What two more steps make the host wait to send, once everything was done before."""
    found = []
    for steps in (4, 4, 6):
        with fake_device() as counts:
            work(steps)
        found.append(counts["writes"])
    return found[2] - found[1]


@pytest.mark.parametrize("kind", KINDS)
def test_pretraining__sends_nothing_in_a_step(kind: str) -> None:
    training, distilled = short(kind), a_set(kind)

    def train(steps: int) -> None:
        pretrain(NETWORK, distilled, pretraining=replace(training, steps=steps), machine=FAKE)

    assert sent_in(train) == 0


def test_experts__send_nothing_in_a_step() -> None:
    method = small("mtt", experts=1, max_start_epoch=0, matched_epochs=1)

    def train(epochs: int) -> None:
        longer = replace(method, expert_epochs=epochs)
        longer.init(on_fake_device(solvable(longer)))

    assert sent_in(train) == 0


@pytest.mark.parametrize(
    ("name", "channels"), [*((x, 3) for x in names("datastill.objectives")), ("barlow-twins", 1)]
)
def test_every_objective__sends_nothing_in_a_step(name: str, channels: int) -> None:
    views = TwoViews(noise_std=0.1)
    training = TargetTraining(NETWORK, 5, small_objective(name), views, batch=10)

    def train(steps: int) -> None:
        images = toy_images(channels=channels)
        train_target(images, replace(training, steps=steps), machine=FAKE)

    assert sent_in(train) == 0


@pytest.mark.parametrize("name", ["finetune", "linear-probe", "data-free-kd"])
def test_every_task__sends_nothing_in_a_step(name: str) -> None:
    task = with_options(find(TASKS, name)(), {**SMALL, "epochs": 1, "noise_count": 8})

    def measure(steps: int) -> None:
        longer = with_options(task, {"steps": steps, "epochs": steps})
        network = FAKE.to_device(toy_network())
        longer.measure(
            TaskContext(network, NETWORK, 0, distilled=toy_set(), machine=FAKE), toy_task()
        )

    assert sent_in(measure) == 0


def test_recipe__runs_whole_there(tmp_path: Path) -> None:
    with fake_device() as counts:
        files = run_recipe(Experiment(get_recipe("quick", "smoke"), tmp_path, 0, FAKE))
    assert files.page.exists() and not (tmp_path / "failed.json").exists()
    assert counts["operations"] > 1000  # it was done there
