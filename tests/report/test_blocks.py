"""blocks: order, pairing, bold within noise, and lines that belong to several tables."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import row, write_lines

from datastill.report.blocks import Block, Column, Entry, blocks
from datastill.report.rows import read_rows

HERE = Column("digits", "5 per class, output")


def arranged(folder: Path, lines: Sequence[dict[str, Any]]) -> list[Block]:
    write_lines(folder / "rows.jsonl", lines)
    return blocks(read_rows([folder]))


def seeds(method: str, *values: float, **changes: Any) -> list[dict[str, Any]]:
    return [row(method, value, seed=seed, **changes) for seed, value in enumerate(values)]


def test_blocks__entries_run_from_lower_to_upper_lines(tmp_path: Path) -> None:
    names = ["full-source", "krr-st", "target-model", "k-means", "scratch", "random-subset"]
    lines = [row(name, 1.0) for name in names]
    lines += [row("krr-st", 1.0, variant="stale_pool"), row("krr-st", 1.0, count=100)]
    lines += [row("random-subset", 1.0, variant="targets=class-label")]
    (block,) = arranged(tmp_path, lines)
    assert [(e.label, e.count) for e in block.entries] == [
        ("scratch", 0),
        ("random-subset", 50),
        ("random-subset · targets=class-label", 50),
        ("k-means", 50),
        ("krr-st", 50),
        ("krr-st", 100),
        ("krr-st · stale_pool", 50),
        ("full-source", 0),
        ("target-model", 0),
    ]


def test_blocks__columns_are_in_natural_order(tmp_path: Path) -> None:
    settings = ["10 per class", "all labels", "1 per class", "5 per class"]
    (block,) = arranged(tmp_path, [row("krr-st", 1.0, setting=s) for s in settings])
    assert [c.setting for c in block.columns] == [
        "1 per class",
        "5 per class",
        "10 per class",
        "all labels",
    ]
    assert block.spans == [("digits", 4)]


def test_blocks__tasks_networks_and_sources_have_tables_of_their_own(tmp_path: Path) -> None:
    lines = [row("krr-st", 1.0, **{key: "another"}) for key in ("task", "network", "source")]
    assert len(arranged(tmp_path, [row("krr-st", 1.0), *lines])) == 4


def test_best__is_bold_with_all_that_may_equal_it(tmp_path: Path) -> None:
    lines = seeds("krr-st", 50.0, 51.0, 52.0)
    lines += seeds("krr-st", 49.0, 52.0, 51.5, variant="close")
    lines += seeds("random-subset", 40.0, 41.0, 42.5)
    lines += seeds("full-source", 70.0, 71.0, 72.0)
    (block,) = arranged(tmp_path, lines)
    assert block.best(HERE) == {Entry("krr-st", "", 50), Entry("krr-st", "close", 50)}


def test_best__single_measurements_leave_one_winner(tmp_path: Path) -> None:
    lines = [row("krr-st", 50.0), row("random-subset", 50.1), row("target-model", 70.0)]
    (block,) = arranged(tmp_path, lines)
    assert block.best(HERE) == {Entry("random-subset", "", 50)}


def test_best__of_upper_lines_alone_is_nobody(tmp_path: Path) -> None:
    (block,) = arranged(tmp_path, [row("target-model", 70.0), row("krr-st", None)])
    assert block.best(HERE) == frozenset()


def test_cell__is_paired_only_where_the_seeds_are_the_same(tmp_path: Path) -> None:
    lines = seeds("krr-st", 3.0, 5.0, 7.0) + seeds("random-subset", 1.0, 3.0, 5.0)
    lines += seeds("k-means", 1.0, 3.0)
    (block,) = arranged(tmp_path, lines)
    krr, random, means = (
        block.cells[Entry(name, "", 50), HERE] for name in ("krr-st", "random-subset", "k-means")
    )
    assert krr.minus(random).paired and krr.minus(random).half_width95 == 0
    assert not krr.minus(means).paired


def test_cell__several_distilled_sets_of_a_seed_are_not_paired(tmp_path: Path) -> None:
    lines = [row("krr-st", 1.0 + k, artefact=str(k)) for k in range(2)]
    lines += [row("random-subset", 2.0 + k, artefact=str(k)) for k in range(2)]
    (block,) = arranged(tmp_path, lines)
    krr, random = (block.cells[Entry(m, "", 50), HERE] for m in ("krr-st", "random-subset"))
    assert krr.distilled_sets == 2
    assert not krr.minus(random).paired


def test_against_random__compares_equal_counts_only(tmp_path: Path) -> None:
    lines = [row("random-subset", 1.0), row("krr-st", 3.0), row("krr-st", 4.0, count=100)]
    (block,) = arranged(tmp_path, [*lines, row("scratch", 0.0)])
    (only,) = block.against_random
    assert only.entry == Entry("krr-st", "", 50)
    assert only.differences[HERE].mean == 2.0
    assert math.isnan(only.differences[HERE].half_width95)


def test_against_plain__compares_variants_with_the_method_as_it_comes(tmp_path: Path) -> None:
    lines = [row("krr-st", 3.0), row("krr-st", 1.0, variant="stale_pool")]
    (block,) = arranged(tmp_path, lines)
    (only,) = block.against_plain
    assert only.differences[HERE].mean == -2.0


def test_blocks__target_model_is_in_the_table_of_every_network(tmp_path: Path) -> None:
    lines = [row("krr-st", 1.0, network=n) for n in ("convnet", "vgg11")]
    lines += [row("target-model", 70.0, network="resnet18")]
    found = arranged(tmp_path, lines)
    assert [block.network for block in found] == ["convnet", "vgg11"]
    assert all(Entry("target-model", "resnet18") in block.entries for block in found)


def test_blocks__scratch_without_source_is_in_the_table_of_every_source(tmp_path: Path) -> None:
    lines = [row("krr-st", 1.0, source=s) for s in ("a", "b")] + [row("scratch", 0.0, source="")]
    found = arranged(tmp_path, lines)
    assert [block.source for block in found] == ["a", "b"]
    assert all(Entry("scratch") in block.entries for block in found)


@pytest.mark.parametrize("values", [(50.0, float("nan"))])
def test_cell__a_number_that_is_not_finite_is_not_hidden(
    tmp_path: Path, values: tuple[float, ...]
) -> None:
    (block,) = arranged(tmp_path, seeds("krr-st", *values))
    assert math.isnan(block.cells[Entry("krr-st", "", 50), HERE].summary.mean)
