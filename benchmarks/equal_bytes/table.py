"""Turn lines of measure.py into a Markdown table: means, and differences to random coded images.

Usage: python benchmarks/equal_bytes/table.py rows.jsonl [--target efficientnet-lite0]
       [--student resnet10] [--updates 80]
A cell is mean ± half the 95 % interval; below it the paired difference to `random, coded` of the
same bytes, bold where its interval excludes 0. Columns whose full source does not beat random coded
images have no head-room, and are marked with *.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from datastill.report.statistics import Difference, difference, summarize

CONTROL, FULL = "random, coded", "full source"
Lines = dict[int, dict[str, Any]]  # of one row, by seed


def values(lines: Lines, name: str) -> list[float]:
    return [line["results"][name] for _, line in sorted(lines.items()) if name in line["results"]]


def against(lines: Lines, control: Lines, name: str) -> Difference | None:
    """Return the paired difference over the seeds that both have."""
    both = [s for s in sorted(lines) if s in control and name in lines[s]["results"]]
    if len(both) < 2:
        return None
    a, b = ([x[s]["results"][name] for s in both] for x in (lines, control))
    return difference(a, b, paired=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--target", default="efficientnet-lite0")
    parser.add_argument("--student", default="convnet")
    parser.add_argument("--updates", type=int, default=1000)
    options = parser.parse_args()
    wanted = options.target, options.student, options.updates
    table: dict[tuple[int, str], Lines] = {}
    for path in options.rows:
        for line in map(json.loads, path.read_text().splitlines()):
            found = line["target"], line.get("student", "convnet"), line.get("updates", 1000)
            if found == wanted:
                row = table.setdefault((line["bytes"], line["row"]), {})
                row[line["seed"]] = line
    columns = list(
        max(
            (x for lines in table.values() for x in lines.values()), key=lambda x: len(x["results"])
        )["results"]
    )
    full = table.get((0, FULL), {})
    budgets = sorted({budget for budget, _ in table})
    for budget in budgets:
        control = table.get((budget, CONTROL), {})
        room = {name: against(full, control, name) for name in columns}
        marks = {name: "" if d and d.low > 0 else " *" for name, d in room.items()}
        header = ["row", "images", "bytes", "set, min", "n", *(n + marks[n] for n in columns)]
        print(f"\n### {budget:,} bytes\n" if budget else "\n### No set, or no limit\n")
        print("| " + " | ".join(header) + " |\n|---" + "|--:" * (len(header) - 1) + "|")
        for (bytes_, row), lines in table.items():
            if bytes_ != budget:
                continue
            some = next(iter(lines.values()))
            minutes = [x["set_seconds"] / 60 for x in lines.values() if "set_seconds" in x]
            largest = max(x.get("file_bytes", 0) for x in lines.values())
            made = f"{sum(minutes) / len(minutes):.1f}" if minutes else ""
            cells = [row, str(some.get("count", "")), f"{largest:,}", made, str(len(lines))]
            for name in columns:
                cells.append(cell(lines, control if row != CONTROL else {}, room[name], name))
            print("| " + " | ".join(cells) + " |")


def cell(lines: Lines, control: Lines, room: Difference | None, name: str) -> str:
    """Return mean ± half the interval, the difference, and the share of the head-room."""
    found = values(lines, name)
    if not found:
        return ""
    digits = 3 if name.endswith("r2") else 1
    summary = summarize(found)
    text = f"{summary.mean:.{digits}f}"
    if len(found) > 1:
        text += f" ± {(summary.high - summary.low) / 2:.{digits}f}"
    gain = against(lines, control, name)
    if gain is None:
        return text
    change = f"{gain.mean:+.{digits}f} ({gain.low:.{digits}f} to {gain.high:.{digits}f})"
    share = f", {100 * gain.mean / room.mean:.0f} %" if room and room.low > 0 else ""
    return f"{text}<br>" + (f"**{change}**" if gain.excludes_zero else change) + share


if __name__ == "__main__":
    main()
