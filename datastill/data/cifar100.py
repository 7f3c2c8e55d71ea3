"""CIFAR-100: 60,000 natural images of 100 classes (Krizhevsky, 2009)."""

from types import MappingProxyType

from datastill.data._cifar import Cifar
from datastill.data.archives import Archive


class Cifar100(Cifar):
    """CIFAR-100 in its binary version, with the 100 fine labels."""

    num_classes = 100
    files = MappingProxyType({"train": ("train.bin",), "test": ("test.bin",)})
    class_file = "fine_label_names.txt"
    label_bytes = 2  # a coarse label, then a fine one
    archives = (
        Archive(
            url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            md5="03b5dce01913d631647c71ecec9e9cb8",
            folder="cifar-100-binary",
            files=("train.bin", "test.bin", class_file),
        ),
    )
