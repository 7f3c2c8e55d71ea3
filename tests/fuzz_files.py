"""Mutated files by the hour, led by coverage: python tests/fuzz_files.py SECONDS (needs atheris).

Reading a file must give our error or a value: anything else, 5 seconds or 2 GB are a finding,
which libFuzzer prints and keeps. The first byte of an input chooses the reader, and whether the
SHA-256 in the file is put right first, as somebody would who means harm.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["datastill"]):
    import torch
    from factories import toy_set
    from test_damage import artefact, coded_artefact, saved_state, target_model

    from datastill.convert.torch_file import in_memory, read_torch
    from datastill.core import tensor_file
    from datastill.core.errors import DatastillError

FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
KINDS = (artefact, coded_artefact, target_model, saved_state)


def foreign(folder: Path) -> tuple[Path, Callable[[], object]]:
    """A file of torch.save, as other programs write it."""
    file, distilled = folder / "foreign.pt", toy_set()
    torch.save({"x": distilled.images, "y": [distilled.targets, 0.5]}, file)

    def read() -> object:
        loaded = read_torch(file)
        values = loaded.values() if isinstance(loaded, dict) else [loaded]
        return [in_memory(value, file) for value in values if isinstance(value, torch.Tensor)]

    return file, read


def readers() -> list[tuple[Path, Callable[[], object]]]:
    """Return an undamaged file of each kind, and the function that reads it."""
    readers = []
    for kind in KINDS:
        folder = FOLDER / kind.__name__
        folder.mkdir()
        kept = kind(folder)
        readers.append((kept.files[0], kept.read))
    return [*readers, foreign(FOLDER)]


def put_right(file: Path) -> None:
    """Write the file again with the SHA-256 of what is in it now."""
    metadata, tensors = tensor_file.read_tensors(file)
    metadata.pop("sha256", None)
    tensor_file.write_checked(file, tensors, metadata)


READERS = readers()


def read_mutated(data: bytes) -> None:
    if not data:
        return
    file, read = READERS[data[0] % len(READERS)]
    file.write_bytes(data[1:])
    try:
        if data[0] >= 128 and file.suffix == ".safetensors":
            put_right(file)
        read()
    except DatastillError:
        pass


def main() -> None:
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, (file, _) in enumerate(READERS):
        for first in (number, 128 + number):  # both are `number` modulo the number of readers
            (corpus / f"{first}").write_bytes(bytes([first]) + file.read_bytes())
    warnings.simplefilter("ignore")
    limits = [f"-max_total_time={sys.argv[1]}", "-timeout=30", "-rss_limit_mb=2048"]
    words = [sys.argv[0], str(corpus), *limits, "-max_len=20000", "-print_final_stats=1"]
    atheris.Setup(words, read_mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
