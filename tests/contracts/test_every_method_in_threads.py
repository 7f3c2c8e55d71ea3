"""The contract of every method with those who call it: from threads, and with an interrupt."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from factories import killed
from test_every_method import (
    Method,
    every_plain_method,
    every_plain_method_with_steps,
    run,
    same,
    small,
    solvable,
    steps,
)

from datastill.core.rng import seeded
from datastill.distill import distill

WATCHED = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1


@every_plain_method
def test_every_method__two_threads_give_the_bits_of_one(method: Method) -> None:
    single = [distill(method, solvable(method, seed=seed)) for seed in (0, 1)]
    together = threading.Barrier(2)

    def made(seed: int) -> bool:
        problem = solvable(method, seed=seed)
        together.wait()
        return same(distill(method, problem), single[seed])

    before = torch.get_rng_state()
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(made, [0, 1])) == [True, True]
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded__another_thread_waits() -> None:
    inside, drawn = threading.Event(), list[torch.Tensor]()

    def draw() -> None:
        inside.set()
        with seeded(1, "other"):
            drawn.append(torch.rand(3))

    thread = threading.Thread(target=draw)
    with seeded(0, "one"):
        first = torch.rand(2)
        thread.start()
        inside.wait()
        thread.join(0.05)
        assert not drawn
        second = torch.rand(2)
    thread.join()
    with seeded(0, "one"):
        assert torch.equal(torch.cat([first, second]), torch.cat([torch.rand(2), torch.rand(2)]))
    with seeded(1, "other"):
        assert torch.equal(drawn[0], torch.rand(3))


def test_distill__leaves_no_signal_handlers_and_sets_none_in_a_thread(tmp_path: Path) -> None:
    method, before = small("krr-st"), [signal.getsignal(number) for number in WATCHED]
    run(method, tmp_path / "main")
    assert [signal.getsignal(number) for number in WATCHED] == before
    set_by: list[threading.Thread] = []
    original = signal.signal

    def noted(number: int, handler: object) -> object:
        set_by.append(threading.current_thread())
        return original(number, handler)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as threads:
        patch.setattr(signal, "signal", noted)
        threads.submit(run, method, tmp_path / "thread").result()
    assert not set_by


@every_plain_method_with_steps
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_method__interrupt_in_a_step_is_clean(
    method: Method, after: bool, tmp_path: Path
) -> None:
    last = steps(method) - 1
    whole = distill(method, solvable(method))
    handlers = [signal.getsignal(number) for number in WATCHED]
    with killed(type(method), "step", last, after=after, by=KeyboardInterrupt):
        run(method, tmp_path)
    assert [signal.getsignal(number) for number in WATCHED] == handlers
    assert (tmp_path / "checkpoint-distill.safetensors").exists() == (last > 0)
    assert same(run(method, tmp_path), whole)
