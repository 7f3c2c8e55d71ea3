"""tables: what is averaged and what is not, order, the mark, and what is compared with what."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from synthetic_grid import whole_grid
from synthetic_runs import arranged, cell_of, line_of, only_table, row, seeds

from datastill.report.arrange import differing_options
from datastill.report.tables import ResultTable

RECORDED = {
    "image_size": 16,
    "precision": "float32",
    "outputs": 512,
    "data": "d" * 64,
    "method": {"outer_lr": 0.1, "outer_steps": 2, "stale_pool": False},
    "network": {"name": "convnet", "widths": [8, 8]},
    "source": "0" * 64,
    "target": "a" * 64,
    "distillation_precision": "float32",
    "distillation_seed": 0,
}


def labels(table: ResultTable) -> list[str]:
    return [table.label(line) for line in table.lines]


def marked(table: ResultTable) -> set[str]:
    best = table.not_significantly_worse_than_best(table.columns[0])
    return {f"{table.label(line)} {line.count}" for line in best}


def gap(table: ResultTable, label: str) -> float | None:
    line = line_of(table, label)
    gaps = table.differences(line, table.control_of)
    return gaps[table.columns[0]].mean if gaps else None


@pytest.mark.parametrize(
    ("name", "changed", "shown"),
    [
        ("method", {"outer_lr": 0.5, "outer_steps": 2, "stale_pool": False}, "outer_lr=0.5"),
        ("image_size", 32, "image_size=32"),
        ("precision", "bfloat16", "precision=bfloat16"),
        ("outputs", 128, "outputs=128"),
        ("network", {"name": "convnet", "widths": [16]}, "widths=[16]"),
        ("source", "1" * 64, "source=11111111"),
        ("target", "b" * 64, "target=bbbbbbbb"),
        ("distillation_precision", "bfloat16", "distillation_precision=bfloat16"),
        ("pretraining", {"lr": 0.2}, "pretraining.lr=0.2"),
    ],
)
def test_tables__other_settings_are_never_averaged_and_the_line_shows_them(
    tmp_path: Path, name: str, changed: object, shown: str
) -> None:
    lines = []
    for k, settings in enumerate((RECORDED, RECORDED | {name: changed})):
        options = {"pretraining": settings.get("pretraining", {"lr": 0.1})}
        values = (10.0 * k, 10.0 * k + 1)
        lines += seeds("krr-st", *values, settings=settings, options=options, artefact=str(k))
    for ordered in (lines, lines[::-1]):
        table = only_table(tmp_path, ordered)
        assert [cell.values for cell in table.cells.values()] in (
            [(0.0, 1.0), (10.0, 11.0)],
            [(10.0, 11.0), (0.0, 1.0)],
        )
        assert f"krr-st, {shown}" in labels(table) and "krr-st" not in labels(table)


def test_tables__seeds_of_distillation_are_averaged(tmp_path: Path) -> None:
    lines = [
        row("krr-st", 1.0 + k, artefact=str(k), settings=RECORDED | {"distillation_seed": k})
        for k in range(3)
    ]
    cell = cell_of(only_table(tmp_path, lines), "krr-st")
    assert cell.values == (1.0, 2.0, 3.0) and cell.distilled_sets == 3


def test_tables__a_few_bytes_make_no_line_of_their_own(tmp_path: Path) -> None:
    """Files of other seeds differ a little; earlier versions counted the tensors alone."""
    lines = [
        row("krr-st", 1.0 + k, set_bytes=size, artefact="f" * 64, seed=k, settings=RECORDED)
        for k, size in enumerate((12_288, 14_004, 14_012))
    ]
    lines.append(lines[0] | {"set_bytes": 14_004})  # measured again by this version
    table = only_table(tmp_path, lines)
    assert cell_of(table, "krr-st").values == (1.0, 2.0, 3.0)
    assert [line.set_bytes for line in table.lines] == [14_012]


def test_tables__stored_forms_are_lines_with_controls_of_their_own(tmp_path: Path) -> None:
    lines = [
        row(method, value + k, set_bytes=size, settings=RECORDED | stored, seed=k)
        for method, value in (("krr-st", 60.0), ("random-subset", 50.0))
        for better, (stored, size) in enumerate(
            [
                ({}, 80_000),
                ({"stored": "avif, 8000 bytes, 32 pixels, int8"}, 7_900),
                ({"stored": "webp, 8000 bytes, 32 pixels, int8"}, 7_900),
            ]
        )
        for k in (3 * better, 3 * better + 1)
    ]
    table = only_table(tmp_path, lines)
    assert labels(table)[:3] == [
        "random-subset, coded, stored=avif, 8000 bytes, 32 pixels, int8",
        "random-subset, coded, stored=webp, 8000 bytes, 32 pixels, int8",
        "random-subset",
    ]
    for line in table.lines[3:]:
        control = table.control_of(line)
        assert control is not None and control.options["stored"] == line.options["stored"]


DIFFERENT = {  # what differs: two rows, labels of lines
    "sets without a seed": (
        [
            row("dc", 1.0, artefact=a * 64, settings=RECORDED | {"distillation_seed": None})
            for a in "ef"
        ],
        ["dc, artefact=eeeeeeee", "dc, artefact=ffffffff"],
    ),
    "target models": (
        [row("target-model", 70.0, artefact=a * 64) for a in "ab"],
        ["target-model, target=aaaaaaaa", "target-model, target=bbbbbbbb"],
    ),
    "kinds of targets": (
        [row("dc", 1.0, target_kind=kind) for kind in ("hard-label", "soft-label")],
        ["dc", "dc"],
    ),
    "sizes": ([row("dc", 1.0, set_bytes=size) for size in (100, 200)], ["dc", "dc"]),
}


@pytest.mark.parametrize(("lines", "expected"), DIFFERENT.values(), ids=list(DIFFERENT))
def test_tables__what_is_no_seed_has_its_own_line(
    tmp_path: Path, lines: list[dict[str, Any]], expected: list[str]
) -> None:
    assert labels(only_table(tmp_path, lines)) == expected


def test_tables__two_data_of_one_name_are_two_columns(tmp_path: Path) -> None:
    lines = [row("krr-st", 1.0, settings=RECORDED | {"data": mark * 64}) for mark in "ab"]
    table = only_table(tmp_path, lines)
    assert [table.label(c)[:14] for c in table.columns] == ["digits, data=a", "digits, data=b"]


def test_tables__other_options_of_the_task_have_a_table_of_their_own(tmp_path: Path) -> None:
    lines = [
        row("random-subset", value, options={"task": {"steps": steps, "lr": 0.1}})
        for steps, value in ((1, 53.0), (400, 100.0))
    ]
    tables = arranged(tmp_path, lines)
    assert [table.differing for table in tables] == ["steps=1", "steps=400"]
    assert "Linear probe · steps=1 · " in tables[0].heading
    assert [cell_of(table, "random-subset").values for table in tables] == [(53.0,), (100.0,)]


def test_tables__tasks_of_other_settings_share_a_table(tmp_path: Path) -> None:
    lines = [
        row("krr-st", 1.0, setting=f"1%, {part}", options={"task": {"features": part}})
        for part in ("body", "output")
    ]
    assert len(only_table(tmp_path, lines).columns) == 2


def test_differing_options__are_as_few_as_needed() -> None:
    options: list[dict[str, object]] = [
        {"method.lr": lr, "method.steps": steps, "source": f"{lr}{steps}"}
        for lr, steps in ((1, 2), (1, 3), (5, 3))
    ]
    assert differing_options(["x"] * 3, options) == ["source=12", "source=13", "source=53"]
    same = [{k: v for k, v in one.items() if k != "source"} for one in options]
    assert differing_options(["x"] * 3, same) == ["lr=1, steps=2", "lr=1, steps=3", "lr=5, steps=3"]
    assert differing_options(["x", "x"], [{"lr": 1}, {}]) == ["lr=1", "lr not recorded"]
    assert differing_options(["x", "y"], [{"lr": 1}, {}]) == ["", ""]


def test_tables__no_cell_mixes_what_was_measured_differently(tmp_path: Path) -> None:
    rows = whole_grid()
    keys = ("protocol", "network", "task", "data", "setting", "method", "variant", "target_kind")
    expected: dict[tuple[object, ...], set[float]] = {}
    for line in rows:
        key = (*(line[key] for key in keys), line["pretrain_steps"])
        expected.setdefault(key, set()).add(line["accuracy_percent"])
    values = {}
    for table in arranged(tmp_path, rows):
        for (line, column), cell in table.cells.items():
            where = (table.protocol, table.network, table.task, column.data, column.setting)
            how = (line.method, line.variant, line.target_kind, line.pretrain_steps)
            assert (*where, *how) not in values
            values[*where, *how] = set(cell.values)
    assert values == expected


def test_tables__lines_run_from_lower_to_upper_references(tmp_path: Path) -> None:
    names = ["full-source", "krr-st", "target-model", "k-means", "scratch", "random-subset"]
    lines = [row(name, 1.0) for name in names]
    lines += [row("krr-st", 1.0, variant="stale_pool"), row("krr-st", 1.0, count=100)]
    table = only_table(tmp_path, lines)
    assert [(table.label(line), line.count) for line in table.lines] == [
        ("scratch", 0),
        ("random-subset", 50),
        ("k-means", 50),
        ("krr-st", 50),
        ("krr-st", 100),
        ("krr-st · stale_pool", 50),
        ("full-source", 0),
        ("target-model", 0),
    ]


def test_tables__references_are_in_the_table_of_every_network_and_source(tmp_path: Path) -> None:
    lines = [row("krr-st", 1.0, network=n, source=s) for n in ("convnet", "vgg11") for s in "ab"]
    lines += [row("target-model", 70.0, network="resnet18", source="a", artefact="t")]
    lines += [row("scratch", 0.0, network="vgg11", source=""), row("scratch", 0.0, network="x")]
    labels_of = {(t.network, t.source): labels(t) for t in arranged(tmp_path, lines)}
    assert labels_of == {
        ("convnet", "a"): ["krr-st", "target-model · resnet18"],
        ("convnet", "b"): ["krr-st"],
        ("vgg11", "a"): ["scratch", "krr-st", "target-model · resnet18"],
        ("vgg11", "b"): ["scratch", "krr-st"],
        ("x", "glyphs"): ["scratch"],
    }


def test_cell__is_paired_only_where_the_seeds_are_the_same_once_each(tmp_path: Path) -> None:
    lines = seeds("krr-st", 3.0, 5.0, 7.0) + seeds("random-subset", 1.0, 3.0, 5.0)
    lines += seeds("k-means", 1.0, 3.0) + [row("dm", 1.0 + k, artefact=str(k)) for k in range(2)]
    table = only_table(tmp_path, lines)
    krr, random, means, dm = (
        cell_of(table, name) for name in ("krr-st", "random-subset", "k-means", "dm")
    )
    assert krr.minus(random).paired and krr.minus(random).half_width95 == 0
    assert not krr.minus(means).paired and not dm.minus(dm).paired


def test_best__is_marked_with_all_that_welch_does_not_tell_from_it(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = {f"m{k}": random.normal(50 - 0.4 * k, 1.0 + k % 3, 3 + k % 4) for k in range(12)}
    lines = [line for name, x in values.items() for line in seeds(name, *map(float, x))]
    best = max(values.values(), key=lambda x: float(x.mean()))
    p_values = {m: stats.ttest_ind(best, x, equal_var=False).pvalue for m, x in values.items()}
    expected = {f"{m} 50" for m, p in p_values.items() if p >= 0.05}
    assert marked(only_table(tmp_path, lines)) == expected
    assert 1 < len(expected) < len(values)


def test_best__is_sought_for_every_count_without_references_and_few_values(tmp_path: Path) -> None:
    lines = [
        line
        for count, level in ((10, 20.0), (100, 60.0))
        for method, more in (("krr-st", 9.0), ("dm", 0.0), ("scratch", 30.0), ("full-source", 30.0))
        for line in seeds(method, level + more, level + more + 1, level + more + 2, count=count)
    ]
    lines += [row("dsa", 99.0, count=10), row("mtt", None, count=10), row("alone", 1.0, count=7)]
    assert marked(only_table(tmp_path, lines)) == {"krr-st 10", "krr-st 100"}


def test_control__has_the_same_count_targets_updates_and_protocol(tmp_path: Path) -> None:
    hard = {"target_kind": "hard-label", "pretrain_steps": 80}
    soft = {"target_kind": "representation", "pretrain_steps": 80}
    lines = [
        row("random-subset", 30.0, **soft),
        row("random-subset", 20.0, variant="targets=class-label", **hard),
        row("random-subset", 99.0, variant="targets=class-label", **hard | {"pretrain_steps": 9}),
        row("krr-st", 35.0, **soft),
        row("dm", 22.0, **hard),
        row("kip", 50.0, target_kind="soft-label", pretrain_steps=80),
        row("mtt", 50.0, count=7, **hard),
        row("scratch", 1.0),
        row("dsa", 3.0),  # without a kind of targets: a variant of random images may have others
        row("random-subset", 1.0, variant="targets=class-label"),
    ]
    table = only_table(tmp_path, lines)
    gaps = {label: gap(table, label) for label in ("krr-st", "dm", "kip", "mtt", "scratch", "dsa")}
    assert {label: value for label, value in gaps.items() if value} == {"krr-st": 5.0, "dm": 2.0}


def test_control__has_the_same_target_model_and_image_size(tmp_path: Path) -> None:
    soft = {"target_kind": "representation"}
    for name, changed, expected in (
        ("target", "b" * 64, None),
        ("image_size", 8, None),
        ("method", {}, 5.0),
    ):
        lines = [
            row("random-subset", 30.0, settings=RECORDED | {name: changed}, **soft),
            row("krr-st", 35.0, settings=RECORDED, **soft),
        ]
        assert gap(only_table(tmp_path, lines), "krr-st") == expected, name


CODED = {"stored": "avif, 8000 bytes, 16 pixels, int8"}


def test_tables__sets_of_one_budget_share_a_line_with_other_numbers_of_components(
    tmp_path: Path,
) -> None:
    outputs = [RECORDED | CODED | {"outputs": 20 + k} for k in range(2)]
    lines = [row("krr-st", 1.0 + k, seed=k, settings=x) for k, x in enumerate(outputs)]
    assert cell_of(only_table(tmp_path, lines), "krr-st, coded").values == (1.0, 2.0)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [({}, 5.0), ({"set_bytes": 7_000}, None), ({"pretrain_steps": 9}, None), ({"count": 7}, 5.0)],
)
def test_control__is_coded_where_there_are_coded_images_of_the_same_bytes(
    tmp_path: Path, changed: dict[str, Any], expected: float | None
) -> None:
    same = {"target_kind": "representation", "pretrain_steps": 80}
    settings = RECORDED | CODED
    random = {"count": 100, "set_bytes": 7_900, "settings": settings | {"outputs": 24}} | same
    lines = [
        row("random-subset", 30.0, **random | changed),
        row("label-solve", 35.0, count=90, set_bytes=8_000, settings=settings, **same),
    ]
    assert gap(only_table(tmp_path, lines), "label-solve, coded") == expected


def test_control__of_a_set_of_plain_pixels_is_coded_too(tmp_path: Path) -> None:
    lines = [
        row("random-subset", 20.0, set_bytes=8_000, settings=RECORDED),
        row("random-subset", 30.0, count=100, set_bytes=7_900, settings=RECORDED | CODED),
        row("krr-st", 35.0, set_bytes=8_000, settings=RECORDED),
    ]
    assert gap(only_table(tmp_path, lines), "krr-st") == 5.0


def test_head_room__is_what_the_full_source_gains_over_random_images(tmp_path: Path) -> None:
    levels = {"random-subset": 30.0, "krr-st": 35.0, "full-source": 50.0}
    lines = [x for name, y in levels.items() for x in seeds(name, y, y + 1.0, y + 3.0)]
    flat = {"data": "kanji"}
    lines += [x for name in levels for x in seeds(name, 20.0, 21.0, 22.0, **flat)]
    lines += [row(name, y, data="one") for name, y in levels.items()]
    table = only_table(tmp_path, lines)
    shares = {
        x["column"]: x["share_of_head_room"] for x in table.records() if x["label"] == "krr-st"
    }
    assert shares == {"digits": 0.25, "kanji": None, "one": None}
    assert {table.label(column) for column in table.without_head_room} == {"kanji"}


def test_head_room__is_that_of_the_full_source_with_the_nearest_updates(tmp_path: Path) -> None:
    soft = {"target_kind": "representation"}
    lines = [row("krr-st", 35.0, pretrain_steps=80, **soft)]
    lines += [row("full-source", 1.0, pretrain_steps=n, **soft) for n in (9_000, 100)]
    lines += [row("full-source", 1.0, pretrain_steps=80, target_kind="hard-label")]
    table = only_table(tmp_path, lines)
    full = table.full_source_of(line_of(table, "krr-st"))
    assert full is not None and full.pretrain_steps == 100


def test_default_of__a_variant_is_the_method_with_defaults(tmp_path: Path) -> None:
    lines = [row("krr-st", 3.0), row("krr-st", 1.0, variant="stale_pool")]
    table = only_table(tmp_path, lines)
    line = line_of(table, "krr-st · stale_pool")
    (difference,) = table.differences(line, table.default_of).values()
    assert difference.mean == -2.0 and math.isnan(difference.half_width95)
    assert table.default_of(line_of(table, "krr-st")) is None
