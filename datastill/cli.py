"""The command line.

Exit codes: 0 done; 2 bad input, in one message; 130 interrupted; 143 terminated; 1 a part of a
recipe that failed, or a defect. Results go to stdout, progress and messages to stderr.
"""

import contextlib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import TextIO

from datastill.command.help import overview
from datastill.command.understand import understand, verb_help
from datastill.flags import VERBS
from datastill.ground import lookup
from datastill.ground.errors import (
    ConfigError,
    DatastillError,
    DataWarning,
    NumericalWarning,
    exhausted,
)
from datastill.ground.signals import between_loops

HELP = ("-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        for category in (DataWarning, NumericalWarning):
            warnings.simplefilter("default", category)
        warnings.showwarning = _show_warning
        results = io.StringIO()
        try:
            with contextlib.redirect_stdout(results), between_loops():
                _run(words)
            return _write(results.getvalue())
        except DatastillError as error:
            _say(f"error: {error}")
            return error.exit_code
        except (MemoryError, RuntimeError) as error:
            if not exhausted(error):
                raise
            _say(f"error: memory ran out ({error}); lower --count or the batch, or free some")
            return 2
        except KeyboardInterrupt:
            resumes = "--resume continues from the last checkpoint"
            _say(f"interrupted; {resumes}" if _resumes(words) else "interrupted")
            return 130


def _run(words: list[str]) -> None:
    if not words or words[0] in (*HELP, "help"):
        print(overview())
        return
    if words[0] == "--version":
        print(version("datastill"))
        return
    verb, rest = words[0], words[1:]
    lookup.check_name(verb, VERBS, kind="verbs")
    if any(word in HELP for word in rest):
        print(verb_help(verb, [word for word in rest if word not in HELP]))
        return
    _check_ranks(verb)
    command = understand(verb, rest)
    importlib.import_module(f"datastill.verbs.{verb}").main(command)


def _check_ranks(verb: str) -> None:
    """Refuse torchrun where every process would do the same, into the same folder."""
    ranks = os.environ.get("WORLD_SIZE", "1") if "TORCHELASTIC_RUN_ID" in os.environ else "1"
    if ranks != "1" and not VERBS[verb].ranks:
        shared = ", ".join(name for name, known in VERBS.items() if known.ranks)
        raise ConfigError(
            f"datastill {verb} does not share its work among {ranks} ranks; start it without"
            f" torchrun ({shared} share theirs)"
        )


def _resumes(words: Sequence[str]) -> bool:
    return bool(words) and words[0] in VERBS and hasattr(VERBS[words[0]].flags, "resume")


def _write(results: str) -> int:
    """Print the results; what could not be written is no success."""
    try:
        sys.stdout.write(results)
        sys.stdout.flush()
    except OSError as error:
        # keep the interpreter from flushing once more, and from complaining, at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
            return 0
        _say(f"error: the output cannot be written: {error.strerror}")
        return 2
    return 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, DataWarning | NumericalWarning):
        _say(f"warning: {message}")
    else:  # of somebody else: with its place
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr)


def _say(text: str) -> None:
    print(f"datastill: {text}", file=sys.stderr)
