"""From flags to components and images, for all verbs."""

from pathlib import Path
from typing import Any

from datastill.data._base import source
from datastill.ground.lookup import find
from datastill.ground.options import Json, from_json
from datastill.images import ImageSet


def component(folder: str, group: Json) -> Any:
    """The component that a flag group such as `method` describes."""
    fields = {k: v for k, v in group.items() if k != "name"}
    return from_json(find(folder, group["name"]), fields)


def folder_of(text: str | None) -> Path | None:
    """The path of a folder that may be left out."""
    return None if text is None else Path(text)


def load_source(
    data: str, image_size: int | None, data_root: str | None, limit: int | None, seed: int
) -> ImageSet:
    """The training images of a source, or a seeded subset of `limit` of them."""
    return source(data).load("train", image_size, folder_of(data_root)).limit(limit, seed)
