"""Recorded work does what the same work does unrecorded, on a device that a CPU plays."""

from collections.abc import Iterator

import pytest
import second_device
import torch
from torch import Tensor, nn
from toys import equal, toy_images, toy_network, weights

from datastill.ground import graphs
from datastill.ground.errors import NumericalWarning, SingularKernelError
from datastill.ground.graphs import Graphs, recording
from datastill.ground.machine import Machine
from datastill.maths.krr import krr_predict
from datastill.networks._base import Network

THERE = Machine(second_device.NAME)


@pytest.fixture(autouse=True)
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Recordings are made by the second device, and its traffic is counted."""
    monkeypatch.setattr(graphs, "record", second_device.record)
    monkeypatch.setattr(graphs, "new_pool", object)
    with second_device.second_device() as found:
        yield found


def there(*numbers: float) -> Tensor:
    return torch.tensor(numbers).to(second_device.NAME)


class Trained:
    """A network that is trained there by one batch after another."""

    def __init__(self, active: bool) -> None:
        self.network: Network = THERE.place(toy_network()).train()
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01
        )
        self.graphs, self.done = Graphs(active), 0

    def update(self, x: Tensor) -> tuple[Tensor]:
        self.done += 1
        loss = THERE.run(self.network, x).square().mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return (loss.detach(),)

    def on(self, images: Tensor) -> Tensor:
        return self.graphs("train", self.update, self.network, THERE.here(images))[0].cpu()


def batches(count: int, size: int = 4) -> list[Tensor]:
    x = toy_images(24).normalized(slice(None))
    return [x[torch.arange(size * k, size * (k + 1)) % 24] for k in range(count)]


def test_graphs__recorded_training_equals_training() -> None:
    plain, recorded = Trained(active=False), Trained(active=True)
    for x in batches(6):
        assert torch.equal(plain.on(x), recorded.on(x))
    assert (plain.done, recorded.done) == (6, 2)
    assert equal(weights(plain.network.cpu()), weights(recorded.network.cpu()))


def test_graphs__repetition_is_one_launch(counts: dict[str, int]) -> None:
    recorded = Trained(active=True)
    for x in batches(2):
        recorded.on(x)
    x = THERE.here(batches(1)[0])
    before = counts["operations"]
    recorded.graphs("train", recorded.update, recorded.network, x)
    assert counts["operations"] - before <= 3  # copy the input, repeat, copy the output


def test_graphs__inputs_of_another_shape_have_a_recording_of_their_own() -> None:
    plain, recorded = Trained(active=False), Trained(active=True)
    for large, small in zip(batches(4), batches(4, size=3), strict=True):
        for x in (large, small):
            assert torch.equal(plain.on(x), recorded.on(x))
    assert recorded.done == 4


def test_graphs__outputs_outlast_the_next_repetition() -> None:
    model, made = nn.Identity(), Graphs(active=True)

    def double(x: Tensor) -> tuple[Tensor]:
        return (2 * x,)

    found = [made("double", double, model, there(k)) for k in range(4)]
    assert [float(x) for (x,) in found] == [0, 2, 4, 6]


def test_graphs__recordings_are_let_go_with_their_model() -> None:
    recorded = Trained(active=True)
    for x in batches(3):
        recorded.on(x)
    kept = recorded.graphs
    assert len(kept.known) == 1
    del recorded
    assert len(kept.known) == 0


def test_graphs__a_look_at_a_value_cannot_be_recorded() -> None:
    model, made = nn.Identity(), Graphs(active=True)

    def looks(x: Tensor) -> tuple[Tensor]:
        return (x * float(x),)

    made("looks", looks, model, there(2))
    with pytest.raises(RuntimeError, match="while a recording is under way"):
        made("looks", looks, model, there(2))
    assert not recording()


def features(*, singular: bool) -> Tensor:
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    return torch.cat([rows[:3], rows[:1]]) if singular else rows


class Predicted:
    """Predictions from features that are recorded already; `condition, prediction` of each."""

    def __init__(self, *, redo: bool) -> None:
        self.graphs, self.model, self.redo = Graphs(active=True), nn.Identity(), redo
        self.query, self.y = THERE.here(torch.ones(2, 6)), THERE.here(torch.eye(4))
        for _ in range(3):
            _, prediction = self.of(features(singular=False))
            assert prediction.cpu().isfinite().all()

    def predict(self, phi: Tensor) -> tuple[Tensor, ...]:
        return krr_predict(self.query, phi, self.y)[::-1]

    def of(self, phi: Tensor) -> tuple[Tensor, ...]:
        phi = THERE.here(phi)
        return self.graphs("predict", self.predict, self.model, phi, redo=self.redo)


def test_graphs__what_fails_in_a_repetition_is_done_again_and_mended() -> None:
    predicted, singular = Predicted(redo=True), features(singular=True)
    with pytest.warns(NumericalWarning, match="not positive definite"):
        mended = predicted.of(singular)
    with pytest.warns(NumericalWarning, match="not positive definite"):
        plain = predicted.predict(THERE.here(singular))
    assert all(torch.equal(x.cpu(), y.cpu()) for x, y in zip(mended, plain, strict=True))


def test_graphs__without_redo_a_failure_is_not_a_number() -> None:
    _, prediction = Predicted(redo=False).of(features(singular=True))
    assert prediction.cpu().isnan().all()


def test_graphs__errors_are_those_of_unrecorded_work() -> None:
    predicted = Predicted(redo=True)
    with pytest.raises(SingularKernelError):
        predicted.of(torch.zeros(4, 6))
