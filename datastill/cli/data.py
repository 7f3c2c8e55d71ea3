"""Prepare a data set, or check its counts, classes, checksums and statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from datastill.cli.parser import CommandParser
from datastill.cli.shared_flags import DATA, DATA_ROOT, chosen, data_source, path_or_none
from datastill.core import lookup
from datastill.core.atomic import atomic_write
from datastill.core.errors import ConfigError
from datastill.core.options import Json, option
from datastill.core.progress import logger
from datastill.data.check import check, contact_sheet, prepare
from datastill.data.source import ImageSource
from datastill.picture_grid import picture_grid

ACTIONS = ("prepare", "check")
COLUMNS = 10  # of the contact sheet


@dataclass(frozen=True)
class Data:
    """Flags of `datastill data`."""

    data_root: str | None = option(None, DATA_ROOT)
    image_size: int | None = option(None, "pixels per side; default: the native size", at_least=1)
    sheet: str | None = option(
        None, "with check: PNG file for a contact sheet of the training split, a row per class"
    )


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        "data",
        arguments,
        __doc__,
        "datastill data check folder:my-photos --image-size 32",
        required=("action", "data"),
    )
    parser.add_positional("action", " or ".join(ACTIONS))
    parser.add_positional("data", DATA)
    parser.add_options(Data)
    return parser


def run(config: Json) -> None:
    """Print one line per split, or the results of the check as YAML."""
    lookup.check_name(config["action"], ACTIONS, kind="actions")
    flags, data = chosen(Data, config), data_source(config["data"])
    root = path_or_none(flags.data_root)
    if config["action"] == "check":
        summary = check(data, flags.image_size, root)
        if flags.sheet is not None:
            _draw_sheet(data, flags, Path(flags.sheet), root)
        print(yaml.safe_dump(summary, sort_keys=False, allow_unicode=True), end="")
        return
    if flags.sheet is not None:
        raise ConfigError("--sheet belongs to 'datastill data check'")
    for split, images in prepare(data, flags.image_size, root).items():
        official, path = data.official_count(split), data.prepared(split, images.image_size).path
        of_official = "" if official in (None, len(images)) else f" of {official}"
        location = path if path.is_file() else "no path: embedded"
        print(f"{split}: {len(images)}{of_official} images at {location}")


def _draw_sheet(data: ImageSource, flags: Data, sheet: Path, root: Path | None) -> None:
    """Draw the contact sheet of the training split, and print the classes of its rows."""
    train = data.load("train", flags.image_size, root)
    pixels, classes = contact_sheet(train, columns=COLUMNS)
    with atomic_write(sheet) as part:
        picture_grid(pixels, columns=COLUMNS).save(part, format="png")
    rows = f", rows from the top: {', '.join(classes)}" if classes else ""
    logger.info(f"{len(pixels)} images in {sheet}{rows}")
