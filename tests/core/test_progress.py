"""Progress on a terminal and in a log."""

import os
import pty
import subprocess
import sys
import threading

import pytest

from datastill.core import progress
from datastill.core.progress import logger, progress_bar, set_verbosity

NESTED = """
import time
from datastill.core.progress import progress_bar, logger
with progress_bar("distill", 0, 10, "steps") as outer:
    outer.update(5, {"outer_loss": 0.5})
    with progress_bar("probe", 0, 3, "images"):
        time.sleep(0.5)
        logger.info("a line")
print("result")
"""


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_set_verbosity__quiet_shows_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    logger.info("hello")
    set_verbosity("quiet")
    logger.info("not this")
    logger.warning("beware")
    set_verbosity("normal")
    assert capsys.readouterr() == ("", "hello\nbeware\n")


def test_progress_bar__log_gets_plain_lines(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with progress_bar("distill", 10, 110, "steps") as reporter:
        clock.now += 5
        reporter.update(20, {"outer_loss": 0.123456, "age": 3})
    assert capsys.readouterr().err == (
        "distill 20/110 steps  2.0 steps/s  outer_loss 0.1235  age 3  45 s left\n"
    )


def test_progress_bar__log_line_is_due_after_a_second_then_often_then_rarely(
    clock: Clock,
) -> None:
    with progress_bar("distill", 0, 10) as reporter:
        for seconds in (1, 1.5, 1.5):
            clock.now += seconds - 0.1
            assert not reporter.due()
            clock.now += 0.2
            assert reporter.due()
            reporter.update(1, {})
        clock.now += 1000
        reporter.update(2, {})
        clock.now += 59
        assert not reporter.due()


def test_progress_bar__a_line_is_due_although_reminders_came_in_between(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with progress_bar("distill", 0, 10) as reporter:
        clock.now += 2
        reporter.update(1, {})
        clock.now += 1.4
        reporter._show()  # as the thread does that repeats the last line
        clock.now += 1.4
        assert reporter.due()
    assert capsys.readouterr().err.count("distill 1/10") == 2


def test_progress_bar__shows_a_line_before_the_first_step_ends(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with progress_bar("distill", 0, 10, "images"):
        clock.now += 2
        threading.Event().wait(0.5)
    assert capsys.readouterr().err == "distill 0/10 images  starting  unknown time left\n"


def test_progress_bar__terminal_gets_bars_also_within_each_other_and_lines_above_them() -> None:
    leader, terminal = pty.openpty()
    command = [sys.executable, "-c", NESTED]
    done = subprocess.run(command, stderr=terminal, stdout=subprocess.PIPE, text=True, check=True)
    os.close(terminal)
    shown = os.read(leader, 10**6).decode()
    os.close(leader)
    assert done.stdout == "result\n"
    assert "5/10 steps" in shown and "0/3 images" in shown and "a line" in shown


@pytest.mark.parametrize("stderr", ["closed pipe", "full disk", "none"])
def test_logger__lost_stderr_ends_nothing(stderr: str) -> None:
    code = "from datastill.core.progress import logger\n"
    code += "for _ in range(9): logger.info('x')\nprint('done')"
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full, os.fdopen(writer, "w") as broken:  # noqa: PTH123
        target = full if stderr == "full disk" else broken
        shell = ["sh", "-c", '"$0" "$@" 2>&-'] if stderr == "none" else []
        done = subprocess.run(
            [*shell, sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=target,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "done\n")
