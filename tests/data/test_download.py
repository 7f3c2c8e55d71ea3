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
from datastill.data.archives import download

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


def test_download__brings_the_published_bytes(address: str, tmp_path: Path) -> None:
    file = tmp_path / "here" / "images.tar"
    assert download(address, hashlib.md5(CONTENT).hexdigest(), file) == file
    assert file.read_bytes() == CONTENT


def test_download__says_how_far_it_is(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", -1.0)
    monkeypatch.setattr(progress, "LONGEST_PAUSE_SECONDS", -1.0)
    download(address, hashlib.md5(CONTENT).hexdigest(), tmp_path / "images.tar")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("download images.tar, MB 0/5")
    assert lines[-1].startswith("download images.tar, MB 5/5")


def test_download__other_bytes_leave_no_file(address: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not match the known hash"):
        download(address, "0" * 32, tmp_path / "here" / "images.tar")
    assert not list((tmp_path / "here").iterdir())


def test_download__missing_file_is_an_error(address: str, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        download(address + ".gone", "0" * 32, tmp_path / "here" / "images.tar")
