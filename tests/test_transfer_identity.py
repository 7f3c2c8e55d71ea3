"""Rows say what a set is, and what differs is not taken for each other."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from factories import NETWORK, killed, toy_set, toy_task
from transfer_runs import PROBE, TASKS, numbers, origins

from datastill.core.errors import ConfigError
from datastill.core.machine import Machine
from datastill.core.run_folder import RunFolder
from datastill.networks.convnet import ConvNet
from datastill.pretrain import PRETRAINING
from datastill.transfer._supervised import Supervised
from datastill.transfer.data_free_kd import DataFreeKd
from datastill.transfer.evaluation import EvaluationSuite, evaluate_networks
from datastill.transfer.origins import from_distilled
from datastill.transfer.rows import TransferRow


def several(folder: Path, number: int = 4) -> list[TransferRow]:
    """Another network, other pre-training and another protocol, one after the other."""
    distilled, row = toy_set(), replace(PRETRAINING["representation"], steps=3)
    made = [
        from_distilled(distilled, NETWORK, Machine(), row),
        from_distilled(distilled, ConvNet(widths=(8, 4)), Machine(), row),
        from_distilled(distilled, NETWORK, Machine(), replace(row, steps=5)),
        from_distilled(distilled, NETWORK, Machine(), row, protocol="mkdt"),
    ]
    opened = RunFolder.open(folder, {}, resume=True, checkpoint_seconds=0.0)
    suite, work = (
        EvaluationSuite(TASKS[2:], [toy_task()]),
        [(origin, range(1)) for origin in made[:number]],
    )
    return evaluate_networks(work, suite, machine=Machine(), folder=opened)


def test_transfer_rows__networks_and_protocols_are_not_taken_for_each_other(tmp_path: Path) -> None:
    found = several(tmp_path)
    facts = [(r.network, r.pretrain_steps, r.protocol) for r in found]
    assert len(set(facts)) == len(found) == 4
    assert len(several(tmp_path)) == 4


def test_transfer_rows__checkpoint_of_one_network_is_not_that_of_another(tmp_path: Path) -> None:
    whole = several(tmp_path / "whole")
    with killed(sys.modules["datastill.pretrain"], "train_step", 2):
        several(tmp_path / "killed", number=1)
    opened = tmp_path / "killed"
    assert list(opened.glob("checkpoint-pre-train-*"))
    assert numbers(several(opened)) == numbers(whole)


def test_transfer_rows__task_without_distilled_images_is_refused_before_any_work(
    tmp_path: Path,
) -> None:
    suite = EvaluationSuite([PROBE, DataFreeKd()], [toy_task()])
    folder = RunFolder.open(tmp_path, {}, resume=True)
    work = [(origin, range(1)) for origin in origins()]
    with pytest.raises(ConfigError, match="data-free-kd trains on distilled images, and target-mo"):
        evaluate_networks(work, suite, machine=Machine(), folder=folder)
    assert not (tmp_path / "rows.jsonl").exists()


def test_transfer_rows__all_students_share_a_teacher_through_kills(tmp_path: Path) -> None:
    task = DataFreeKd(
        epochs=1, batch=8, noise_count=8, teacher_width=2, teacher_steps=3, teacher_batch=8
    )

    def students(place: Path) -> list[TransferRow]:
        folder = RunFolder.open(place, {}, resume=True, checkpoint_seconds=0.0)
        work = [(origin, range(2)) for origin in origins()[:2]]
        return evaluate_networks(
            work, EvaluationSuite([task], [toy_task()]), machine=Machine(), folder=folder
        )

    whole = students(tmp_path / "whole")
    assert len(whole) == 4 and len(list((tmp_path / "whole").glob("teacher-*"))) == 1
    for owner, number in ((Supervised, 1), (DataFreeKd, 2)):
        with killed(owner, "_step", number):
            students(tmp_path / "killed")
    assert numbers(students(tmp_path / "killed")) == numbers(whole)
    assert len((tmp_path / "killed" / "teachers.jsonl").read_text().splitlines()) == 1
    assert not list((tmp_path / "killed").glob("checkpoint*"))
