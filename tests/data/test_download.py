"""Downloads from a real server on this machine."""

import hashlib
import logging
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pooch
import pytest

from datastill.core import progress
from datastill.core.errors import ChecksumError, DataError
from datastill.data.archives import Archive, find_archives

CONTENT = bytes(range(256)) * 20_000  # 5.12 MB


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "images.tar").write_bytes(CONTENT)
    handler = partial(Handler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/images.tar"
        server.shutdown()


@pytest.fixture(autouse=True)
def quiet() -> None:
    pooch.get_logger().setLevel(logging.ERROR)


def fetch(address: str, folder: Path, md5: str = hashlib.md5(CONTENT).hexdigest()) -> Path:
    """Find the archive `images.tar`, and nothing of it is there."""
    location = find_archives("", [Archive(address, md5, "", ("images",))], folder)
    return location.path


def test_download__brings_the_published_bytes_and_says_how_far_it_is(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", -1.0)
    monkeypatch.setattr(progress, "LONGEST_PAUSE_SECONDS", -1.0)
    assert fetch(address, tmp_path) == tmp_path / "images.tar"
    assert (tmp_path / "images.tar").read_bytes() == CONTENT
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("download images.tar, MB 0/5")
    assert lines[-1].startswith("download images.tar, MB 5/5")


def test_download__other_bytes_leave_no_file(address: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with pytest.raises(ChecksumError, match=r"no longer the published file: .* known hash"):
        fetch(address, tmp_path / "here", "0" * 32)
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("gone", ["{}.gone", "http://127.0.0.1:9/images.tar"])
def test_download__failure_says_where_to_put_the_file_by_hand(
    address: str, tmp_path: Path, gone: str
) -> None:
    with pytest.raises(DataError, match=r"images\.tar.* put it there by hand \(from http"):
        fetch(gone.format(address), tmp_path)
