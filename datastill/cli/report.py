"""Summarize run folders in table.md, table.csv, table.tex, report.html and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datastill.cli.parser import CommandParser
from datastill.cli.shared_flags import chosen
from datastill.core.errors import ConfigError
from datastill.core.options import Json, option
from datastill.core.progress import logger
from datastill.report.build import build


@dataclass(frozen=True)
class Report:
    """Flags of `datastill report`."""

    out: str = option("report", "folder for the files")
    format: Literal["md", "csv", "tex"] = option("md", "format of the table that is printed")


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        "report", arguments, __doc__, "datastill report runs/mine", required=("folders",)
    )
    parser.add_positional("folders", "run folders, searched to any depth", many=True)
    parser.add_options(Report)
    return parser


def run(config: Json) -> None:
    """Write the files and print the table."""
    flags, folders = chosen(Report, config), [Path(text) for text in config["folders"]]
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise ConfigError(f"there is no folder {', '.join(missing)}; give run folders")
    files = build(folders, Path(flags.out))
    table = {"md": files.table_markdown, "csv": files.table_csv, "tex": files.table_latex}
    print(table[flags.format].read_text(encoding="utf-8"), end="")
    logger.info(f"{files.headline}\nreport: {files.page}")
