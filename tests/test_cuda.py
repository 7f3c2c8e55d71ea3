"""The checks of the fake device on a real GPU, if there is one."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from factories import moved, toy_images, weights
from test_every_method import NONDETERMINISM_TOLERANCE, methods, solvable, title

from datastill.core.machine import Machine
from datastill.distill import distill
from datastill.methods.method import Method
from datastill.train_target import TargetTraining, train_target

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
GPU = Machine("cuda")


@pytest.fixture(autouse=True)
def _whole_float32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute in whole float32; gradients through `grid_sample` have no deterministic kernel."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(True)


@pytest.mark.parametrize("method", methods(), ids=title)
def test_every_method__makes_nearly_the_same_set_on_a_gpu(method: Method[Any]) -> None:
    near, far = (distill(method, moved(solvable(method), m)) for m in (Machine(), GPU))
    atol = NONDETERMINISM_TOLERANCE.get(method.identity()["name"], 1e-3)
    torch.testing.assert_close(near.images, far.images, atol=atol, rtol=1e-3)
    torch.testing.assert_close(near.targets, far.targets, atol=atol, rtol=1e-3)


def test_train_target__makes_nearly_the_same_model_on_a_gpu() -> None:
    training = TargetTraining(batch=10, steps=2, warmup=0.0)
    near, far = (
        weights(train_target(toy_images(), training, machine=m).module.cpu())
        for m in (Machine(), GPU)
    )
    for one, other in zip(near, far, strict=True):
        torch.testing.assert_close(one, other, atol=5e-3, rtol=1e-2)
