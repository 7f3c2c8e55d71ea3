"""Convert a distilled set of another project, or a folder of images, into an artefact."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datastill.cli.parser import CommandParser
from datastill.cli.shared_flags import (
    DATA_ROOT,
    DEVICE,
    chosen,
    component,
    data_source,
    path_or_none,
    saved,
)
from datastill.convert.conversion import FORMATS, convert, guess_format
from datastill.convert.format import Metadata
from datastill.core.errors import ConfigError
from datastill.core.machine import Machine
from datastill.core.options import Json, option
from datastill.core.progress import logger
from datastill.core.run_folder import RunFolder
from datastill.distilled_set import PixelSpace, TargetKind
from datastill.images import Normalizer
from datastill.target_model import TargetModel

EXAMPLE = "datastill convert res_DSA_CIFAR10_ConvNet_10ipc.pt --data cifar10 --out sets/dsa"
IMPLIED = "default: what the format implies"
CHANNELS = "per channel, of pixels in [0, 1]; default: by --data"


@dataclass(frozen=True)
class Convert:
    """Flags of `datastill convert` beside those of the format."""

    data: str | None = option(
        None, "data set that was distilled; its statistics and classes are used"
    )
    data_root: str | None = option(None, DATA_ROOT)
    source: str | None = option(
        None, "name of the distilled data set, if datastill does not have it"
    )
    method: str | None = option(None, f"method that made the set; {IMPLIED}")
    mean: tuple[float, ...] = option((), CHANNELS)
    std: tuple[float, ...] = option((), CHANNELS, above=0)
    pixel_space: PixelSpace | None = option(None, f"how networks get the images; {IMPLIED}")
    target_kind: TargetKind | None = option(None, f"what the targets are; {IMPLIED}")
    num_classes: int | None = option(None, "K of hard labels; default: of the data", at_least=1)
    target: str | None = option(None, "target model that makes the targets of a folder of images")
    device: str = option("auto", DEVICE)
    out: str = option("", "run folder to write")


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser("convert", arguments, __doc__, EXAMPLE, required=("path", "out"))
    parser.add_positional("path", "file or folder to read")
    parser.add_options(Convert)
    parser.add_component("format", FORMATS)
    return parser


def run(config: Json) -> None:
    """Convert the set, and print the path of the artefact."""
    flags, path = chosen(Convert, config), Path(config["path"])
    RunFolder.check(flags.out, saved(config), resume=False)
    file_format = component(FORMATS, config["format"]) if "format" in config else guess_format(path)
    data = data_source(flags.data) if flags.data else None
    metadata = Metadata(
        flags.method,
        flags.source or (data.name if data else None),
        flags.pixel_space,
        flags.target_kind,
        flags.num_classes,
        _normalizer(flags),
    )
    machine = Machine.find(flags.device)
    target = TargetModel.load(flags.target, machine) if flags.target else None
    root = path_or_none(flags.data_root)
    distilled = convert(path, file_format, metadata, data=data, data_root=root, target=target)
    folder = RunFolder.open(flags.out, saved(config), resume=False)
    distilled.save(folder.path / "distilled.safetensors")
    logger.info(f"{len(distilled)} distilled images, fingerprint {distilled.fingerprint[:16]}")
    print(folder.path / "distilled.safetensors")


def _normalizer(flags: Convert) -> Normalizer | None:
    if len(flags.mean) != len(flags.std):
        raise ConfigError(
            f"--mean {flags.mean} --std {flags.std}: expected one number of each per channel"
        )
    return Normalizer(flags.mean, flags.std) if flags.mean else None
