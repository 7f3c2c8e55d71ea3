"""Lists of official archives: damage is an error with a name, whatever the bytes."""

from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest
from archives import write_lines, write_mat
from scipy.io import savemat

from datastill.core.errors import DataError
from datastill.data.lists import class_labels, read_mat, read_pairs


@pytest.fixture
def mat(tmp_path: Path) -> Path:
    rows = [{"class": 1, "fname": "a.jpg"}, {"class": 2, "fname": "b.jpg"}]
    names = [f"n{i}/n{i}.jpg" for i in range(40)]
    write_mat(tmp_path / "a.mat", {"rows": rows, "names": names, "labels": np.arange(40)})
    return tmp_path / "a.mat"


def test_read_mat__damaged_bytes_never_reach_scipy(mat: Path) -> None:
    whole, random = mat.read_bytes(), Random(0)  # scipy itself ends the process on some of these
    for _ in range(300):
        content = bytearray(whole)
        content[random.randrange(128, len(content))] ^= 1 << random.randrange(8)
        mat.write_bytes(content[: random.choice([len(content), random.randrange(len(content))])])
        with suppress(DataError):
            assert len(read_mat(mat, ("names",))["names"]) == 40


def test_read_mat__uncompressed_file_is_not_the_published_one(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"labels": np.arange(4)})
    with pytest.raises(DataError, match=r"a\.mat cannot be read .* not compressed; extract"):
        read_mat(tmp_path / "a.mat", ("labels",))


def test_read_pairs__what_follows_the_first_word_is_kept_whole(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.txt", ["0034309 DC-9 30", "", "7 F/A-18"])
    assert read_pairs(tmp_path / "a.txt") == [("0034309", "DC-9 30"), ("7", "F/A-18")]


@pytest.mark.parametrize("numbers", [[0, 1], [1, 3], [-5], ["one"]])
def test_class_labels__number_of_no_class_is_refused(numbers: list) -> None:
    with pytest.raises(DataError, match=r"labels\.txt: labels (run from|are no whole numbers)"):
        class_labels(numbers, 2, Path("labels.txt"))
