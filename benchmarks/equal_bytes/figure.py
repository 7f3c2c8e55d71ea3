"""Draw accuracy over bytes, or over updates of pre-training: a line for each row.

Usage: python benchmarks/equal_bytes/figure.py rows.jsonl --rows "random, coded" solved
       --out equal-bytes.png
       python benchmarks/equal_bytes/figure.py rows.jsonl --rows "random, coded" "full source"
       --updates-at 80000 --out updates.png
Over bytes, no pre-training and the full source are horizontal lines; over updates, sets have the
bytes of `--updates-at`.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from datastill.report.statistics import summarize

PANELS = {
    "cifar10, 50 per class, body": "CIFAR-10, 50 labels a class, probe on the body",
    "cifar10, 50 per class, output": "CIFAR-10, 50 labels a class, probe on the output",
    "cifar100, 5 per class, output": "CIFAR-100, 5 labels a class, probe on the output",
    "cub100, fine-tuned": "half of CUB, fine-tuned on all labels",
}
UPDATES = 1000  # where a line does not say
LIMITS = {"none": ("no pre-training", ":"), "full source": ("full source, 50,000 images", "--")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", type=Path)
    parser.add_argument("--target", default="efficientnet-lite0")
    parser.add_argument("--rows", nargs="+", required=True)
    parser.add_argument("--updates-at", type=int, metavar="BYTES")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cells = defaultdict(list)  # by row, and bytes or updates
    for line in map(json.loads, options.lines.read_text().splitlines()):
        if line["target"] != options.target or "student" in line:
            continue
        updates, size = line.get("updates", UPDATES), line["bytes"]
        if options.updates_at is None:
            place = size / 1000 if updates == UPDATES else None
        else:
            place = updates if size in (0, options.updates_at) else None
        if place is not None:
            cells[line["row"], place].append(line["results"])
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), sharex=True)
    for axis, (name, title) in zip(axes.flat, PANELS.items(), strict=True):
        for row, (label, style) in LIMITS.items():
            if (row, 0) in cells:
                mean = summarize([results[name] for results in cells[row, 0]]).mean
                axis.axhline(mean, color="grey", linestyle=style, label=label)
        for number, row in enumerate(options.rows):
            places = sorted(place for other, place in cells if other == row and place)
            points = [summarize([results[name] for results in cells[row, x]]) for x in places]
            axis.errorbar(
                [place * (1 + 0.02 * number) for place in places],
                [point.mean for point in points],
                [point.half_width95 if point.n > 1 else 0 for point in points],
                marker="o",
                capsize=3,
                label=row,
            )
        axis.set_title(title, fontsize=9)
        axis.set_xscale("log")
        axis.set_ylabel("accuracy, %")
    ticks = sorted({place for _, place in cells if place})
    over_bytes = options.updates_at is None
    for axis in axes[1]:
        axis.set_xlabel("bytes of the file, kB" if over_bytes else "updates of pre-training")
        axis.set_xticks(ticks, [f"{tick:,g}" for tick in ticks], minor=False)
        axis.minorticks_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, fontsize=8)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
