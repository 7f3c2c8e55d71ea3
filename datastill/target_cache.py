"""Target representations of augmented views of the source images, computed once and kept.

Random crops and flips give a finite number of views per image, so that the target model's output
for every view can be stored. A cached representation has the same bits as one that is computed when
it is needed: batches always have the same size (on which the last bits depend), and values are
always rounded to the stored precision.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.core.atomic import atomic_write, remove_stale_tempfiles, sha256, write_json
from datastill.core.errors import NotFiniteError
from datastill.core.locks import file_lock
from datastill.core.lookup import public_name
from datastill.core.loop import run_steps
from datastill.core.machine import fits_in_memory
from datastill.core.options import to_json
from datastill.core.profile import profile_section
from datastill.core.progress import logger
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
            runs with the same images, target model, views and machine find them. Of a module that
            is no network of datastill, the digest covers the outputs for the first images, too:
            its weights do not tell what its code does.

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
        count, row_bytes = len(images) * crop_flip.views, target.dim * self.dtype.itemsize
        self.capacity = min(count, int(max_gigabytes * 1e9) // row_bytes)
        # On the host: looking a representation up does not wait for a GPU.
        self.is_cached = torch.zeros(count, dtype=torch.bool)
        if mode == "off":
            return
        if self.capacity < count:
            logger.info(
                f"bank: {self.capacity} of {count} representations fit into {max_gigabytes:g} GB,"
                f" the others are computed at each use; all of them take"
                f" {count * row_bytes / 1e9:.3g} GB"
            )
        has_room = fits_in_memory(self.capacity * row_bytes, str(self.device))
        storage = self.device if has_room else torch.device("cpu")
        shape = (max(1, self.capacity), target.dim)
        if mode == "full" and self.capacity and folder is not None:
            rows = torch.from_numpy(np.memmap(self._rows_file(folder), np.uint8, "c"))
            self.values = rows.view(self.dtype).view(shape).to(storage)
        else:
            self.values = torch.zeros(shape, dtype=self.dtype, device=storage)
            if mode == "full":
                self._compute_all(self._keep)
        if mode == "full":
            self.is_cached[: self.capacity] = True  # also where an estimate cut the loop short

    @profile_section("target representations")
    def __call__(self, index: Tensor, view: Tensor) -> Tensor:  # (B,), (B,) int64 -> (B, D)
        """Return the representations of images `index` under views `view`, float32, on the device.

        Raises:
            NotFiniteError: A representation to be kept is not finite in the stored precision.
        """
        if self.mode == "off":
            return self._represent(index, view)
        rows, to_device = index * self.crop_flip.views + view, self.target.machine.to_device
        cached = self.is_cached[rows]
        slots = (rows * cached).to(self.values.device, non_blocking=True)
        g = self.values[slots].to(self.device, non_blocking=True)
        if not cached.all():
            missing, position = torch.unique(rows[~cached], return_inverse=True)
            computed = self._compute(missing)
            self._keep(missing, computed)
            g[to_device((~cached).nonzero().flatten())] = computed[to_device(position)]
        return g.float()

    def _represent(self, index: Tensor, view: Tensor) -> Tensor:  # (B,), (B,) -> (B, D)
        pixels = self.crop_flip(self.images.pixels(index, self.target.machine.device), view)
        return self.target.represent(self.target.normalizer(pixels.float() / 255))

    def _compute(self, rows: Tensor) -> Tensor:  # (n,) -> (n, D), in the stored precision
        outputs, views = [], self.crop_flip.views
        for part in torch.split(rows, self.batch):
            padded = part[torch.arange(self.batch) % len(part)]
            outputs.append(self._represent(padded // views, padded % views)[: len(part)])
        g = torch.cat(outputs)
        rounded = g.to(self.dtype)
        if rounded.isfinite().all():
            return rounded
        if g.isfinite().all():
            raise NotFiniteError(
                f"a target representation has the value {float(g.abs().max()):.3g}, and float16"
                " ends at 65504; pass --method.bank_precision float32, or train the target model"
                " with --standardize"
            )
        raise NotFiniteError(
            f"the target model gives some views of {self.images.name} representations that are not"
            " finite; train another target model"
        )

    def _compute_all(self, keep: Callable[[Tensor, Tensor], object]) -> None:
        """Compute all representations that there is room for; `keep(rows, computed)` keeps some."""
        chunk = self.batch * (1 if self.device.type == "cpu" else GPU_BATCHES_PER_COPY)
        chunks = torch.split(torch.arange(self.capacity), chunk)

        def step(number: int) -> Mapping[str, float]:
            keep(chunks[number], self._compute(chunks[number]))
            return {}

        run_steps("bank", None, step, length=len(chunks), lower="--method.bank_gigabytes")

    def _keep(self, rows: Tensor, computed: Tensor) -> None:
        kept = (rows < self.capacity).nonzero().flatten()
        slots = rows[kept].to(self.values.device, non_blocking=True)
        self.values[slots] = computed[self.target.machine.to_device(kept)].to(self.values.device)
        self.is_cached[rows[kept]] = True

    def _rows_file(self, folder: Path) -> Path:
        """Return the file with all representations; compute it first where there is none."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        folder = folder / "banks" / digest[:16]
        rows, record = folder / "rows", folder / "bank.json"
        with file_lock(folder / ".lock", "bank"):
            try:
                if sha256(rows) == json.loads(record.read_text(encoding="utf-8"))["sha256"]:
                    return rows
                logger.info(f"{rows} is damaged; its representations are computed again")
            except (OSError, ValueError, KeyError):
                pass  # there is none, or a run was killed before its checksum was written
            remove_stale_tempfiles(folder)
            with atomic_write(rows) as part, part.open("wb") as file:
                self._compute_all(lambda _, computed: file.write(computed.cpu().numpy().tobytes()))
                size = self.capacity * self.target.dim * self.dtype.itemsize
                assert file.tell() == size, "an incomplete file is never kept"
            write_json(record, {"sha256": sha256(rows), **self.identity})
        return rows

    def _outputs_digest(self) -> str:
        """Return a SHA-256 of the target model's outputs for the first images."""
        rows = torch.arange(min(self.batch, self.capacity))
        return hashlib.sha256(self._compute(rows).cpu().numpy().tobytes()).hexdigest()

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the bits of the file depend on."""
        target, architecture = self.target, self.target.architecture
        machine = {k: v for k, v in environment().items() if k in REPRODUCIBILITY_KEYS}
        return {
            "source": self.images.fingerprint,
            "target": target.fingerprint,
            "architecture": [public_name(architecture), to_json(architecture)]
            if architecture
            else self._outputs_digest(),
            "views": to_json(self.crop_flip),
            "stored": [str(self.dtype), self.capacity, self.batch, FORMAT_VERSION],
            "computed": [self.device.type, target.machine.precision, machine],
        }
