"""Where and how networks compute: device, number format and memory layout, in one value.

Kernels and their solves never use it: they run in float64 on the same device.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from datastill.ground.errors import ConfigError
from datastill.ground.memory import exhausted

Module = TypeVar("Module", bound=nn.Module)
PrecisionName = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Machine:
    """Networks on `device`, in float32 or with bfloat16 autocast; channels-last either way."""

    device: str = "cpu"
    precision: PrecisionName = "float32"

    @staticmethod
    def find(device: str = "auto", precision: PrecisionName = "float32") -> "Machine":
        """`auto` takes a CUDA device where there is one; else `cpu`, `cuda` or `cuda:NUMBER`.

        Raises:
            ConfigError: the device does not exist here.
        """
        there = torch.cuda.is_available()
        if device == "auto":
            return Machine("cuda" if there else "cpu", precision)
        kind, _, number = device.partition(":")
        if kind not in ("cpu", "cuda") or not (number.isdigit() or device == kind):
            raise ConfigError(f"--device {device}: choose auto, cpu, cuda or cuda:NUMBER")
        if kind == "cuda" and not there:
            raise ConfigError(
                f"--device {device}: PyTorch sees no CUDA device here; use cpu or auto"
            )
        if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
            raise ConfigError(f"--device {device}: there are {torch.cuda.device_count()} devices")
        return Machine(device, precision)

    def place(self, network: Module) -> Module:
        """Move a network here, in place, into the channels-last layout; return it."""
        network.to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

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

        Where memory runs out the images go in halves, and these in halves again; the outputs are
        equal but for rounding.
        """
        try:
            return self.run(network, x)
        except (MemoryError, RuntimeError) as error:
            if len(x) == 1 or not exhausted(error):
                raise
        return torch.cat([self.run_each(network, half) for half in x.chunk(2)])
