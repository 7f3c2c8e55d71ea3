"""Device, number format, memory layout and ranks of network computations, in one value.

Kernel matrices and their solves do not use it: they run in float64 on the same device.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

import torch
from torch import Tensor, nn

from datastill.core.errors import ConfigError, is_out_of_memory
from datastill.core.options import check_bounds
from datastill.core.ranks import Ranks

Module = TypeVar("Module", bound=nn.Module)
PrecisionName = Literal["float32", "bfloat16"]
PrecisionChoice = PrecisionName | Literal["auto"]

CHUNK_PIXELS = 2**16  # on a CPU: larger maps fit neither into caches nor into freed memory

SHARE_OF_FREE = 0.5  # of a GPU's memory, for copies of data: networks need memory too


@dataclass(frozen=True)
class Machine:
    """Run networks on one device, in float32 or with bfloat16 autocast, always channels-last.

    Args:
        device: "cpu", "cuda" or "cuda:NUMBER".
        precision: "float32" or "bfloat16".
        ranks: The ranks that share the work, and which of them this process is.
        chunk_pixels: Pixels (images x height x width) that a CPU evaluates at once.

    Raises:
        ConfigError: A value has the wrong type.

    Example:
        >>> machine = Machine.find("cpu")
        >>> network = machine.to_device(nn.Conv2d(3, 8, 3))
        >>> machine.forward(network, torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 8, 14, 14])
    """

    device: str = "cpu"
    precision: PrecisionName = "float32"
    ranks: Ranks = Ranks()
    chunk_pixels: int = CHUNK_PIXELS

    def __post_init__(self) -> None:
        check_bounds(self)

    @staticmethod
    def find(
        device: str = "auto",
        precision: PrecisionChoice = "float32",
        ranks: Ranks | None = None,
    ) -> "Machine":
        """Choose a device and a precision that exist here.

        Args:
            device: "cpu", "cuda" or "cuda:NUMBER"; "auto" takes a CUDA device where there is one.
                Each of many ranks takes a CUDA device of its own, unless a number is given.
            precision: "auto" takes bfloat16 where the device has instructions for it.
            ranks: The ranks that share the work. Default: this process alone.

        Returns:
            A machine whose device is not "auto".

        Raises:
            ConfigError: The device does not exist here.
        """
        has_cuda, ranks = torch.cuda.is_available(), ranks or Ranks()
        if device == "auto":
            device = "cuda" if has_cuda else "cpu"
        if device == "cuda" and ranks.size > 1:
            device = f"cuda:{ranks.local}"
        device_type, _, number = device.partition(":")
        if device_type not in ("cpu", "cuda") or not (number.isdigit() or device == device_type):
            raise ConfigError(f"--device {device}: choose auto, cpu, cuda or cuda:NUMBER")
        if device_type == "cuda" and not has_cuda:
            raise ConfigError(
                f"--device {device}: PyTorch sees no CUDA device here; use cpu or auto"
            )
        if device_type == "cuda" and int(number or 0) >= (count := torch.cuda.device_count()):
            raise ConfigError(f"--device {device}: PyTorch sees {count} CUDA devices, from cuda:0")
        if precision == "auto":
            precision = "bfloat16" if _has_bfloat16(device_type) else "float32"
        if device_type == "cuda":
            _set_cuda_arithmetic(precision)
        return Machine(device, precision, ranks)

    @overload
    def to_device(self, x: Tensor) -> Tensor: ...
    @overload
    def to_device(self, x: Module) -> Module: ...
    def to_device(self, x: Any) -> Any:
        """Move a network (in place, into the channels-last layout) or copy a tensor to the device.

        A copy from the host does not wait for the work that is queued on the device.
        """
        if isinstance(x, Tensor):
            return x.to(self.device, non_blocking=True)
        x.to(self.device, non_blocking=True)
        return x.to(memory_format=torch.channels_last)

    def forward(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Compute `network(x)` in this precision, as float32; images are (B, C, H, W)."""
        x = x.contiguous(memory_format=torch.channels_last)
        if self.precision == "float32":
            return network(x)
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16):
            out = network(x)
        return out.float()

    @torch.no_grad()
    def forward_in_chunks(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Compute like `forward`, in chunks and without gradients; networks treat images singly.

        A CPU takes as many images at once as it is fastest with. Where memory runs out, a chunk is
        halved, and halved again; the outputs are equal but for rounding.
        """
        if len(x) > (size := self.images_per_chunk(x.shape[2:].numel())):
            return torch.cat(
                [self.forward_in_chunks(network, chunk) for chunk in torch.split(x, size)]
            )
        try:
            return self.forward(network, x)
        except (MemoryError, RuntimeError) as error:
            if len(x) == 1 or not is_out_of_memory(error):
                raise
        return torch.cat([self.forward_in_chunks(network, half) for half in x.chunk(2)])

    def images_per_chunk(self, pixels: int) -> int:
        """Return how many images of so many pixels `forward_in_chunks` takes at once."""
        return max(1, self.chunk_pixels // pixels) if self.device == "cpu" else sys.maxsize


def fits_in_memory(needed_bytes: float, device: str) -> bool:
    """Return whether a device has room for data that could stay on the host; a CPU always has."""
    if not device.startswith("cuda"):
        return True
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return needed_bytes <= SHARE_OF_FREE * (torch.cuda.mem_get_info(device)[0] + reserved)


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


def _has_bfloat16(device_type: str) -> bool:
    """Return whether a device has instructions for bfloat16, which is slower without them."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # since 2.7
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
