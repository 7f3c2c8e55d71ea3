"""From the parsed flags of a component group to the component, and checks shared by verbs."""

from typing import Any

from datastill.data._base import source
from datastill.ground.errors import ConfigError
from datastill.ground.lookup import find
from datastill.ground.options import Json, from_json
from datastill.images import ImageSet


def component(folder: str, group: Json) -> Any:
    """The component that a flag group such as `method` describes."""
    fields = {k: v for k, v in group.items() if k != "name"}
    return from_json(find(folder, group["name"]), fields)


def required(value: str | None, flag: str, example: str) -> str:
    """A flag that cannot be left out.

    Raises:
        ConfigError: it was left out.
    """
    if not value:
        raise ConfigError(f"{flag} is missing; for example {flag} {example}")
    return value


def load_source(
    data: str, image_size: int | None, data_root: str | None, limit: int | None, seed: int
) -> ImageSet:
    """The training images of a source, or a seeded subset of `limit` of them."""
    images = source(required(data, "--data", "folder:my-photos")).load(
        "train", image_size, data_root
    )
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: give a positive number of images")
    return images.limit(limit, seed)
