"""What a target bank takes; counted, for its batches of one size are no line in the images."""

from dataclasses import dataclass, replace
from math import expm1
from typing import TypeVar

from datastill.augment.crop_flip import CropFlip
from datastill.methods.krr_st import KRRST
from datastill.recipes._meter import Cost
from datastill.target_bank import Filling

Method = TypeVar("Method")


def with_bank(method: Method, filling: Filling) -> Method:
    """The method with another bank, where it has one."""
    if not isinstance(method, KRRST) or method.bank == "off":
        return method
    return replace(method, bank=filling)


@dataclass(frozen=True)
class Banked:
    """The bank of a method that draws views of `source` images."""

    method: KRRST
    source: int
    outputs: int  # D

    @property
    def nbytes(self) -> float:
        """Of representations that are kept, where all that fit are asked for."""
        return min(self._views * self._width, self.method.bank_gigabytes * 1e9)

    def cost(self, represent: Cost) -> Cost:
        """Of representing views once, and at each use those for which there is no room.

        k draws from n views meet n (1 - e^(-k/n)) different ones.
        """
        views = self._views
        drawn = self.method.outer_steps * min(self.method.outer_batch, self.source)
        met = views if self.method.bank == "full" else -views * expm1(-drawn / views)
        share = self.nbytes / (views * self._width)
        return represent.times(share * met + (1 - share) * drawn)

    @property
    def _views(self) -> int:
        return self.source * CropFlip(self.method.crop_padding, self.method.flip).views

    @property
    def _width(self) -> int:
        return self.outputs * (2 if self.method.bank_precision == "float16" else 4)
