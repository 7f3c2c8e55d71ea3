"""CIFAR-10: 60,000 natural images of 10 classes (Krizhevsky, 2009)."""

from types import MappingProxyType

from datastill.data._cifar import Cifar
from datastill.data.archives import Archive

TRAIN = tuple(f"data_batch_{k}.bin" for k in range(1, 6))


class Cifar10(Cifar):
    """CIFAR-10 in its binary version; training images in the order of the five batches."""

    num_classes = 10
    files = MappingProxyType({"train": TRAIN, "test": ("test_batch.bin",)})
    class_file = "batches.meta.txt"
    label_bytes = 1
    archives = (
        Archive(
            url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            md5="c32a1d4ab5d03f1284b67883e8d87530",
            folder="cifar-10-batches-bin",
            files=(*TRAIN, "test_batch.bin", class_file),
        ),
    )
