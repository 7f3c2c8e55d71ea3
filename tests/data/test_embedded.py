"""The glyphs and digits that everything offline runs on."""

import time

import numpy as np
import pytest
from sklearn.datasets import load_digits

from datastill.data import glyphs
from datastill.data.digits import Digits
from datastill.data.glyphs import Glyphs, picture


def test_glyphs__are_708_without_digits_and_one_in_eight_is_held_out() -> None:
    assert (len(set(glyphs.CHARACTERS)), len(set(glyphs.FONTS))) == (59, 12)
    assert not any(character.isdigit() for character in glyphs.CHARACTERS)
    start = time.perf_counter()
    counts = {split: len(Glyphs().load(split)) for split in Glyphs.splits}
    assert counts == {"train": 620 * 12, "test": 88 * 12} == dict(Glyphs.counts)
    assert time.perf_counter() - start < 6  # two splits, and the statistics of one twice


def test_glyphs__are_as_large_and_as_inked_as_digits() -> None:
    ink, digits = glyphs._all_ink(), load_digits().images / 16
    assert ink.shape == (708, 8, 8) and (ink.sum((1, 2)) > 2).all()
    assert ink.mean() == pytest.approx(digits.mean(), rel=0.1)
    assert _height(ink) == pytest.approx(_height(digits), rel=0.1)


def _height(ink: np.ndarray) -> float:
    """Mean number of rows with ink."""
    return float((ink.max(2) > 0).sum(1).mean())


def test_digits__splits_hold_every_digit_once() -> None:
    labels = {split: Digits().load(split).labels for split in Digits.splits}
    assert {split: len(part) for split, part in labels.items()} == dict(Digits.counts)
    counts = np.bincount(np.concatenate(list(labels.values())))
    assert counts.tolist() == np.bincount(load_digits().target).tolist()


def test_picture__stroke_may_be_darker_or_lighter_and_is_never_lost() -> None:
    ink = np.zeros((200, 8, 8), np.float32)
    ink[:, 1:7, 1:7] = 1
    images = picture(ink, 16, np.random.default_rng(0)).astype(int)[:, 0]
    lighter = (images[:, 8, 8] > images[:, 0, 0]).mean()
    assert 0.3 < lighter < 0.7
    assert (abs(images[:, 8, 8] - images[:, 0, 0]) > 40).all()


def test_picture__rotation_and_shift_keep_ink_inside() -> None:
    ink = np.zeros((100, 8, 8), np.float32)
    ink[:, 3:5, 3:5] = 1
    images = picture(ink, 16, np.random.default_rng(0)).astype(int)[:, 0]
    ground = np.median(images, axis=(1, 2), keepdims=True)
    stroke = abs(images - ground) > 60
    assert stroke.any((1, 2)).all()
    assert not stroke[:, [0, -1]].any()
