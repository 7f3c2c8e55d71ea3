"""Export a pre-trained network: a plain state dict, or ONNX with the normalization inside.

Prints the lines of Python that load the file, and how the network differs from those of other
libraries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from datastill.cli.parser import CommandParser
from datastill.cli.shared_flags import chosen
from datastill.core.options import Json, option
from datastill.export import export_network

EXAMPLE = "datastill export runs/network --to network.safetensors"


@dataclass(frozen=True)
class Export:
    """Flags of `datastill export`."""

    to: str = option("", "file to write: .safetensors or .pt (a state dict), or .onnx")


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser("export", arguments, __doc__, EXAMPLE, required=("network", "to"))
    parser.add_positional("network", "file of a pre-trained network, or a folder with one")
    parser.add_options(Export)
    return parser


def run(config: Json) -> None:
    """Write the file and print how to load it."""
    print(export_network(config["network"], chosen(Export, config).to))
