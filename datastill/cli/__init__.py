"""The command line: one file per command; `parser` has what they share."""

from datastill.cli.main import main as main
