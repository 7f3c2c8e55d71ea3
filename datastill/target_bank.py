"""Target representations of views of source images, each computed at most once.

The views of crop and flip are a finite set, so g of every one can be kept: in memory or, with a
cache folder, in a file that any number of processes fill and read. A representation has the same
bits whether it was kept or not: it is computed in batches of one size, on which the last bits
depend, and rounded to the bank's format even where it is only passed on.
"""

import hashlib
import json
import os
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.ground.checked_rows import CheckedRows
from datastill.ground.errors import NotFiniteError
from datastill.ground.kept_rows import KeptRows
from datastill.ground.lookup import public_name
from datastill.ground.options import Json, to_json
from datastill.ground.profile import part_of_step
from datastill.ground.progress import reporting, say
from datastill.ground.rng import fork
from datastill.ground.run_folder import DECIDE_BITS, environment
from datastill.images import ImageSet
from datastill.target_model import TargetModel

FORMAT_VERSION = 2  # raise it when representations are computed differently
BATCH, BATCH_ON_CPU = 512, 64  # views that the target model sees at once; fewer are padded

Filling = Literal["off", "lazy", "full"]
StoredPrecision = Literal["float16", "float32"]


@dataclass(frozen=True)
class Keeping:
    """Whether and how representations are kept.

    `off` computes them in the caller's batches and keeps none, `lazy` keeps what was asked for,
    `full` computes all of them ahead.
    """

    filling: Filling = "off"
    precision: StoredPrecision = "float16"  # rounds by 0.05 % at most, holds up to 65,504
    gigabytes: float = 10.0  # of 10^9 bytes; what is beyond is computed whenever it is asked for


@dataclass(frozen=True, eq=False)
class TargetBank:
    """`bank(index, view)` is g of views of source images.

    With a cache folder the file is `<cache>/banks/<digest>/rows`. The digest is of everything that
    representations depend on, and the file beside it says it in full. A module without an
    architecture has code that no digest is of: its representations are kept in memory only.
    """

    target: TargetModel
    images: ImageSet  # N
    crop_flip: CropFlip
    keeping: Keeping = Keeping()
    cache: Path | None = None

    @part_of_step("target representations")
    def __call__(self, index: Tensor, view: Tensor) -> Tensor:  # (B,), (B,) int64 -> (B, D)
        """g of image `index[b]` under view `view[b]`, float32, on the device.

        Raises:
            NotFiniteError: a representation is too large for the stored precision.
        """
        if self.keeping.filling == "off":
            return self._represent(index, view)
        row = index * self.crop_flip.views + view
        if self.rows.whole or (kept := self.rows.find(row)).all():
            return self.rows.get(row).float()
        new, place = torch.unique(row[~kept], return_inverse=True)
        g = self.rows.like.new_empty(len(row), self.target.dim)
        here = self.target.machine.here
        g[here((~kept).nonzero().flatten())] = self._make(new)[here(place)]
        g[here(kept.nonzero().flatten())] = self.rows.get(row[kept])
        return g.float()

    def fill(self) -> None:
        """Have every representation for which there is room.

        Several processes share the work: each takes the parts in an order of its own, and leaves
        out what it finds in the file.
        """
        parts = torch.split(torch.arange(self.rows.room), self._batch)
        order = fork(os.getpid(), "bank", platform.node())
        with reporting("bank", 0, len(parts)) as reporter:
            for done, number in enumerate(torch.randperm(len(parts), generator=order).tolist()):
                row = parts[number]
                if not self.rows.room:  # the disk is full
                    break
                if not (kept := self.rows.find(row)).all():
                    self._make(row[~kept])
                if reporter.due():
                    reporter.update(done + 1, {})

    @cached_property
    def rows(self) -> KeptRows:
        """What is kept: row `image · views + view` is of D numbers."""
        count, keeping = len(self.images) * self.crop_flip.views, self.keeping
        kind = torch.float16 if keeping.precision == "float16" else torch.float32
        like = torch.empty(0, self.target.dim, dtype=kind, device=self._device)
        width = self.target.dim * like.element_size()
        room = min(count, int(keeping.gigabytes * 1e9) // width)
        if room < count:
            say(
                f"bank: {room} of {count} representations fit into {keeping.gigabytes:g} GB, the"
                f" others are computed at each use; all of them take {count * width / 1e9:.3g} GB"
            )
        file, folder = None, self._folder
        if folder is not None:
            file = CheckedRows.open(folder, self.facts, count=count, width=width)
        return KeptRows(count, room, like, file)

    @cached_property
    def facts(self) -> Json:
        """Everything that the bits of a representation depend on."""
        architecture = self.target.architecture
        return {
            "source": self.images.fingerprint,
            "target": self.target.fingerprint,
            "architecture": architecture
            and {"name": public_name(architecture), **to_json(architecture)},
            "views": to_json(self.crop_flip),
            "stored": self.keeping.precision,
            "batch": self._batch,
            "device": self._device.type,
            "precision": self.target.machine.precision,
            **{name: value for name, value in environment().items() if name in DECIDE_BITS},
            "version": FORMAT_VERSION,
        }

    @property
    def _folder(self) -> Path | None:
        if self.cache is None or self.target.architecture is None:
            return None
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        return self.cache / "banks" / digest[:16]

    @property
    def _device(self) -> torch.device:
        return torch.device(self.target.machine.device)

    @property
    def _batch(self) -> int:
        return BATCH_ON_CPU if self._device.type == "cpu" else BATCH

    def _represent(self, index: Tensor, view: Tensor) -> Tensor:  # (B,), (B,) -> (B, D)
        """g as the target model says it now."""
        seen = self.crop_flip(self.images.pixels(index, self.target.machine.device), view)
        return self.target.represent(self.target.normalizer(seen.float() / 255))

    def _make(self, row: Tensor) -> Tensor:  # (n,) different ones -> (n, D)
        """Compute representations, a full batch at a time, and keep what there is room for."""
        made, views = [], self.crop_flip.views
        for part in torch.split(row, self._batch):
            padded = part[torch.arange(self._batch) % len(part)]
            made.append(self._represent(padded // views, padded % views)[: len(part)])
        g = self._rounded(torch.cat(made))
        self.rows.put(row, g)
        return g

    def _rounded(self, g: Tensor) -> Tensor:
        rounded = g.to(self.rows.like.dtype)
        if (rounded.isinf() & g.isfinite()).any():
            raise NotFiniteError(
                f"a target representation has the value {float(g.abs().max()):.3g}, and float16"
                " ends at 65504; pass --method.bank_precision float32, or train the target model"
                " with --standardize"
            )
        return rounded
