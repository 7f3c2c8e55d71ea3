"""Small data sets laid out as the official archives are, for the readers of `datastill.data`."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

Bytes = NDArray[np.uint8]


def write_archive(name: str, folder: Path) -> Path:
    """Lay out ten to thirty images of the data set `name` in `folder`; its own folder there."""
    write, extracted = WRITERS[name]
    root = folder / extracted
    root.mkdir(parents=True, exist_ok=True)
    write(root)
    return root


def random_images(count: int, image_size: int = 32, *, seed: int = 0) -> Bytes:
    """Smooth random pictures, (count, 3, S, S): they survive JPEG, unlike white noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4), np.uint8)
    repeats = -(-image_size // 4)
    return coarse.repeat(repeats, 2).repeat(repeats, 3)[:, :, :image_size, :image_size]


def save_image(file: Path, image: Bytes) -> None:  # (3, H, W), or (H, W) for one grey channel
    """Write an image in the format of its suffix, making folders as needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = image if image.ndim == 2 else image.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(pixels)).save(file)


def write_lines(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", "utf-8")


def write_mat(file: Path, variables: Mapping[str, Any]) -> None:
    """Write a MATLAB file as the published ones are.

    A list of strings becomes a column of cells, a list of dictionaries a row of structures.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    values = {name: _mat_value(value) for name, value in variables.items()}
    savemat(file, values, do_compression=True)


def _mat_value(value: Any) -> NDArray[Any]:
    if isinstance(value, list) and isinstance(value[0], dict):
        rows = np.empty((1, len(value)), [(field, object) for field in value[0]])
        rows[0] = [tuple(row.values()) for row in value]
        return rows
    return np.array(value, object)[:, None] if isinstance(value, list) else np.asarray(value)


def write_records(file: Path, images: Bytes, labels: Sequence[int], *, label_bytes: int) -> None:
    """Write a binary file of CIFAR: images (n, 3, 32, 32); label bytes before the last are 0."""
    head = np.zeros((len(images), label_bytes), np.uint8)
    head[:, -1] = labels
    file.parent.mkdir(parents=True, exist_ok=True)
    np.concatenate([head, images.reshape(len(images), -1)], axis=1).tofile(file)


def write_batch(file: Path, images: Bytes, labels: list[int]) -> None:
    """Write images (n, 3, S, S) and labels from 1 as a batch of down-sampled ImageNet."""
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = {"data": images.reshape(len(images), -1), "mean": images.mean(0).reshape(-1)}
    with file.open("wb") as opened:
        pickle.dump({**parts, "labels": labels}, opened, protocol=3)


def write_aircraft(root: Path) -> None:
    """Three variants, two of which have a space or a slash; four and two photographs each."""
    variants = ["707-320", "DC-9 30", "F/A-18"]
    rows: dict[str, list[str]] = {"trainval": [], "test": []}
    for i, image in enumerate(random_images(18, 40)):
        save_image(root / "data" / "images" / f"{i:07d}.jpg", image[:, : 28 + i % 5])
        rows["test" if i % 3 == 0 else "trainval"].append(f"{i:07d} {variants[i // 6]}")
    write_lines(root / "data" / "variants.txt", variants)
    for split, lines in rows.items():
        write_lines(root / "data" / f"images_variant_{split}.txt", lines)


def write_cars(root: Path) -> None:
    """Three models, four training and two test photographs of each, in the joint layout."""
    rows = []
    for i, image in enumerate(random_images(18, 48)):
        path = f"car_ims/{i + 1:06d}.jpg"
        save_image(root / path, image[:, : 30 + i])
        box = dict.fromkeys(("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), 1)
        rows.append({"relative_im_path": path, **box, "class": i // 6 + 1, "test": int(i % 3 == 0)})
    names = np.array(
        [["Audi S4 Sedan 2012", "BMW M3 Coupe 2012", "Ram C/V Cargo Van 2012"]], object
    )
    write_mat(root / "cars_annos.mat", {"annotations": rows, "class_names": names})


def write_cifar10(root: Path) -> None:
    """Four images in each training batch, ten in the test batch."""
    for k in range(5):
        labels = [(4 * k + i) % 10 for i in range(4)]
        images = random_images(4, seed=k)
        write_records(root / f"data_batch_{k + 1}.bin", images, labels, label_bytes=1)
    write_records(root / "test_batch.bin", random_images(10, seed=5), range(10), label_bytes=1)
    write_lines(root / "batches.meta.txt", [f"class{k}" for k in range(10)])


def write_cifar100(root: Path) -> None:
    """Twenty training and ten test images, labels up to 95."""
    for seed, (split, count) in enumerate({"train": 20, "test": 10}.items()):
        images = random_images(count, seed=seed)
        write_records(root / f"{split}.bin", images, range(0, 5 * count, 5), label_bytes=2)
    write_lines(root / "fine_label_names.txt", [f"class{k}" for k in range(100)])


def write_cub(root: Path) -> None:
    """Three classes, four training and two test photographs of each, not square."""
    names = ["001.Auk", "002.Jay", "003.Owl"]
    images, labels, is_train = [], [], []
    for i, image in enumerate(random_images(18, 48), start=1):
        name = names[(i - 1) // 6]
        file = f"{name}/{name}_{i:04d}.jpg"
        save_image(root / "images" / file, image[:, : 30 + i])
        images.append(f"{i} {file}")
        labels.append(f"{i} {(i - 1) // 6 + 1}")
        is_train.append(f"{i} {int(i % 3 > 0)}")
    write_lines(root / "images.txt", images)
    write_lines(root / "image_class_labels.txt", labels)
    write_lines(root / "train_test_split.txt", is_train)
    write_lines(root / "classes.txt", [f"{k} {name}" for k, name in enumerate(names, start=1)])


def write_dogs(root: Path) -> None:
    """Three breeds, four training and two test photographs of each, not square."""
    breeds = ["n01-Chow", "n02-Pug", "n03-Cairn_terrier"]
    files: dict[str, list[str]] = {"train": [], "test": []}
    for i, image in enumerate(random_images(18, 48)):
        breed = breeds[i // 6]
        file = f"{breed}/{breed[:3]}_{i}.jpg"
        save_image(root / "Images" / file, image[:, : 30 + i])
        files["test" if i % 3 == 0 else "train"].append(file)
    for split, names in files.items():
        numbers = [breeds.index(name.partition("/")[0]) + 1 for name in names]
        labels = np.array(numbers, np.uint8)[:, None]
        write_mat(root / f"{split}_list.mat", {"file_list": names, "labels": labels})


def write_flowers(root: Path) -> None:
    """Six images each for training, validation and testing, in turn, of six kinds."""
    for number, image in enumerate(random_images(18, 48), start=1):
        save_image(root / "jpg" / f"image_{number:05d}.jpg", image[:, : 30 + number])
    labels = np.array([[20 * (i // 3) + 1 for i in range(18)]], np.uint8)
    numbers = np.arange(1, 19, dtype=np.uint16)[None]
    write_mat(root / "imagelabels.mat", {"labels": labels})
    parts = {name: numbers[:, i::3] for i, name in enumerate(("trnid", "valid", "tstid"))}
    write_mat(root / "setid.mat", parts)


def write_class_folders(root: Path) -> None:
    """Two classes; five training and three test images of each, as class folders."""
    for i, image in enumerate(random_images(16, 40)):
        split = "test" if i % 8 > 4 else "train"
        save_image(root / split / f"class{i // 8}" / f"{i}.png", image[:, : 25 + i])


def write_imagenet(root: Path) -> None:
    """Two images in each of ten batches and ten in the validation batch."""
    for k in range(10):
        labels = [1 + 3 * k, 101 + 3 * k]
        write_batch(root / f"train_data_batch_{k + 1}", random_images(2, 64, seed=k), labels)
    labels = list(range(1, 1000, 100))
    write_batch(root / "val_data", random_images(10, 64, seed=10), labels)


def write_imagenette(root: Path) -> None:
    """Three classes; four training and two validation photographs of each, not square."""
    wnids = ["n01440764", "n02102040", "n02979186"]
    for i, image in enumerate(random_images(18, 48)):
        wnid, split = wnids[i // 6], "val" if i % 6 > 3 else "train"
        save_image(root / split / wnid / f"{wnid}_{i}.JPEG", image[:, : 30 + i])
    write_lines(root / "noisy_imagenette.csv", ["path,noisy_labels_0"])


def write_tiny_imagenet(root: Path) -> None:
    """Three classes; four training and two validation images of each; some are grey."""
    wnids = ["n03", "n01", "n02"]
    images = random_images(18, 64)
    for k, wnid in enumerate(wnids):
        for i, image in enumerate(images[6 * k : 6 * k + 4]):
            file = root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG"
            save_image(file, image[0] if i == 0 else image)
        for i, image in enumerate(images[6 * k + 4 : 6 * k + 6]):
            save_image(root / "val" / "images" / f"val_{2 * k + i}.JPEG", image)
    rows = [f"val_{i}.JPEG\t{wnids[i // 2]}\t0\t0\t63\t63" for i in range(6)]
    write_lines(root / "val" / "val_annotations.txt", rows)
    write_lines(root / "wnids.txt", wnids)
    write_lines(root / "words.txt", [f"{wnid}\tname of {wnid}, synonym" for wnid in wnids])


WRITERS: dict[str, tuple[Callable[[Path], None], str]] = {  # and what is extracted
    "aircraft": (write_aircraft, "fgvc-aircraft-2013b"),
    "cars": (write_cars, "stanford_cars"),
    "cifar10": (write_cifar10, "cifar-10-batches-bin"),
    "cifar100": (write_cifar100, "cifar-100-binary"),
    "cub": (write_cub, "CUB_200_2011"),
    "dogs": (write_dogs, "stanford_dogs"),
    "flowers": (write_flowers, "flowers-102"),
    "folder": (write_class_folders, ""),
    "hf": (write_class_folders, ""),
    "imagenet": (write_imagenet, "imagenet"),
    "imagenette": (write_imagenette, "imagenette2-320"),
    "tiny-imagenet": (write_tiny_imagenet, "tiny-imagenet-200"),
}
EMBEDDED = ("digits", "glyphs")
