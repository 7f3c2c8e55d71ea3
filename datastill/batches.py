"""Shuffled batches of indices whose position is part of a run's state."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass
class Batches:
    """Endless epochs over `count` items, each in a new order; the last batch may be smaller."""

    order: Tensor  # (N,) int64, this epoch's order
    generator: Generator
    position: int = 0  # items of this epoch that were drawn

    @staticmethod
    def over(count: int, generator: Generator) -> "Batches":
        """Start the first shuffled epoch over `count` items."""
        return Batches(torch.randperm(count, generator=generator), generator)

    def draw(self, size: int) -> Tensor:  # -> (at most size,) int64
        """Draw the next indices; fewer at the end of an epoch, as without `drop_last`."""
        if self.position >= len(self.order):
            self.order = torch.randperm(len(self.order), generator=self.generator)
            self.position = 0
        batch = self.order[self.position : self.position + size]
        self.position += len(batch)
        return batch
