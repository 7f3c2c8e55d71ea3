"""Target representations of augmented views of the source images, computed once and kept.

Random crops and flips give a finite number of views per image, so that the target model's output
for every view can be stored. A cached representation has the same bits as one that is computed when
it is needed: batches always have the same size (on which the last bits depend), and values are
always rounded to the stored precision.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.core.atomic import atomic_write, remove_stale_tempfiles, write_json
from datastill.core.errors import NotFiniteError
from datastill.core.locks import file_lock
from datastill.core.lookup import public_name
from datastill.core.loop import run_steps
from datastill.core.machine import fits_in_memory
from datastill.core.options import to_json
from datastill.core.profile import profile_section
from datastill.core.progress import logger, progress_bar
from datastill.core.run_folder import REPRODUCIBILITY_KEYS, environment
from datastill.images import ImageSet
from datastill.target_model import TargetModel

FORMAT_VERSION = 3  # raise it when representations are computed or stored differently
CPU_BATCH, GPU_BATCH, GPU_FILL_BATCH = 64, 512, 2048  # views per forward pass of the target model
GPU_BATCHES_PER_COPY = 16  # a host that waited for every batch would leave the GPU idle

CacheMode = Literal["off", "lazy", "full"]
StoredPrecision = Literal["float16", "float32"]


class TargetCache:
    """Compute or look up the target model's representations of source images under crops and flips.

    Args:
        target: The target model, on the device where representations are needed.
        images: N source images.
        crop_flip: The views; `row = image * crop_flip.views + view` numbers all of them.
        mode: `off` computes every representation when it is needed and keeps none, `lazy` keeps in
            memory what was computed, `full` computes all of them now.
        precision: Number format of what is kept. float16 rounds by 0.05 % and holds up to 65,504.
        max_gigabytes: Room for the cache, in 10^9 bytes. Representations beyond it are computed at
            each use.
        folder: With `full`, keep them in `<folder>/banks/<digest>/`, memory-mapped, where other
            runs with the same images, target model, views and machine find them. Those of a target
            model without an architecture stay in memory: no digest covers its code.

    Raises:
        NotFiniteError: A representation is not finite, or too large for float16.
        DataError: The file cannot be written, for instance on a full disk.

    Example:
        >>> import datastill as ds, torch
        >>> from datastill.augment.crop_flip import CropFlip
        >>> images = ds.source("digits").load("train").take(torch.arange(20))
        >>> target = ds.TargetModel(torch.nn.Flatten(), images.normalizer, images.image_size)
        >>> cache = TargetCache(target, images, CropFlip(padding=1), mode="full")
        >>> cache(torch.tensor([0, 3]), torch.tensor([17, 2])).shape
        torch.Size([2, 256])
    """

    def __init__(
        self,
        target: TargetModel,
        images: ImageSet,
        crop_flip: CropFlip,
        *,
        mode: CacheMode = "off",
        precision: StoredPrecision = "float16",
        max_gigabytes: float = 10.0,
        folder: Path | None = None,
    ) -> None:
        self.target, self.images, self.crop_flip, self.mode = target, images, crop_flip, mode
        self.device = torch.device(target.machine.device)
        gpu_batch = GPU_FILL_BATCH if mode == "full" else GPU_BATCH
        self.batch = CPU_BATCH if self.device.type == "cpu" else gpu_batch
        self.dtype = torch.float16 if precision == "float16" else torch.float32
        self.count = len(images) * crop_flip.views
        row_bytes = target.dim * self.dtype.itemsize
        self.capacity = min(self.count, int(max_gigabytes * 1e9) // row_bytes)
        self.is_cached = torch.zeros(self.count, dtype=torch.bool)  # on the host: nobody waits
        self.values = torch.empty(0, target.dim, dtype=self.dtype)
        if mode != "off" and self.capacity < self.count:
            logger.info(
                f"bank: {self.capacity} of {self.count} representations fit into"
                f" {max_gigabytes:g} GB, the others are computed at each use; all of them take"
                f" {self.count * row_bytes / 1e9:.3g} GB"
            )
        if mode == "off" or self.capacity == 0:
            return
        has_room = fits_in_memory(self.capacity * row_bytes, str(self.device))
        storage = self.device if has_room else torch.device("cpu")
        if mode == "full" and folder is not None and target.architecture is not None:
            self._open_file(folder)
            self.values = self.values.to(storage)
            return
        self.values = torch.zeros(self.capacity, target.dim, dtype=self.dtype, device=storage)
        if mode == "full":
            self._fill()
            self.is_cached[: self.capacity] = True  # also where an estimate cut the loop short

    @profile_section("target representations")
    def __call__(self, index: Tensor, view: Tensor) -> Tensor:  # (B,), (B,) int64 -> (B, D)
        """Return the representations of images `index` under views `view`, float32, on the device.

        Raises:
            NotFiniteError: A representation is too large for the stored precision.
        """
        if self.mode == "off":
            return self._represent(index, view)
        rows = index * self.crop_flip.views + view
        cached = self.is_cached[rows]
        if cached.all():
            return self._look_up(rows).float()
        missing, position = torch.unique(rows[~cached], return_inverse=True)
        computed, finite = self._compute(missing)
        if finite:
            self._keep(missing, computed)
        to_device = self.target.machine.to_device
        g = torch.empty(len(rows), self.target.dim, dtype=self.dtype, device=self.device)
        g[to_device((~cached).nonzero().flatten())] = computed[to_device(position)]
        g[to_device(cached.nonzero().flatten())] = self._look_up(rows[cached])
        return g.float()

    def _represent(self, index: Tensor, view: Tensor) -> Tensor:  # (B,), (B,) -> (B, D)
        pixels = self.crop_flip(self.images.pixels(index, self.target.machine.device), view)
        return self.target.represent(self.target.normalizer(pixels.float() / 255))

    def _compute(self, rows: Tensor) -> tuple[Tensor, bool]:
        """Compute representations (n, D) in the stored precision; tell whether all are finite."""
        outputs, views = [], self.crop_flip.views
        for part in torch.split(rows, self.batch):
            padded = part[torch.arange(self.batch) % len(part)]
            outputs.append(self._represent(padded // views, padded % views)[: len(part)])
        g = torch.cat(outputs)
        rounded = g.to(self.dtype)
        if rounded.isfinite().all():
            return rounded, True
        if (rounded.isinf() & g.isfinite()).any():
            raise NotFiniteError(
                f"a target representation has the value {float(g.abs().max()):.3g}, and float16"
                " ends at 65504; pass --method.bank_precision float32, or train the target model"
                " with --standardize"
            )
        return rounded, False

    def _fill(self) -> None:
        """Compute every representation that there is room for."""
        chunk = self.batch * (1 if self.device.type == "cpu" else GPU_BATCHES_PER_COPY)
        chunks = torch.split(torch.arange(self.capacity), chunk)

        def step(number: int) -> Mapping[str, float]:
            computed, finite = self._compute(chunks[number])
            if not finite:
                raise NotFiniteError(
                    f"the target model gives some views of {self.images.name} representations that"
                    " are not finite; train another target model"
                )
            self._keep(chunks[number], computed)
            return {}

        run_steps("bank", None, step, length=len(chunks), lower="--method.bank_gigabytes")

    def _keep(self, rows: Tensor, computed: Tensor) -> None:
        kept = (rows < self.capacity).nonzero().flatten()
        where = rows[kept].to(self.values.device, non_blocking=True)
        self.values[where] = computed[self.target.machine.to_device(kept)].to(self.values.device)
        self.is_cached[rows[kept]] = True

    def _look_up(self, rows: Tensor) -> Tensor:  # (n,) cached ones -> (n, D)
        values = self.values[rows.to(self.values.device, non_blocking=True)]
        return values.to(self.device, non_blocking=True)

    def _open_file(self, folder: Path) -> None:
        """Map the file with all representations; compute it first where there is none."""
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        folder = folder / "banks" / digest[:16]
        with file_lock(folder / ".lock", "bank"):
            try:
                saved = json.loads((folder / "bank.json").read_text(encoding="utf-8"))
                self.values = self._map(folder / "rows", "c")
                if self._checksum() == saved["sha256"]:
                    self.is_cached[: self.capacity] = True
                    return
                logger.info(f"{folder / 'rows'} is damaged; its representations are computed again")
            except (OSError, ValueError, KeyError):
                pass  # there is none, or it is cut short
            remove_stale_tempfiles(folder)
            with atomic_write(folder / "rows") as part:
                with part.open("wb") as file:
                    # Writing to a map whose pages find no room on the disk would end the process.
                    os.posix_fallocate(
                        file.fileno(), 0, self.capacity * self.target.dim * self.dtype.itemsize
                    )
                self.values = self._map(part, "r+")
                self._fill()
                assert self.is_cached[: self.capacity].all(), "an incomplete file is never kept"
            write_json(folder / "bank.json", {"sha256": self._checksum(), **self.facts})

    def _map(self, path: Path, mode: Literal["c", "r+"]) -> Tensor:  # (capacity, D)
        shape = (self.capacity, self.target.dim * self.dtype.itemsize)
        mapped: Tensor = torch.from_numpy(np.memmap(path, np.uint8, mode, shape=shape))
        return mapped.view(self.dtype)

    def _checksum(self) -> str:
        """Return the SHA-256 of all representations."""
        digest = hashlib.sha256()
        blocks = torch.split(self.values.flatten().view(torch.uint8), 2**26)
        with progress_bar("checking the bank", 0, len(blocks)) as reporter:
            for number, block in enumerate(blocks, 1):
                digest.update(block.numpy().data)
                if reporter.due():
                    reporter.update(number, {})
        return digest.hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """Everything that the bits of the file depend on."""
        target, architecture = self.target, self.target.architecture
        machine = {k: v for k, v in environment().items() if k in REPRODUCIBILITY_KEYS}
        return {
            "source": self.images.fingerprint,
            "target": target.fingerprint,
            "architecture": architecture and [public_name(architecture), to_json(architecture)],
            "views": to_json(self.crop_flip),
            "stored": [str(self.dtype), self.capacity, self.batch, FORMAT_VERSION],
            "computed": [self.device.type, target.machine.precision, machine],
        }
