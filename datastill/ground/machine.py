"""Where and how networks compute: device, number format, memory layout and ranks, in one value.

Kernels and their solves never use it: they run in float64 on the same device.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from datastill.ground.errors import ConfigError, exhausted
from datastill.ground.world import World

Module = TypeVar("Module", bound=nn.Module)
PrecisionName = Literal["float32", "bfloat16"]
PrecisionChoice = PrecisionName | Literal["auto"]

PIXELS_AT_ONCE = 2**16  # on a CPU: larger maps are neither kept in caches nor in the allocator


@dataclass(frozen=True)
class Machine:
    """Networks on `device`, in float32 or with bfloat16 autocast; channels-last either way."""

    device: str = "cpu"
    precision: PrecisionName = "float32"
    world: World = World()  # the ranks among which work is shared, and which of them this one is
    pixels_at_once: int = PIXELS_AT_ONCE  # of images that a CPU only evaluates

    @staticmethod
    def find(
        device: str = "auto",
        precision: PrecisionChoice = "float32",
        world: World | None = None,
    ) -> "Machine":
        """`auto` takes a CUDA device where there is one; else `cpu`, `cuda` or `cuda:NUMBER`.

        As precision, `auto` takes bfloat16 where the device has instructions for it.
        Each of many ranks takes a CUDA device of its own, unless it is given a number.

        Raises:
            ConfigError: the device does not exist here.
        """
        there, world = torch.cuda.is_available(), world or World()
        if device == "auto":
            device = "cuda" if there else "cpu"
        if device == "cuda" and world.size > 1:
            device = f"cuda:{world.local}"
        kind, _, number = device.partition(":")
        if kind not in ("cpu", "cuda") or not (number.isdigit() or device == kind):
            raise ConfigError(f"--device {device}: choose auto, cpu, cuda or cuda:NUMBER")
        if kind == "cuda" and not there:
            raise ConfigError(
                f"--device {device}: PyTorch sees no CUDA device here; use cpu or auto"
            )
        if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
            raise ConfigError(f"--device {device}: there are {torch.cuda.device_count()} devices")
        if precision == "auto":
            precision = "bfloat16" if _has_bfloat16(kind) else "float32"
        if kind == "cuda":
            _set_cuda_arithmetic(precision)
        return Machine(device, precision, world)

    def place(self, network: Module) -> Module:
        """Move a network here, in place, into the channels-last layout; return it."""
        network.to(self.device, non_blocking=True)  # as `here`
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def here(self, x: Tensor) -> Tensor:
        """`x` on this device; what comes from the host does not wait for what is queued here."""
        return x.to(self.device, non_blocking=True)

    def run(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`network(x)` of images (B, C, H, W) that are here, in this precision, as float32."""
        x = x.contiguous(memory_format=torch.channels_last)
        if self.precision == "float32":
            return network(x)
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16):
            out = network(x)
        return out.float()

    @torch.no_grad()
    def run_each(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`run` where no image depends on the others: in evaluation mode, without gradients.

        A CPU takes as many images at once as it is fastest with. Where memory runs out they go in
        halves, and these in halves again; the outputs are equal but for rounding.
        """
        if len(x) > (few := self.images_at_once(x.shape[2:].numel())):
            return torch.cat([self.run_each(network, part) for part in torch.split(x, few)])
        try:
            return self.run(network, x)
        except (MemoryError, RuntimeError) as error:
            if len(x) == 1 or not exhausted(error):
                raise
        return torch.cat([self.run_each(network, half) for half in x.chunk(2)])

    def images_at_once(self, pixels: int) -> int:
        """How many images of so many pixels `run_each` gives a network at once, memory allowing."""
        return max(1, self.pixels_at_once // pixels) if self.device == "cpu" else sys.maxsize


def _set_cuda_arithmetic(precision: PrecisionName) -> None:
    """Choose for this process how CUDA computes in float32, and whether cuDNN tries algorithms.

    With "bfloat16", what stays in float32 (such as the projector of Barlow Twins) uses TF32, and
    cuDNN times its algorithms for each shape: fast, but not the same bits in every run. "float32"
    turns both off, so that a GPU agrees with a CPU to rounding.
    """
    fast = precision == "bfloat16"
    torch.backends.cuda.matmul.allow_tf32 = fast
    torch.backends.cudnn.allow_tf32 = fast
    torch.backends.cudnn.benchmark = fast


def _has_bfloat16(kind: str) -> bool:
    """Whether a device has instructions for bfloat16; without them it is the slower format."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # an older torch does not say
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
