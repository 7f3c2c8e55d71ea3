"""A folder of images: CLASS/IMAGE gives class labels; else a target model gives representations."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from datastill.convert.format import Format, LoadedSet, Metadata
from datastill.core.errors import ArtefactError
from datastill.core.options import option
from datastill.data.decode import UnreadableImageError, decode_all, open_image
from datastill.data.folder import class_of, list_images
from datastill.images import ImageSet
from datastill.target_model import TargetModel

ASK_SIZE = "--format folder --format.image_size N (the images have many sizes, or are not square)"
ASK_TARGET = (
    "--target DIR (a target model whose representations become the targets; or put the images"
    " into folders named by class)"
)


@dataclass(frozen=True)
class FolderFormat(Format):
    """Images as files, all of them used, in the order of their names."""

    looks_like = "a folder of images"
    takes_target = True

    image_size: int | None = option(
        None, "pixels on a side; default: the target model's, else that of the files", at_least=1
    )

    def matches(self, path: Path) -> bool:
        return path.is_dir() and not list(path.glob("*.pt")) and bool(list_images(path).files)

    def read(self, path: Path, target: TargetModel | None) -> LoadedSet:
        if not path.is_dir():
            raise ArtefactError(f"there is no folder {path}")
        relative = list_images(path).files
        if not relative:
            raise ArtefactError(f"{path} holds no images")
        depths = {len(file.parts) for file in relative}
        if depths not in ({1}, {2}):
            raise ArtefactError(
                f"{path}: expected all images in the folder itself, or all in folders of their"
                " class"
            )
        classes = tuple(sorted(set(map(class_of, relative)))) if depths == {2} else ()
        files = tuple(path / file for file in relative)
        size = self.image_size or (target.image_size if target else _common_size(files))
        images = torch.from_numpy(decode_all(files, size or 1)[:])
        missing = [] if size else [ASK_SIZE]
        if target is None:
            if not classes:
                missing.append(ASK_TARGET)
            targets = torch.tensor([classes.index(class_of(f)) if classes else 0 for f in relative])
            implied = Metadata("folder", None, "unit", "hard-label", len(classes))
        else:
            image_set = ImageSet("the folder", images, target.normalizer)
            targets = target.represent_images(image_set).cpu()
            name = str(target.provenance.get("source", {}).get("name", "")).partition("/")[0]
            implied = Metadata("folder", name or None, "unit", "representation")
            implied, classes = replace(implied, normalizer=target.normalizer), ()
        unit, missing_flags = images.float() / 255, tuple(missing)
        return LoadedSet(
            unit, targets, files, implied, missing_flags, target=target, classes=classes
        )


def _common_size(files: tuple[Path, ...]) -> int | None:
    """Return the pixels on a side, where all files have the same size and are square."""
    sizes = set()
    for file in files:
        try:
            with open_image(file) as image:
                sizes.add(image.size)
        except UnreadableImageError as error:
            raise ArtefactError(f"{file} is no image: {error}; remove or repair it") from error
    width, height = sizes.pop()
    return width if not sizes and width == height else None
