"""Result tables: methods down, target data across; what is best, and differences to the control."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property

from datastill.report import formatting
from datastill.report.formatting import (
    CONTROLS,
    FULL_SOURCE,
    RANDOM,
    REFERENCES,
    natural_sort_key,
)
from datastill.report.statistics import Difference, Summary, difference, summarize

MIN_N = 3  # measurements of a line that may be bold; an interval of fewer is too wide
OF_DATA = ("image_size", "source", "precision")  # must be the same in what is compared
SAME_BYTES = 1.05  # sizes within this factor count as equal


@dataclass(frozen=True)
class Line:
    """How networks were pre-trained: everything but seeds."""

    method: str
    variant: str = ""
    count: int = 0
    target_kind: str = ""
    pretrain_steps: int = 0
    set_bytes: int = 0
    settings: str = "{}"  # JSON of a flat object

    @property
    def name(self) -> str:
        name = f"{self.method} · {self.variant}" if self.variant else self.method
        return f"{name}, coded" if self.is_coded else name

    @property
    def is_coded(self) -> bool:
        """Whether an image codec stores the set, and not plain pixels."""
        return not str(self.options["stored"]).startswith(("plain", "raw"))

    def has_bytes_of(self, other: "Line") -> bool:
        """Whether the files have the same size, but for what a budget leaves over."""
        sizes = sorted([self.set_bytes, other.set_bytes])
        return sizes[1] <= SAME_BYTES * sizes[0]

    @property
    def length(self) -> tuple[int, int]:
        return self.count, self.pretrain_steps

    @property
    def order(self) -> tuple[object, ...]:
        name = (*formatting.method_order(self.method), bool(self.variant), self.variant)
        numbers = (self.count, self.target_kind, self.pretrain_steps, self.set_bytes)
        return *name, *numbers, self.settings

    @cached_property
    def options(self) -> dict[str, object]:
        plain = {"stored": "plain"}  # where it is not compressed
        return {**plain, **json.loads(self.settings), "set_bytes": self.set_bytes}

    def differs_in(self, other: "Line") -> list[str]:
        """Name the options that both lines record, with other values."""
        keys = self.options.keys() & other.options.keys()
        return [key for key in keys if self.options[key] != other.options[key]]

    def distance(self, other: "Line") -> tuple[int, int]:
        """Count differing options; those of the method decide only between equals."""
        keys = self.differs_in(other)
        return sum(not key.startswith("method.") for key in keys), len(keys)


@dataclass(frozen=True)
class Column:
    """Data and setting that the networks were tested on."""

    data: str
    setting: str = ""
    data_fingerprint: str = ""
    task_options: str = "{}"  # JSON of a flat object

    @property
    def order(self) -> tuple[object, ...]:
        names = natural_sort_key(self.data), natural_sort_key(self.setting)
        return *names, self.data_fingerprint, self.task_options


@dataclass(frozen=True)
class Cell:
    """All measurements of one line in one column, in the order of their seeds."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    distilled_sets: int  # different artefacts behind the values

    @cached_property
    def summary(self) -> Summary:
        return summarize(self.values)

    def minus(self, other: "Cell") -> Difference:
        """Difference of the means; paired where both have the same seeds, once each."""
        paired = self.seeds == other.seeds and len(set(self.seeds)) == len(self.seeds)
        return difference(self.values, other.values, paired=paired)


@dataclass(frozen=True)
class ResultTable:
    """All measurements of one protocol, task, network and source."""

    protocol: str
    task: str
    network: str
    source: str
    is_r_squared: bool
    cells: dict[tuple[Line, Column], Cell]
    differing: str = ""  # task options in which tables of the same heading differ
    suffixes: dict[Line | Column, str] = field(default_factory=dict)  # likewise of their labels
    minutes: dict[Line, float] = field(default_factory=dict)  # of set and pre-training, if known

    @cached_property
    def lines(self) -> list[Line]:
        return sorted({line for line, _ in self.cells}, key=lambda line: line.order)

    @cached_property
    def columns(self) -> list[Column]:
        return sorted({column for _, column in self.cells}, key=lambda column: column.order)

    @property
    def digits(self) -> int:
        return 3 if self.is_r_squared else 1

    @property
    def unit(self) -> str:
        return "R²" if self.is_r_squared else "accuracy, %"

    @property
    def heading(self) -> str:
        """Protocol, task, the setting or target data of all columns, network and source."""
        task = formatting.protocol_title(self.protocol), formatting.task_title(self.task)
        common = self.columns[0].data if self._has_settings else self.columns[0].setting
        source = f"source {self.source}" if self.source else ""
        return " · ".join(filter(None, [*task, self.differing, common, self.network, source]))

    @cached_property
    def _has_settings(self) -> bool:
        return len({column.setting for column in self.columns}) > 1

    def label(self, part: Line | Column) -> str:
        """Name a line or column by its name and the options in which it differs."""
        if isinstance(part, Line):
            name = part.name
        else:
            name = part.setting or part.data if self._has_settings else part.data
        return ", ".join(filter(None, [name, self.suffixes.get(part, "")]))

    @cached_property
    def details(self) -> dict[str, list[str]]:
        """Columns beside the names of lines: kind of targets, updates, M, size and minutes."""
        target_kinds = [
            formatting.TARGET_KINDS.get(x.target_kind, x.target_kind) for x in self.lines
        ]
        texts = {
            "targets": [target_kind or "–" for target_kind in target_kinds],
            "updates": [formatting.format_count(line.pretrain_steps) for line in self.lines],
            "M": [formatting.format_count(line.count) for line in self.lines],
            "size": [formatting.format_bytes(line.set_bytes) for line in self.lines],
            "minutes": [
                formatting.format_minutes(self.minutes.get(line, math.nan)) for line in self.lines
            ],
        }
        return {title: column for title, column in texts.items() if set(column) != {"–"}}

    def not_significantly_worse_than_best(self, column: Column) -> set[Line]:
        """Find the best line of each M and all not significantly worse (Welch, 95 %).

        References (scratch, full source, target model) and lines with fewer than `MIN_N`
        measurements do not compete; a line without competitor is not marked.
        """
        marked: set[Line] = set()
        competing = [
            (line, cell)
            for (line, other), cell in self.cells.items()
            if other == column and line.method not in REFERENCES
            if cell.summary.n >= MIN_N and math.isfinite(cell.summary.mean)
        ]
        for count in {line.count for line, _ in competing}:
            same = [(line, cell) for line, cell in competing if line.count == count]
            _, best = max(same, key=lambda pair: pair[1].summary.mean)
            for line, cell in same if len(same) > 1 else []:
                if not difference(best.values, cell.values, paired=False).excludes_zero:
                    marked.add(line)
        return marked

    def control_of(self, line: Line) -> Line | None:
        """Find random images of the same targets, updates and data settings.

        Coded ones of the same bytes, else those of the same M. Where kinds of targets were not
        recorded, only random images without a variant count: a variant may have other targets.
        """
        random = [
            other
            for other in self._comparable(line, RANDOM)
            if line.method not in CONTROLS and (line.target_kind or not other.variant)
            if other.pretrain_steps == line.pretrain_steps
            if not any(key.startswith("pretraining.") for key in line.differs_in(other))
        ]
        coded = [other for other in random if other.is_coded and other.has_bytes_of(line)]
        same_count = [
            other
            for other in random
            if other.count == line.count and "outputs" not in line.differs_in(other)
        ]
        return min(coded or same_count, key=line.distance, default=None)

    def full_source_of(self, line: Line) -> Line | None:
        """Find the full source with the same targets and data settings, and the nearest updates."""
        return min(
            self._comparable(line, FULL_SOURCE),
            key=lambda x: (abs(x.pretrain_steps - line.pretrain_steps), line.distance(x)),
            default=None,
        )

    def _comparable(self, line: Line, method: str) -> list[Line]:
        """Return the lines of a method with the same targets and data settings."""
        same = (*OF_DATA, "target") if line.target_kind == "representation" else OF_DATA
        return [
            other
            for other in self.lines
            if other.method == method and other.target_kind == line.target_kind
            if not any(key.startswith(same) for key in line.differs_in(other))
        ]

    def default_of(self, line: Line) -> Line | None:
        """Find the method's defaults, of the same M and updates, for a variant."""
        same = [x for x in self.lines if (x.method, x.length) == (line.method, line.length)]
        defaults = [other for other in same if line.variant and not other.variant]
        return min(defaults, key=line.distance, default=None)

    def differences(
        self, line: Line, reference: Callable[[Line], Line | None]
    ) -> dict[Column, Difference]:
        """Subtract the reference (`control_of`, `default_of`) where both were measured."""
        return self._minus(line, reference(line))

    def head_room(self, line: Line) -> dict[Column, Difference]:
        """Subtract the line's control from the full source, where both were measured."""
        return self._minus(self.full_source_of(line), self.control_of(line))

    @cached_property
    def without_head_room(self) -> set[Column]:
        """Columns that cannot tell sets apart: no full source is better than random images."""
        rooms = [room for line in self.lines for room in self.head_room(line).items()]
        return {c for c, room in rooms if room.low <= 0} - {c for c, room in rooms if room.low > 0}

    def _minus(self, line: Line | None, other: Line | None) -> dict[Column, Difference]:
        return {
            column: self.cells[line, column].minus(self.cells[other, column])
            for column in self.columns
            if line and other and (line, column) in self.cells and (other, column) in self.cells
        }

    def records(self) -> Iterator[dict[str, object]]:
        """Yield the keys, labels and unrounded numbers of each cell, line by line."""
        best = {column: self.not_significantly_worse_than_best(column) for column in self.columns}
        for line in self.lines:
            control = self.control_of(line)
            gaps, rooms = self._minus(line, control), self.head_room(line)
            for column in self.columns:
                if cell := self.cells.get((line, column)):
                    gap, room = gaps.get(column), rooms.get(column)
                    yield {
                        **{"task": self.task, "network": self.network, "source": self.source},
                        **asdict(column),
                        **asdict(line),
                        "protocol": self.protocol,
                        "label": self.label(line),
                        "minutes": self.minutes.get(line),
                        "column": self.label(column),
                        "metric": "r_squared" if self.is_r_squared else "accuracy_percent",
                        **asdict(cell.summary),
                        "low": cell.summary.low,
                        "high": cell.summary.high,
                        "distilled_sets": cell.distilled_sets,
                        "best_within_noise": line in best[column],
                        "random": control and self.label(control),
                        "random_count": control and control.count,
                        "minus_random": gap and gap.mean,
                        "minus_random_low": gap and gap.low,
                        "minus_random_high": gap and gap.high,
                        "minus_random_paired": gap and gap.paired,
                        "head_room": room and room.mean,
                        "head_room_low": room and room.low,
                        "head_room_high": room and room.high,
                        "share_of_head_room": gap and room and share_of_head_room(gap, room),
                    }


def share_of_head_room(gap: Difference, room: Difference) -> float | None:
    """Divide a difference to random images by that of the full source; None without head-room."""
    return gap.mean / room.mean if room.low > 0 else None
