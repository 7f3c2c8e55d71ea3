"""Time and memory of `datastill data prepare imagenet`, on made images of the official shape.

Makes the eleven batches of ImageNet at 64 x 64 pixels with random pixels (15.7 GB at full count,
and as much again for the cache), prepares them in a process of its own, and deletes both. Then
the same for JPEG files of 500 x 375 pixels in class folders. Writes result.json and
environment.json.
"""

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datastill.core.atomic import write_json
from datastill.core.run_folder import environment
from datastill.data.imagenet import BATCHES, CLASSES, FOLDER, ImageNet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the official count")
    parser.add_argument("--photographs", type=int, default=2000, help="made JPEG files")
    parser.add_argument("--work", type=Path, help="folder with room for it; default: the system's")
    parser.add_argument("--out", type=Path, required=True, help="folder for the record")
    args = parser.parse_args()
    result: dict[str, Any] = {}
    for name, make, size in (
        ("batches", make_batches, args.share),
        ("photographs", make_photographs, args.photographs),
    ):
        with tempfile.TemporaryDirectory(dir=args.work) as folder, in_its_own_process() as pool:
            count = pool.submit(make, Path(folder) / FOLDER, size).result()
            result[name] = {"images": count, **prepare(Path(folder))}
            result[name]["images_per_second"] = round(count / result[name]["seconds"], 1)
        print(name, result[name], flush=True)
        write_json(args.out / "result.json", result)
    write_json(args.out / "environment.json", environment())


def in_its_own_process() -> ProcessPoolExecutor:
    """The peak of a process that is started counts what its parent held: so let another make."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def make_batches(folder: Path, share: float) -> int:
    """All batches with random pixels and labels; how many images they hold."""
    rng = np.random.default_rng(0)
    total = 0
    for split, names in BATCHES.items():
        ends = np.linspace(0, share * ImageNet.counts[split], len(names) + 1).astype(int)
        for name, count in zip(names, np.diff(ends).tolist(), strict=True):
            noise = rng.integers(0, 256, (1000, 3, 64, 64), np.uint8)
            images = np.resize(noise, (count, 3, 64, 64))
            labels = rng.integers(1, CLASSES + 1, count).tolist()
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb") as file:
                rows = images.reshape(count, -1)
                pickle.dump({"data": rows, "labels": labels}, file, protocol=3)
            total += count
    return total


def make_photographs(folder: Path, count: int) -> int:
    """Smooth colours with noise, about as large as the photographs are as JPEG; 5 % for testing."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (15, 20, 3), np.uint8)).resize((500, 375))
        noisy = np.asarray(coarse) + rng.normal(0, 12, (375, 500, 3))
        image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        file = folder / ("val" if i % 20 == 0 else "train") / f"n{i % 10:08d}" / f"{i}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file, quality=90)
    (folder / "train" / f"n{0:08d}").mkdir(exist_ok=True)
    return count


def prepare(root: Path) -> dict[str, float]:
    """Run the command; its seconds and the most memory that was resident at any time."""
    command = [sys.executable, "-m", "datastill", "data", "prepare", "imagenet"]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--data-root", str(root)],
        env={**os.environ, "DATASTILL_CACHE": str(root / "cache")},
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed with status {status}")
    seconds = round(time.perf_counter() - start, 2)
    return {"seconds": seconds, "peak_resident_gb": round(usage.ru_maxrss * 1024 / 1e9, 3)}


if __name__ == "__main__":
    main()
