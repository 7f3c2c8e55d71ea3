"""Store a distilled set in a smaller file: coded images and targets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from datastill.cli.parser import CommandParser
from datastill.cli.shared_flags import StoredForm, chosen, compression, saved
from datastill.core.options import Json, option, to_json
from datastill.core.progress import logger
from datastill.core.run_folder import RunFolder
from datastill.distilled_set import DistilledSet
from datastill.stored_form.compression import Compression

EXAMPLE = "datastill compress runs/mine --bytes 80kB --out sets/small"


@dataclass(frozen=True)
class Compress:
    """Flags of `datastill compress` beside those of the stored form."""

    out: str = option("", "run folder to write")


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser("compress", arguments, __doc__, EXAMPLE, required=("set", "out"))
    parser.add_positional("set", "distilled set (file or run folder)")
    parser.add_options(Compress)
    parser.add_options(StoredForm, title="stored form")
    return parser


def run(config: Json) -> None:
    """Compress the set, and print the path of the artefact."""
    flags, options = chosen(Compress, config), compression(config) or Compression()
    RunFolder.check(flags.out, saved(config), resume=False)
    distilled = DistilledSet.load(config["set"])
    small = distilled.compress(**to_json(options))
    folder = RunFolder.open(
        flags.out, saved(config), resume=False, data={"distilled set": distilled.fingerprint}
    )
    small.save(folder.path / "distilled.safetensors")
    logger.info(_summary(distilled, small))
    print(folder.path / "distilled.safetensors")


def _summary(before: DistilledSet, after: DistilledSet) -> str:
    """Describe what was chosen, and what was lost."""
    form = after.provenance["stored"]
    quality = f", quality {form['quality']}" if "quality" in form else ""
    components = f" of {form['components']} components" if "components" in form else ""
    error = float((after.unit_pixels() - before.unit_pixels()).square().mean())
    psnr = -10 * math.log10(error) if error else math.inf
    return (
        f"{len(after)} images by {form['codec']}{quality} at {form['size']} pixels (PSNR"
        f" {psnr:.1f} dB), {form['targets']} targets{components}: {after.num_bytes:,} bytes, before"
        f" {before.num_bytes:,}; fingerprint {after.fingerprint[:16]}"
    )
