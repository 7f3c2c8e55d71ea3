"""Blocks: the rows of one source, network and task, arranged as methods × target data."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from datastill.maths.metrics import Difference, Summary, difference, summarize
from datastill.report.glossary import UPPER_LINES, method_order, natural, task_order
from datastill.report.rows import Row


@dataclass(frozen=True)
class Entry:
    """A line of a table: how networks were pre-trained."""

    method: str
    variant: str = ""
    count: int = 0

    @property
    def label(self) -> str:
        return f"{self.method} · {self.variant}" if self.variant else self.method

    @property
    def order(self) -> tuple[object, ...]:
        return (*method_order(self.method), self.variant != "", natural(self.variant), self.count)


@dataclass(frozen=True)
class Column:
    """What the networks were judged on."""

    data: str
    setting: str = ""

    @property
    def label(self) -> str:
        return f"{self.data} · {self.setting}" if self.setting else self.data

    @property
    def order(self) -> tuple[object, ...]:
        return natural(self.data), natural(self.setting)


@dataclass(frozen=True)
class Cell:
    """All measurements of one entry in one column, in the order of their seeds."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    distilled_sets: int  # how many different artefacts are behind the values

    @cached_property
    def summary(self) -> Summary:
        return summarize(self.values)

    def minus(self, other: "Cell") -> Difference:
        """The difference of the means; paired where both have the same seeds, once each."""
        paired = self.seeds == other.seeds and len(set(self.seeds)) == len(self.seeds)
        return difference(self.values, other.values, paired=paired)


@dataclass(frozen=True)
class Comparison:
    """One entry against another of the same count, in every column that has both."""

    entry: Entry
    against: Entry
    differences: dict[Column, Difference]


@dataclass(frozen=True)
class Block:
    """One table: entries down, columns across."""

    source: str
    network: str
    task: str
    is_r_squared: bool
    cells: dict[tuple[Entry, Column], Cell]

    @cached_property
    def entries(self) -> list[Entry]:
        return sorted({entry for entry, _ in self.cells}, key=lambda entry: entry.order)

    @cached_property
    def columns(self) -> list[Column]:
        return sorted({column for _, column in self.cells}, key=lambda column: column.order)

    @property
    def spans(self) -> list[tuple[str, int]]:
        """Target data and how many neighbouring columns belong to it."""
        return [(data, len(list(group))) for data, group in groupby(c.data for c in self.columns)]

    def common_n(self, column: Column) -> int:
        """n where it is the same in all cells of a column, else 0."""
        counts = {cell.summary.n for (_, where), cell in self.cells.items() if where == column}
        return counts.pop() if len(counts) == 1 else 0

    def cell(self, entry: Entry, column: Column) -> Cell | None:
        return self.cells.get((entry, column))

    def best(self, column: Column) -> frozenset[Entry]:
        """The best entry and all whose difference to it may be 0; upper lines do not compete."""
        able = {
            entry: cell
            for (entry, where), cell in self.cells.items()
            if where == column
            and entry.method not in UPPER_LINES
            and not math.isnan(cell.summary.mean)
        }
        if not able:
            return frozenset()
        first = max(able, key=lambda entry: able[entry].summary.mean)
        gaps = {entry: able[first].minus(cell) for entry, cell in able.items()}
        known = {entry for entry, gap in gaps.items() if not math.isnan(gap.half_width95)}
        return frozenset({first} | {entry for entry in known if not gaps[entry].excludes_zero})

    def compare(self, entry: Entry, against: Entry) -> Comparison | None:
        """`entry` minus `against`, or None where no column has both."""
        differences = {
            column: self.cells[entry, column].minus(self.cells[against, column])
            for column in self.columns
            if (entry, column) in self.cells and (against, column) in self.cells
        }
        return Comparison(entry, against, differences) if differences else None

    @cached_property
    def against_random(self) -> list[Comparison]:
        """Every entry minus random images with target representations, of the same count."""
        pairs = ((e, Entry("random-subset", "", e.count)) for e in self.entries)
        return self._comparisons(pairs)

    @cached_property
    def against_plain(self) -> list[Comparison]:
        """Every variant of a method minus the method as it comes, of the same count."""
        varied = (e for e in self.entries if e.variant and e.method != "random-subset")
        return self._comparisons((e, Entry(e.method, "", e.count)) for e in varied)

    def _comparisons(self, pairs: Iterable[tuple[Entry, Entry]]) -> list[Comparison]:
        found = (self.compare(one, other) for one, other in pairs if one != other)
        return [comparison for comparison in found if comparison is not None]


def blocks(rows: Sequence[Row]) -> list[Block]:
    """Arrange rows into tables, in the order of tasks, networks and sources."""
    gathered: dict[tuple[str, str, str, bool], list[Row]] = {}
    for row in _at_home(rows):
        key = (row.task, row.network, row.source, row.is_r_squared)
        gathered.setdefault(key, []).append(row)
    keys = sorted(gathered, key=lambda k: (task_order(k[0]), natural(k[1]), natural(k[2]), k[3]))
    return [
        Block(
            source,
            network,
            task,
            is_r_squared,
            _cells(gathered[task, network, source, is_r_squared]),
        )
        for task, network, source, is_r_squared in keys
    ]


def _cells(rows: Sequence[Row]) -> dict[tuple[Entry, Column], Cell]:
    groups: dict[tuple[Entry, Column], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.seed, row.artefact)):
        key = Entry(row.method, row.variant, row.count), Column(row.data, row.setting)
        groups.setdefault(key, []).append(row)
    return {key: _cell(group) for key, group in groups.items()}


def _cell(rows: Sequence[Row]) -> Cell:
    artefacts = {row.artefact for row in rows} - {""}
    return Cell(tuple(row.seed for row in rows), tuple(row.value for row in rows), len(artefacts))


def _at_home(rows: Sequence[Row]) -> list[Row]:
    """Put lines that belong to several tables into each of them.

    The target model is an upper line for every network that learned from it, whatever its own
    architecture; a network from scratch that names no source is a lower line for every source.
    """
    homes = {(r.source, r.network) for r in rows if r.method not in ("target-model", "scratch")}
    placed = []
    for row in rows:
        fits = [home for home in sorted(homes) if _belongs(row, *home)]
        for source, network in fits or [(row.source, row.network)]:
            foreign = row.method == "target-model" and network != row.network
            variant = (row.variant or row.network) if foreign else row.variant
            placed.append(replace(row, source=source, network=network, variant=variant))
    return placed


def _belongs(row: Row, source: str, network: str) -> bool:
    same_source = row.source == source or (row.method == "scratch" and not row.source)
    return same_source and (row.network == network or row.method == "target-model")
