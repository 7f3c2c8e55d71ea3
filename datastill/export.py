"""Write a network for other programs: a plain state dict, or ONNX with the normalization inside.

Where timm and torchvision have the same network (ResNet-18 with the large stem, VGG-11, all of
timm's own), the tensors get the names that they have there, else they keep their own.
"""

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from datastill.core.atomic import atomic_write
from datastill.core.errors import ConfigError
from datastill.images import Normalizer
from datastill.networks.alexnet import AlexNet
from datastill.networks.architecture import Network
from datastill.networks.convnet import ConvNet
from datastill.networks.mobilenet import MobileNet
from datastill.networks.resnet10 import ResNet10
from datastill.networks.resnet18 import ResNet18
from datastill.networks.timm import Timm
from datastill.networks.vgg11 import VGG11
from datastill.pretrained_network import PretrainedNetwork

LOAD = "network.load_state_dict(weights)"
EXPORTER = ("onnx", "onnxscript")  # what PyTorch's exporter imports
STATE_DICTS = {  # how Python reads them
    ".safetensors": ("from safetensors.torch import load_file", "weights = load_file({!r})"),
    ".pt": ("import torch", "weights = torch.load({!r}, weights_only=True)"),
}
# Parts of a residual block, and their names in timm and torchvision.
BLOCK = {
    "residual.0": "conv1",
    "residual.1": "bn1",
    "residual.3": "conv2",
    "residual.4": "bn2",
    "shortcut": "downsample",
}
# What sets our networks apart from those of timm and torchvision.
DIFFERENCES: Mapping[type, str] = {
    AlexNet: "all its convolutions have stride 1 and batch norm, and its head is one layer",
    ConvNet: "theirs have no blocks of convolution, norm, ReLU and average pooling",
    MobileNet: "its stem has stride 1, its blocks expand by 2 and have ReLU for ReLU6, and a 1x1"
    " convolution is the shortcut where channels change",
    ResNet10: "its stem is a 3x3 convolution of stride 1 without pooling, and it has one block in"
    " each stage",
    ResNet18: "theirs has the large stem and a width of 64",
    VGG11: "theirs has the widths 64, 128, 256, 512, 512",
}


def export_network(network: PretrainedNetwork | str | Path, file: str | Path) -> str:
    """Write a pre-trained network for other programs.

    Args:
        network: A pre-trained network, its file, or a folder with exactly one.
        file: The file to write. Its ending decides the format: .safetensors and .pt hold a plain
            state dict; .onnx holds a graph from uint8 images (B, C, S, S) to outputs (B, N), with
            the normalization inside.

    Returns:
        Lines of Python that load the file, with comments that say under which names the tensors
        stand and what the network expects.

    Raises:
        ConfigError: The file exists or has another ending, a package is missing, or the format
            cannot express the network.
        ArtefactError: There is no network, or it is damaged.
        DataError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> from datastill import ConvNet, Normalizer
        >>> network = ConvNet(widths=(8, 16))(image_size=8, channels=1, outputs=5)
        >>> pretrained = PretrainedNetwork(network, Normalizer((0.5,), (0.25,)), {})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text = export_network(pretrained, f"{folder}/network.pt")
        ...     sorted(torch.load(f"{folder}/network.pt", weights_only=True))[:2]
        ['body.0.bias', 'body.0.weight']
    """
    path = Path(file)
    _check(path)
    if not isinstance(network, PretrainedNetwork):
        network = PretrainedNetwork.load(network)
    if path.suffix == ".onnx":
        return _export_onnx(network, path)
    return _export_state_dict(network, path)


def _check(path: Path) -> None:
    """Refuse a file that cannot be written, before any work."""
    if path.suffix not in (*STATE_DICTS, ".onnx"):
        raise ConfigError(f"{path}: the ending must be {', '.join(STATE_DICTS)} or .onnx")
    if path.exists():
        raise ConfigError(f"{path} exists; remove it or choose another name")
    missing = [name for name in EXPORTER if importlib.util.find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        raise ConfigError(
            f"{path} needs {' and '.join(missing)}; install the extra: pip install"
            " 'datastill[onnx]'"
        )


@dataclass(frozen=True)
class Layout:
    """The names that the tensors of a network get in a state dict, and how they are loaded.

    Args:
        prefixes: Beginnings of the names in our network, and what replaces them in the file.
            Tensors with none of these prefixes are left out.
        code: Python lines that make `network` and load `weights` into it.
        note: Sentences for the user.
    """

    prefixes: Mapping[str, str]
    code: tuple[str, str, str]
    note: str


def _layout(network: Network) -> Layout:
    """Choose the names of timm and torchvision where they have the same network, else ours."""
    architecture, cls = network.architecture, type(network.architecture)
    classes = 0 if isinstance(network.head, nn.Identity) else network.outputs
    options = f"in_chans={network.channels}"
    libraries = "timm and torchvision.models" if network.channels == 3 else "timm"
    if isinstance(architecture, Timm) and architecture.enlarge_to is None:
        return _timm_layout(network, architecture.model, classes, options)
    if architecture in (ResNet18(stem="large"), ResNet18(stem="large", zero_init_residual=True)):
        constructor = f"timm.create_model('resnet18', num_classes={classes}, {options})"
        note = f"Keys and outputs are those of resnet18(num_classes={classes}) in {libraries}."
        return Layout(_resnet18_prefixes(), ("import timm", f"network = {constructor}", LOAD), note)
    if architecture == VGG11():
        constructor = f"timm.create_model('vgg11_bn', {options})"
        load = LOAD.replace("weights", "weights, strict=False") + "  # its classifier stays new"
        note = f"Keys and outputs of features.* are those of vgg11_bn in {libraries}, which have no"
        note += " place for head.*: their classifier has three layers, ours one."
        prefixes = {"body.": "features.", "head.": "head."}
        return Layout(prefixes, ("import timm", f"network = {constructor}", load), note)
    constructor = f"{architecture!r}(image_size={network.image_size}, channels={network.channels},"
    constructor += f" outputs={classes or None})"
    note = "Keys are those of datastill; timm and torchvision have no equal network"
    note += f": {DIFFERENCES[cls]}." if cls in DIFFERENCES else "."
    code = (f"from {cls.__module__} import {cls.__name__}", f"network = {constructor}", LOAD)
    return Layout({"": ""}, code, note)


def _resnet18_prefixes() -> dict[str, str]:
    prefixes = {"body.0.": "conv1.", "body.1.": "bn1.", "head.": "fc."}
    for block in range(8):
        for ours, theirs in BLOCK.items():
            stage, number = 1 + block // 2, block % 2
            prefixes[f"body.{4 + block}.{ours}."] = f"layer{stage}.{number}.{theirs}."
    return prefixes


def _timm_layout(network: Network, model: str, classes: int, options: str) -> Layout:
    """Return timm's own names; the head gets that of the model's classifier, if it is one layer."""
    body: Any = network.body
    prefixes, note = {"body.": ""}, f"Keys and outputs are those of timm's {model}"
    classifier = body.pretrained_cfg.get("classifier")
    if not isinstance(classifier, str) or getattr(getattr(body, "head", None), "use_conv", False):
        classes, note = 0, f"{note} without its classifier; the head is left out"
    elif classes:
        prefixes["head."] = f"{classifier}."
    if body.pretrained_cfg.get("fixed_input_size"):
        options += f", img_size={network.image_size}"
    constructor = f"timm.create_model({model!r}, num_classes={classes}, {options})"
    code = ("import timm", f"network = {constructor}", LOAD)
    return Layout(prefixes, code, f"{note}.")


def _export_state_dict(pretrained: PretrainedNetwork, path: Path) -> str:
    network, normalizer = pretrained.network, pretrained.normalizer
    if normalizer.zca is not None:
        raise ConfigError(
            f"{path}: the network expects whitened images, and a state dict cannot hold the"
            " whitening; export to .onnx, or use datastill.load_network"
        )
    layout = _layout(network)
    weights = {
        theirs + name.removeprefix(ours): tensor.detach().cpu().clone().contiguous()
        for name, tensor in network.state_dict().items()
        for ours, theirs in layout.prefixes.items()
        if name.startswith(ours)
    }
    about = {"normalisation": normalizer.statistics, "image_size": network.image_size}
    about |= {"provenance": pretrained.provenance}
    with atomic_write(path) as part:
        if path.suffix == ".pt":
            torch.save(weights, part)
        else:
            metadata = {"format": "pt", "datastill": json.dumps(about)}
            part.write_bytes(safetensors.torch.save(weights, metadata))
    reader, weights_line = STATE_DICTS[path.suffix]
    imports, constructor, load = layout.code
    mean, std = ([round(x, 6) for x in values] for values in normalizer.statistics.values())
    shape = f"(B, {network.channels}, {network.image_size}, {network.image_size})"
    note = f"Input: float32 {shape}, pixels in [0, 1] minus {mean}, divided by {std} per channel."
    lines = [f"# {layout.note}", f"# {note}", imports, reader]
    return "\n".join([*lines, weights_line.format(str(path)), constructor, load, "network.eval()"])


class _FromBytes(nn.Module):
    """A network with its normalization; the constants are buffers, which exporters understand."""

    mean: Tensor
    std: Tensor
    zca_mean: Tensor
    zca_matrix: Tensor

    def __init__(self, network: Network, normalizer: Normalizer) -> None:
        super().__init__()
        self.network = deepcopy(network).cpu()
        self.register_buffer("mean", torch.tensor(normalizer.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(normalizer.std)[:, None, None])
        self.zca = normalizer.zca
        if self.zca is not None:
            self.register_buffer("zca_mean", self.zca.mean.cpu())
            self.register_buffer("zca_matrix", self.zca.matrix.cpu())

    def forward(self, images: Tensor) -> Tensor:  # uint8 (B, C, S, S) -> (B, outputs)
        x = (images.float() / 255 - self.mean) / self.std
        if self.zca is not None:
            x = ((x.flatten(1) - self.zca_mean) @ self.zca_matrix).view_as(x)
        outputs: Tensor = self.network(x)
        return outputs


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what PyTorch's exporter prints and warns about its own parts."""
    ignored = io.StringIO()
    with (
        contextlib.redirect_stdout(ignored),
        contextlib.redirect_stderr(ignored),
        warnings.catch_warnings(action="ignore"),
    ):
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _export_onnx(pretrained: PretrainedNetwork, path: Path) -> str:
    network = pretrained.network
    module = _FromBytes(network, pretrained.normalizer).eval()
    shape = (network.channels, network.image_size, network.image_size)
    try:
        with _silence():
            program: Any = torch.onnx.export(
                module,
                (torch.zeros(2, *shape, dtype=torch.uint8),),
                input_names=["images"],
                output_names=["outputs"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConfigError(
            f"{path}: ONNX cannot express {network.architecture}: {reason}"
        ) from error
    with atomic_write(path) as part:
        program.save(part)
    lines = [
        f"# Input: uint8 (B, {', '.join(map(str, shape))}); the normalization is inside.",
        f"# Output: (B, {network.outputs}).",
        "import onnxruntime",
        f"session = onnxruntime.InferenceSession({str(path)!r})",
        'outputs = session.run(None, {"images": images})[0]',
    ]
    return "\n".join(lines)
