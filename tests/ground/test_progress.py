"""Progress on a terminal and in a log."""

import sys

import pytest

from datastill.ground import progress
from datastill.ground.progress import reporting, say


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


def test_say__writes_one_line_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_reporter__log_gets_plain_lines(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with reporting("distill", 10, 110) as reporter:
        clock.now += 5
        reporter.update(20, {"outer_loss": 0.123456, "age": 3})
    assert capsys.readouterr().err == (
        "distill 20/110  2.0/s  outer_loss 0.1235  age 3  45 s left\n"
    )


def test_reporter__log_line_is_due_after_a_second_then_every_ten(clock: Clock) -> None:
    with reporting("distill", 0, 10) as reporter:
        clock.now += 0.9
        assert not reporter.due()
        clock.now += 0.2
        assert reporter.due()
        reporter.update(1, {})
        clock.now += 9
        assert not reporter.due()
        clock.now += 2
        assert reporter.due()


def test_reporter__terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with reporting("distill", 0, 10) as reporter:
        reporter.update(5, {"outer_loss": 0.5})
        assert not reporter.due()
    assert "left" not in capsys.readouterr().err
