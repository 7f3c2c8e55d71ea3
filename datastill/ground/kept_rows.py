"""Rows of numbers that are made once and then kept: in memory, on a device, or in a file.

What is kept is known to the host, so that looking rows up never waits for a device.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from datastill.ground.checked_rows import CheckedRows
from datastill.ground.memory import has_room
from datastill.ground.progress import say


@dataclass(eq=False)
class KeptRows:
    """`count` rows of (D,) numbers, the first `room` of which may be kept."""

    count: int
    room: int
    like: Tensor  # (0, D): type and width of the rows, and the device that they are wanted on
    file: CheckedRows | None = None  # what is kept outlives the process, and is shared with others
    left: int = field(init=False)  # rows that are not kept yet
    known: Tensor = field(init=False)  # (count,) bool, on the host: rows that are in `memory`
    memory: Tensor = field(init=False)  # (room, D), or (count, D) where it is the file itself
    mapped: bool = field(init=False)  # whether it is

    def __post_init__(self) -> None:
        self.left, self.known = self.count, torch.zeros(self.count, dtype=torch.bool)
        device, width = self.like.device, self.like.shape[1]
        if device.type != "cpu" and not has_room(self.room * self.row_bytes, str(device)):
            device = torch.device("cpu")
        self.mapped = self.file is not None and device.type == "cpu"
        if self.file is not None and self.mapped:
            self.memory = torch.from_numpy(self.file.map()).view(self.like.dtype)
        else:
            self.memory = self.like.new_empty(self.room, width, device=device)

    @property
    def whole(self) -> bool:
        """Whether all rows are kept: nothing needs to be found then."""
        return self.left == 0

    @property
    def row_bytes(self) -> int:
        return self.like.shape[1] * self.like.element_size()

    def find(self, row: Tensor) -> Tensor:  # (n,) int64, on the host -> (n,) bool, on the host
        """Which rows are kept; those that others have put into the file are taken over."""
        if self.file is not None and not self.known[row].all():
            asked = torch.unique(row[~self.known[row] & (row < self.room)])
            try:
                self._take_over(self.file, asked[torch.from_numpy(self.file.sound(asked.numpy()))])
            except OSError as error:
                self._give_up(self.file, error)
        return self.known[row]

    def get(self, row: Tensor) -> Tensor:  # (n,) int64 -> (n, D)
        """Rows that are kept, on the device that they are wanted on."""
        row = row.to(self.memory.device, non_blocking=True)
        return self.memory[row].to(self.like.device, non_blocking=True)

    def put(self, row: Tensor, values: Tensor) -> None:  # (n,) different ones, (n, D)
        """Keep rows, but for those beyond the room and those with values that are not finite."""
        keep = ((row < self.room) & values.isfinite().all(1).cpu()).nonzero().flatten()
        row, values = row[keep], values[keep.to(values.device, non_blocking=True)]
        if self.file is not None:
            try:
                self.file.write(row.numpy(), values.cpu().view(torch.uint8).numpy())
            except OSError as error:
                self._give_up(self.file, error)
        if self.mapped:
            row = row[row < self.room]
        else:
            self._set(row, values)
        self._note(row)

    def _take_over(self, file: CheckedRows, row: Tensor) -> None:
        if not self.mapped:
            values = torch.from_numpy(file.map()).view(self.like.dtype)[row]
            self._set(row, values)
        self._note(row)

    def _set(self, row: Tensor, values: Tensor) -> None:
        there = self.memory.device
        self.memory[row.to(there, non_blocking=True)] = values.to(there)

    def _note(self, row: Tensor) -> None:
        self.left -= int((~self.known[row]).sum())
        self.known[row] = True

    def _give_up(self, file: CheckedRows, error: OSError) -> None:
        """Go on without the file, and so without room where the memory is the file."""
        self.file, self.room = None, 0 if self.mapped else self.room
        say(
            f"{file.folder} cannot be used on: {error.strerror or error}; what it lacks is"
            f" {'computed whenever it is asked for' if self.mapped else 'kept in memory only'}"
        )
