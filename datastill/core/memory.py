"""How much of a GPU's memory may be used to avoid copies from the host."""

import torch

SHARE_OF_FREE = 0.5  # for what could stay on the host as well: networks need memory too


def fits_in_memory(needed_bytes: float, device: str) -> bool:
    """Whether a device has room for data that could stay on the host; a CPU always has."""
    if not device.startswith("cuda"):
        return True
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return needed_bytes <= SHARE_OF_FREE * (torch.cuda.mem_get_info(device)[0] + reserved)
