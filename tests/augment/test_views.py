"""TwoViews: ranges, determinism, and each operation by what it must do to chosen images."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from datastill.augment.views import TwoViews
from datastill.core.errors import ConfigError, DataError
from datastill.core.rng import fork

OFF = TwoViews(crop_scale_min=1.0, flip=0.0, jitter_probability=0.0, grayscale=0.0)
ALL = TwoViews(rotate_degrees=15.0, shift=0.1, invert=0.5, blur=0.5, solarize=0.5, noise_std=0.05)


def some_images(count: int = 6, channels: int = 3, side: int = 12) -> Tensor:
    return torch.rand(count, channels, side, side, generator=fork(0, "images"))


def ramps(count: int, side: int = 16) -> Tensor:
    """Images whose first channel is the x, and the second the y of each pixel, in [0, 1]."""
    line = torch.linspace(0, 1, side)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)]).expand(count, -1, -1, -1).contiguous()


def only(**changes: object) -> TwoViews:
    return dataclasses.replace(OFF, **changes)


def slopes(views: Tensor) -> tuple[Tensor, Tensor]:
    """Signed width and height of the crops of `ramps`, as shares of the image."""
    inner = views[:, :, 4:12, 4:12]  # away from the border, which is repeated
    steps = 7 / 15
    across = (inner[:, 0, :, -1] - inner[:, 0, :, 0]).mean(1) / steps
    down = (inner[:, 1, -1] - inner[:, 1, 0]).mean(1) / steps
    return across, down


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spec", [TwoViews(), ALL], ids=["default", "all"])
def test_two_views__are_unit_pixels_of_the_same_shape(spec: TwoViews, channels: int) -> None:
    x = some_images(channels=channels)
    for view in spec(x, fork(0, "views")):
        assert view.shape == x.shape and view.dtype == x.dtype
        assert view.min() >= 0 and view.max() <= 1


def test_two_views__follow_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (ALL(some_images(), fork(seed, "views")) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, again)) and not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_two_views__leave_their_input_alone() -> None:
    x = some_images()
    ALL(x, fork(0, "views"))
    OFF(x, fork(0, "views"))
    assert torch.equal(x, some_images())


@pytest.mark.parametrize("channels", [1, 3])
def test_two_views__switched_off_change_nothing(channels: int) -> None:
    x = some_images(channels=channels)
    for view in OFF(x, fork(0, "views")):
        torch.testing.assert_close(view, x)


def test_two_views__crop_has_area_and_aspect_in_range() -> None:
    views = only(crop_scale_min=0.2)(ramps(400), fork(0, "views"))
    across, down = slopes(torch.cat(views))
    area, aspect = across * down, across / down
    assert 0.199 < area.min() < 0.25 and 0.95 < area.max() < 1.001
    assert 0.749 < aspect.min() < 0.78 and 1.28 < aspect.max() < 1.334
    assert math.isclose(float(area.mean()), 0.6, abs_tol=0.03)


@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (0.5, 0.4, 0.6), (1.0, 1, 1)])
def test_two_views__flip_has_its_probability(flip: float, low: float, high: float) -> None:
    across, down = slopes(torch.cat(only(flip=flip, crop_scale_min=0.9)(ramps(200), fork(0, "v"))))
    assert low <= float((across < 0).float().mean()) <= high
    assert (down > 0).all()


def test_two_views__rotation_stays_below_its_angle_and_uses_it() -> None:
    views = torch.cat(only(rotate_degrees=20.0)(ramps(200), fork(0, "views")))
    turned = (views[:, 0, 12, 7] - views[:, 0, 4, 7]) / (8 / 15)  # sine of the angle
    angle = torch.rad2deg(torch.asin(turned.clamp(-1, 1))).abs()
    assert 19 < angle.max() < 20.1


def test_two_views__shift_stays_below_its_share_and_uses_it() -> None:
    views = torch.cat(only(shift=0.25)(ramps(200), fork(0, "views")))
    moved = (views[:, :2, 7:9, 7:9].mean((2, 3)) - 0.5) * 15 / 16  # in shares of the side
    assert 0.24 < moved.max() < 0.2501 and -0.2501 < moved.min() < -0.24


def test_two_views__jitter_changes_its_share_of_images() -> None:
    x = some_images(200, side=4)
    view, _ = only(jitter_probability=0.8)(x, fork(0, "views"))
    changed = (view - x).abs().amax((1, 2, 3)) > 1e-4
    assert 0.7 < float(changed.float().mean()) < 0.9


@pytest.mark.parametrize("channels", [1, 3])
def test_two_views__brightness_is_a_factor_in_its_range(channels: int) -> None:
    x = 0.1 + 0.5 * some_images(200, channels, side=4)
    spec = only(jitter=(0.4, 0.0, 0.0, 0.0), jitter_probability=1.0)
    ratio = spec(x, fork(0, "views"))[0] / x
    factor = ratio.mean((1, 2, 3))
    torch.testing.assert_close(ratio, factor[:, None, None, None].expand_as(x))
    assert 0.599 < factor.min() < 0.65 and 1.35 < factor.max() < 1.401


def test_two_views__grayscale_makes_channels_equal_even_after_jitter() -> None:
    spec = only(grayscale=1.0, jitter_probability=1.0)
    view, _ = spec(0.3 + 0.3 * some_images(), fork(0, "views"))
    torch.testing.assert_close(view, view[:, :1].expand_as(view))
    assert view.std() > 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_two_views__invert_makes_the_negative(channels: int) -> None:
    x = some_images(channels=channels)
    torch.testing.assert_close(only(invert=1.0)(x, fork(0, "views"))[0], 1 - x)


def test_two_views__solarize_inverts_the_bright_half() -> None:
    x = torch.tensor([0.0, 0.3, 0.6, 1.0]).view(1, 1, 2, 2)
    expected = torch.tensor([0.0, 0.3, 0.4, 0.0]).view(1, 1, 2, 2)
    torch.testing.assert_close(only(solarize=1.0)(x, fork(0, "views"))[0], expected)


def test_two_views__blur_smooths_its_share_of_images() -> None:
    x = some_images(200)
    view, _ = only(blur=0.5)(x, fork(0, "views"))
    blurred = (view - x).abs().amax((1, 2, 3)) > 1e-4
    # an eighth or so of the widths are too small to show
    assert 0.35 < float(blurred.float().mean()) < 0.6
    assert view[blurred].var((1, 2, 3)).mean() < 0.5 * x.var()


def test_two_views__noise_has_its_standard_deviation() -> None:
    x = torch.full((20, 3, 12, 12), 0.5)
    view_a, view_b = only(noise_std=0.05)(x, fork(0, "views"))
    assert float((view_a - x).std()) == pytest.approx(0.05, rel=0.05)
    assert not torch.equal(view_a, view_b)


def test_two_views__take_float64_and_channels_last() -> None:
    x = some_images()
    plain, _ = ALL(x, fork(0, "views"))
    double, _ = ALL(x.double(), fork(0, "views"))
    last, _ = ALL(x.to(memory_format=torch.channels_last), fork(0, "views"))
    torch.testing.assert_close(double.float(), plain, rtol=0, atol=1e-4)
    torch.testing.assert_close(last, plain, rtol=0, atol=1e-4)


def test_two_views__compute_where_the_images_are() -> None:
    """The meta device refuses to be mixed with CPU tensors, as a GPU does."""
    for view in ALL(some_images().to("meta"), fork(0, "views")):
        assert view.device.type == "meta" and view.shape == (6, 3, 12, 12)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 3, 12, 12, dtype=torch.uint8), "divide bytes by 255"),
        (torch.zeros(3, 12, 12), "floating-point images"),
        (torch.zeros(2, 4, 12, 12), "got 4"),
        (torch.zeros(2, 3, 4, 4), "too small to blur"),
    ],
)
def test_two_views__refuse_other_images(x: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ALL(x, fork(0, "views"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flip", 1.1),
        ("blur", -0.1),
        ("crop_scale_min", 0.0),
        ("shift", 2.0),
        ("jitter", (0.4, 0.4, 1.2, 0.1)),
        ("jitter", (0.4, 0.4, 0.2, 0.6)),
        ("noise_std", -1.0),
        ("rotate_degrees", -3.0),
    ],
)
def test_two_views__refuse_options_out_of_range(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        only(**{name: value})
