"""Embedded, labelled data: 1,797 handwritten digits of scikit-learn, distorted like the glyphs."""

import importlib
from types import MappingProxyType

import numpy as np

from datastill.core.rng import derive
from datastill.data.cache import DataLocation, RawImages
from datastill.data.glyphs import picture
from datastill.data.source import ImageSource

TRAIN = 1000
SEED = 0


class Digits(ImageSource):
    """1,000 digits to draw labels from and 797 for testing, shuffled by a fixed seed.

    Choose settings on a part of the training split (`ImageSet.split`), never on the test split.
    """

    num_classes = 10
    native_size = 16
    channels = 1
    licence = "CC BY 4.0"
    citation = (
        "E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten Digits."
        " UCI Machine Learning Repository, 1998."
    )
    counts = MappingProxyType({"train": TRAIN, "test": 797})

    def _read(self, split: str, image_size: int, location: DataLocation) -> RawImages:
        digits = importlib.import_module("sklearn.datasets").load_digits()  # takes a second
        ink = (digits.images / 16).astype(np.float32)  # cells count 0 to 16 inked pixels
        order = np.random.default_rng(derive(SEED, "digits", "split")).permutation(len(ink))
        chosen = order[:TRAIN] if split == "train" else order[TRAIN:]
        rng = np.random.default_rng(derive(SEED, "digits", split))
        labels = digits.target[chosen].astype(np.int64)
        classes = tuple(str(digit) for digit in range(10))
        return RawImages(picture(ink[chosen], image_size, rng), labels, classes)
