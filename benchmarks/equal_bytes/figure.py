"""Draw accuracy over bytes: a line for each row, none and the full source as horizontal lines.

Usage: python benchmarks/equal_bytes/figure.py rows.jsonl --rows "random, coded" solved
       --out equal-bytes.png
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
LIMITS = {"none": ("no pre-training", ":"), "full source": ("full source, 50,000 images", "--")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", type=Path)
    parser.add_argument("--target", default="efficientnet-lite0")
    parser.add_argument("--rows", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cells = defaultdict(list)  # by row and bytes
    for line in map(json.loads, options.lines.read_text().splitlines()):
        if line["target"] == options.target and not {"student", "updates"} & set(line):
            cells[line["row"], line["bytes"]].append(line["results"])
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), sharex=True)
    for axis, (name, title) in zip(axes.flat, PANELS.items(), strict=True):
        for row, (label, style) in LIMITS.items():
            if cells[row, 0]:
                mean = summarize([results[name] for results in cells[row, 0]]).mean
                axis.axhline(mean, color="grey", linestyle=style, label=label)
        for number, row in enumerate(options.rows):
            sizes = sorted(size for other, size in cells if other == row and size)
            points = [summarize([results[name] for results in cells[row, s]]) for s in sizes]
            axis.errorbar(
                [size / 1000 * (1 + 0.02 * number) for size in sizes],
                [point.mean for point in points],
                [point.half_width95 if point.n > 1 else 0 for point in points],
                marker="o",
                capsize=3,
                label=row,
            )
        axis.set_title(title, fontsize=9)
        axis.set_xscale("log")
        axis.set_ylabel("accuracy, %")
    for axis in axes[1]:
        axis.set_xlabel("bytes of the file, kB")
        axis.set_xticks([20, 80], ["20", "80"], minor=False)
        axis.minorticks_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, fontsize=8)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
