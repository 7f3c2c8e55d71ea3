"""Target representations of every view of every source image, computed at most once.

The views of crop and flip are a finite set. Filled ahead and in fixed batches, so that a resumed
run meets the same bits.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.images import ImageSet
from datastill.target_model import TargetModel


@dataclass(frozen=True, eq=False)
class TargetBank:
    """`bank(index, view)` looks up g of the views of source images."""

    representations: Tensor  # (views, N, D) float32, on the device

    @staticmethod
    def fill(target: TargetModel, images: ImageSet, crop_flip: CropFlip) -> "TargetBank":
        """Represent all `views` · N views: a full pass of the target model for each view number."""
        every_view = []
        for view in range(crop_flip.views):
            blocks = []
            for index in torch.split(torch.arange(len(images)), 512):
                pixels = images.images[index].to(target.machine.device)
                seen = crop_flip(pixels, torch.full((len(index),), view))
                blocks.append(target.represent(target.normalizer(seen.float() / 255)))
            every_view.append(torch.cat(blocks))
        return TargetBank(torch.stack(every_view))

    def __call__(self, index: Tensor, view: Tensor) -> Tensor:  # (B,), (B,) -> (B, D)
        """g of image `index[b]` under view `view[b]`."""
        device = self.representations.device
        return self.representations[view.to(device), index.to(device)]
