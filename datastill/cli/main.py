"""Entry point of the command line.

Exit codes: 0 success; 1 a part of a recipe failed, or a bug; 2 invalid input, reported in one
message; 130 interrupted; 143 terminated. Results are printed to stdout, messages to stderr.
"""

import contextlib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import datastill
from datastill.core import errors, lookup
from datastill.core.progress import set_verbosity
from datastill.core.signals import default_signal_handlers

TITLE = "datastill: self-supervised dataset distillation for transfer learning"
HELP = ("-h", "--help")
VERBOSITY = {"--quiet": "warnings and errors only", "--verbose": "more details, with the time"}
COMMANDS = {
    "Whole experiments": {
        "run": "Run a recipe: target model, distilled sets, transfer table and report.",
        "estimate": "Measure how much time, memory and disk a recipe will need on this machine.",
    },
    "Step by step": {
        "target": "Train a target model on images.",
        "distill": "Distill images into a small set of images and targets.",
        "pretrain": "Pre-train networks on a distilled set and keep them.",
        "transfer": "Pre-train networks on distilled sets and evaluate them on labelled data.",
        "report": "Summarize any number of run folders in tables, figures and a web page.",
    },
    "Files and data": {
        "export": "Write a pre-trained network as a state dict or ONNX for other programs.",
        "convert": "Convert a distilled set of another project, or a folder of images.",
        "compress": "Store a distilled set in a smaller file.",
        "data": "Prepare a data set, or check its images, classes and checksums.",
        "show": "Describe a distilled set, target model or checkpoint, and verify its checksum.",
        "list": "List methods, networks, data sets, tasks, recipes, ...; with a name, its options.",
    },
}
HINT = """'datastill COMMAND --help' explains the flags of a command, 'datastill list' shows
the methods, data sets and other components; --quiet and --verbose log less and more.
Start with: datastill run quick"""
NAMES = [name for commands in COMMANDS.values() for name in commands]
SHARE_RANKS = ("target", "distill", "transfer")  # the processes of torchrun divide their work
RESUMABLE = ("run", "pretrain", *SHARE_RANKS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after `datastill`. Default: those of the process.

    Returns:
        The exit code.

    Example:
        >>> main(["show", "nowhere.safetensors"])
        2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        for category in (errors.DataWarning, errors.NumericalWarning):
            warnings.simplefilter("default", category)
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        results = io.StringIO()
        try:
            with contextlib.redirect_stdout(results), default_signal_handlers():
                _run(arguments)
            return _write(results.getvalue())
        except errors.DatastillError as error:
            _print_message(f"error: {error}")
            return error.exit_code
        except (MemoryError, RuntimeError) as error:
            if not errors.is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
            _print_message(f"error: memory ran out ({reason}); lower --count or the batch size")
            return 2
        except KeyboardInterrupt:
            hint = "; --resume continues from the last checkpoint, if there is one"
            _print_message(f"interrupted{hint if set(arguments[:1]) & set(RESUMABLE) else ''}")
            return 130
        finally:
            set_verbosity("normal")


def _run(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in (*HELP, "help"):
        print(_help())
        return
    if arguments[0] == "--version":
        print(datastill.__version__)
        return
    name, *rest = arguments
    lookup.check_name(name, NAMES, kind="commands")
    command = importlib.import_module(f"datastill.cli.{name}")
    parser = command.make_parser([word for word in rest if word not in (*HELP, *VERBOSITY)])
    if not set(HELP).isdisjoint(rest):
        switches = [f"  {flag:33s}{text}" for flag, text in VERBOSITY.items()]
        print("\n".join([parser.help(), "", "every command:", *switches]))
        return
    if "--quiet" in rest or "--verbose" in rest:
        set_verbosity("verbose" if "--verbose" in rest else "quiet")
    _check_ranks(name)
    command.run(parser.parse())


def _help() -> str:
    """Return one line for each command."""
    sections = [
        "\n".join([f"{title}:", *(f"  {name:10s}{text}" for name, text in commands.items())])
        for title, commands in COMMANDS.items()
    ]
    return "\n\n".join([TITLE, "usage: datastill COMMAND ...", *sections, HINT])


def _check_ranks(name: str) -> None:
    """Refuse torchrun where every process would do the same work in the same folder."""
    ranks = os.environ.get("WORLD_SIZE", "1") if "TORCHELASTIC_RUN_ID" in os.environ else "1"
    if ranks != "1" and name not in SHARE_RANKS:
        raise errors.ConfigError(
            f"datastill {name} does not share its work among {ranks} ranks; start it without"
            f" torchrun ({', '.join(SHARE_RANKS)} share theirs)"
        )


def _write(results: str) -> int:
    """Print the results; failing to do so is an error."""
    try:
        sys.stdout.write(results)
        sys.stdout.flush()
    except OSError as error:
        # Keep the interpreter from flushing again at its exit, which would print another error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # a reader such as `head` has closed the pipe
            return 0
        _print_message(f"error: the output cannot be written: {error.strerror}")
        return 2
    return 0


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any
) -> None:
    if issubclass(category, errors.DataWarning | errors.NumericalWarning):
        _print_message(f"warning: {message}")
    else:  # third-party warning: show file and line
        print(warnings.formatwarning(message, category, filename, lineno), file=sys.stderr)


def _print_message(text: str) -> None:
    print(f"datastill: {text}", file=sys.stderr)
