"""Dsa against the published algorithm, image by image and pixel by pixel."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Generator, Tensor

from datastill.augment import dsa
from datastill.augment.dsa import Dsa
from datastill.core.errors import ConfigError, DataError
from datastill.core.rng import fork

EVERY = Dsa().strategies


def some_images(count: int = 4, channels: int = 3, side: int = 8) -> Tensor:
    return torch.randn(count, channels, side, side, generator=fork(0, "images"))


def only(strategy: str) -> Dsa:
    return Dsa(strategies=(strategy,))


def generator_after_choice(seed: int) -> Generator:
    generator = fork(seed, "dsa")
    torch.randint(1, (), generator=generator)
    return generator


# --- the published algorithm; randoms are drawn in its order, for the whole batch at once ---


def bilinear(image: Tensor, y: float, x: float) -> Tensor:
    """Value of image (C, H, W) at a point between pixel centres; zero outside."""
    _, height, width = image.shape
    top, left = math.floor(y), math.floor(x)
    value = torch.zeros(len(image))
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < height and 0 <= j < width:
                value += image[:, i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return value


def warped(image: Tensor, source: Callable[[float, float], tuple[float, float]]) -> Tensor:
    """Read every pixel at `source` of its coordinates, -1 and 1 being the outer pixel centres."""
    _, height, width = image.shape
    out = torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            x, y = source(2 * j / (width - 1) - 1, 2 * i / (height - 1) - 1)
            out[:, i, j] = bilinear(image, (y + 1) / 2 * (height - 1), (x + 1) / 2 * (width - 1))
    return out


def published_color(x: Tensor, generator: Generator) -> Iterator[Tensor]:
    b, s, c = (torch.rand(len(x), generator=generator) for _ in range(3))
    for n, image in enumerate(x):
        image = image + (b[n] - 0.5) * 1.0
        grey = (image[0] + image[1] + image[2]) / 3
        image = (image - grey) * (s[n] * 2.0) + grey
        yield (image - image.mean()) * (c[n] + 0.5) + image.mean()


def published_crop(x: Tensor, generator: Generator) -> Iterator[Tensor]:
    most = int(x.shape[2] * 0.125 + 0.5)
    down, right = (
        torch.randint(-most, most + 1, (len(x),), generator=generator).tolist() for _ in range(2)
    )
    for n, image in enumerate(x):
        out = torch.zeros_like(image)
        for i in range(image.shape[1]):
            for j in range(image.shape[2]):
                y, z = i + down[n], j + right[n]
                if 0 <= y < image.shape[1] and 0 <= z < image.shape[2]:
                    out[:, i, j] = image[:, y, z]
        yield out


def published_cutout(x: Tensor, generator: Generator) -> Iterator[Tensor]:
    side = x.shape[2]
    size = int(side * 0.5 + 0.5)
    rows, columns = (
        torch.randint(0, side + (1 - size % 2), (len(x),), generator=generator).tolist()
        for _ in range(2)
    )
    for n, image in enumerate(x):
        out = image.clone()
        for i in range(size):
            for j in range(size):
                y = min(max(rows[n] + i - size // 2, 0), side - 1)
                z = min(max(columns[n] + j - size // 2, 0), side - 1)
                out[:, y, z] = 0
        yield out


def published_flip(x: Tensor, generator: Generator) -> Iterator[Tensor]:
    numbers = torch.rand(len(x), generator=generator)
    for n, image in enumerate(x):
        yield image.flip(2) if numbers[n] < 0.5 else image


def published_scale(x: Tensor, generator: Generator) -> Iterator[Tensor]:
    across, down = (
        (torch.rand(len(x), generator=generator) * (1.2 - 1 / 1.2) + 1 / 1.2).tolist()
        for _ in range(2)
    )
    for n, image in enumerate(x):
        yield warped(image, lambda x, y, n=n: (across[n] * x, down[n] * y))


def published_rotate(x: Tensor, generator: Generator) -> Iterator[Tensor]:
    angles = ((torch.rand(len(x), generator=generator) - 0.5) * 2 * math.radians(15)).tolist()
    for n, image in enumerate(x):
        cos, sin = math.cos(angles[n]), math.sin(angles[n])
        yield warped(image, lambda x, y, c=cos, s=sin: (c * x - s * y, s * x + c * y))


PUBLISHED = {
    "color": published_color,
    "crop": published_crop,
    "cutout": published_cutout,
    "flip": published_flip,
    "scale": published_scale,
    "rotate": published_rotate,
}


@pytest.mark.parametrize("strategy", EVERY)
@pytest.mark.parametrize("side", [8, 10])  # holes of an even and of an odd size
def test_dsa__equals_published_algorithm(strategy: str, side: int) -> None:
    x = some_images(side=side)
    expected = torch.stack(list(PUBLISHED[strategy](x, generator_after_choice(5))))
    torch.testing.assert_close(only(strategy)(x, fork(5, "dsa")), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", EVERY)
def test_dsa__siamese_gives_every_image_what_a_batch_of_one_gets(strategy: str) -> None:
    x = some_images()
    together = only(strategy)(x, fork(2, "dsa"), siamese=True)
    separately = [only(strategy)(image[None], fork(2, "dsa"), siamese=True)[0] for image in x]
    torch.testing.assert_close(together, torch.stack(separately))


@pytest.mark.parametrize("strategy", EVERY)
def test_dsa__gradient_of_pixels(strategy: str) -> None:
    x = some_images(2, 2, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: only(strategy)(x, fork(1, "dsa")), x)


@pytest.mark.parametrize("strategy", EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_dsa__keeps_shape_and_type(strategy: str, channels: int) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = some_images(3, channels, 7).to(dtype)
        out = only(strategy)(x, fork(0, "dsa"))
        assert out.shape == x.shape and out.dtype == dtype


@pytest.mark.parametrize("strategy", EVERY)
def test_dsa__computes_where_the_images_are(strategy: str) -> None:
    """The meta device refuses to be mixed with CPU tensors, as a GPU does."""
    out = only(strategy)(some_images().to("meta"), fork(0, "dsa"))
    assert out.device.type == "meta" and out.shape == (4, 3, 8, 8)


def test_dsa__draws_follow_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (Dsa()(some_images(), fork(seed, "dsa")) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_dsa__chooses_among_all_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    for name in EVERY:
        monkeypatch.setitem(dsa._STRATEGIES, name, lambda d, x, r, name=name: chosen.append(name))
    generator = fork(0, "dsa")
    for _ in range(60):
        Dsa()(some_images(), generator)
    assert set(chosen) == set(EVERY)


def test_dsa__without_strategies_changes_nothing() -> None:
    x = some_images()
    assert torch.equal(Dsa(strategies=())(x, fork(0, "dsa")), x)


def test_dsa__unknown_strategy_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cutout'"):
        Dsa(strategies=("color", "cut-out"))


@pytest.mark.parametrize(
    "options", [{"flip_probability": 1.5}, {"crop_of_side": -0.1}, {"scale": 0.5}]
)
def test_dsa__refuses_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Dsa(**options)  # type: ignore[arg-type]


def test_dsa__refuses_bytes() -> None:
    with pytest.raises(DataError, match="divide bytes by 255"):
        Dsa()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), fork(0, "dsa"))
