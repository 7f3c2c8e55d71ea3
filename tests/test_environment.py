"""The environment that `make` uses is of the Python that was asked for, and made anew else."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "environment"
# An interpreter that says who it is, or that it is too old, and makes environments of itself.
INTERPRETER = """#!/bin/sh
case "$1" in
-c) [ "$(basename "$0")" != old ] && tail -n 1 "$0" ;;
-m) mkdir -p "$3/bin" && touch "$3/pyvenv.cfg" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/pip" ;;
esac
exit
# {name}
"""


@pytest.fixture
def interpreters(tmp_path: Path) -> Path:
    """A folder with interpreters of three versions."""
    folder = tmp_path / "interpreters"
    folder.mkdir()
    for name in ("python3", "python3.12", "old"):
        (folder / name).write_text(INTERPRETER.format(name=name))
        (folder / name).chmod(0o755)
    return folder


def environment(interpreters: Path, python: str = "") -> tuple[int, str]:
    """Run the script on the folder `env`; its exit code and what it said."""
    variables = {**os.environ, "PATH": f"{interpreters}:{os.environ['PATH']}", "PYTHON": python}
    done = subprocess.run(
        [SCRIPT, interpreters.parent / "env"], env=variables, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def made_by(interpreters: Path) -> str:
    python = interpreters.parent / "env" / "bin" / "python"
    return python.read_text().splitlines()[-1].removeprefix("# ")


def test_environment__is_made_once(interpreters: Path) -> None:
    assert environment(interpreters) == (0, "")
    assert made_by(interpreters) == "python3"
    (interpreters.parent / "env" / "mark").touch()
    assert environment(interpreters) == environment(interpreters, "python3") == (0, "")
    assert (interpreters.parent / "env" / "mark").exists()


def test_environment__of_another_python_is_made_anew(interpreters: Path) -> None:
    environment(interpreters)
    code, said = environment(interpreters, "python3.12")
    assert code == 0 and "made anew" in said
    assert made_by(interpreters) == "python3.12"
    assert environment(interpreters) == (0, "")  # none was asked for: it stays
    assert made_by(interpreters) == "python3.12"


@pytest.mark.parametrize("name", ["python", "pip"])
def test_environment__that_is_incomplete_is_made_anew(interpreters: Path, name: str) -> None:
    environment(interpreters, "python3.12")
    program = interpreters.parent / "env" / "bin" / name
    program.unlink()
    program.symlink_to(interpreters / "gone")
    code, said = environment(interpreters)
    assert code == 0 and "made anew" in said
    assert made_by(interpreters) == "python3"


@pytest.mark.parametrize("python", ["old", "nonesuch"])
def test_environment__python_that_cannot_be_used_is_named(interpreters: Path, python: str) -> None:
    environment(interpreters)
    code, said = environment(interpreters, python)
    assert code == 2 and f"{python} is not Python 3.11 or newer" in said
    assert made_by(interpreters) == "python3"


def test_environment__other_folders_are_left_alone(interpreters: Path) -> None:
    (interpreters.parent / "env").mkdir()
    (interpreters.parent / "env" / "photo.png").touch()
    code, said = environment(interpreters)
    assert code == 2 and "is no virtual environment" in said
    assert (interpreters.parent / "env" / "photo.png").exists()
