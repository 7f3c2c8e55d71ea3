"""Classification by a network's own outputs: against a count by hand, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from factories import NETWORK, measured, toy_images, toy_network, toy_problem, toy_set, toy_task

from datastill.core.errors import ConfigError
from datastill.core.machine import Machine
from datastill.core.run_folder import RunFolder
from datastill.distill import distill
from datastill.distilled_set import DistilledSet
from datastill.methods.random_subset import RandomSubset
from datastill.ops.optimizers import AdamW
from datastill.pretrain import Pretraining, pretrain
from datastill.transfer.classify import Classify
from datastill.transfer.evaluation import EvaluationSuite, evaluate_networks
from datastill.transfer.origins import from_distilled, from_target

MACHINE = Machine()
SHORT = Pretraining(AdamW(lr=0.01), augmentation=None, steps=60)


def labelled_set(count: int = 12) -> DistilledSet:
    return distill(RandomSubset(targets="class-label"), toy_problem(count))


def soft(distilled: DistilledSet) -> DistilledSet:
    """The same set with one-hot labels minus 1 / K, as the methods of soft labels start."""
    one_hot = torch.nn.functional.one_hot(distilled.targets, 4).float() - 0.25
    return replace(distilled, targets=one_hot, target_kind="soft-label")


def test_classify__accuracy_is_the_share_of_largest_outputs_that_are_right() -> None:
    network, data = toy_network(outputs=4), toy_task()
    assert data.test.labels is not None
    right = 0
    for index, label in enumerate(data.test.labels.tolist()):
        outputs = network(data.test.normalized(torch.tensor([index])))[0].tolist()
        right += all(outputs[label] > outputs[k] for k in range(4) if k != label)
    results = measured(Classify(), network=network, data=data)
    assert [m.accuracy_percent for m in results] == [pytest.approx(100 * right / len(data.test))]
    assert (results[0].steps, results[0].setting, results[0].r_squared) == (0, "", None)


@pytest.mark.parametrize("kind", ["hard-label", "soft-label"])
def test_classify__network_trained_on_labels_knows_the_classes(kind: str) -> None:
    distilled = labelled_set(24) if kind == "hard-label" else soft(labelled_set(24))
    network = pretrain(NETWORK, distilled, pretraining=SHORT)
    (result,) = Classify().run(network, toy_task(48), distilled=distilled)
    assert result.accuracy_percent is not None and result.accuracy_percent > 80


def test_classify__outputs_that_are_no_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="outputs of the network, which has 5, while toy has 4"):
        Classify().run(toy_network(outputs=5), toy_task())


def test_classify__networks_of_representations_are_refused_though_their_number_fits() -> None:
    five = replace(toy_task(), train=toy_images(25, classes=5), test=toy_images(15, classes=5))
    with pytest.raises(ConfigError, match="representations do not predict the classes of toy"):
        Classify().run(toy_network(outputs=5), five, distilled=toy_set())


def test_classify__classes_of_other_data_are_refused_though_their_number_fits() -> None:
    data, distilled = toy_task(), labelled_set()
    other = replace(data.train, classes=("ape", "bat", "cat", "dog"))
    with pytest.raises(ConfigError, match="4 classes of its source, and toy has 4, which are not"):
        Classify().run(toy_network(outputs=4), replace(data, train=other), distilled=distilled)


def test_classify__set_that_does_not_say_its_classes_is_taken() -> None:
    distilled = labelled_set()
    silent = replace(distilled, provenance={**distilled.provenance, "classes": []})
    assert Classify().run(toy_network(outputs=4), toy_task(), distilled=silent)


def suite() -> EvaluationSuite:
    return EvaluationSuite([Classify()], [toy_task()])


def test_judges__representations_are_refused_before_any_work(tmp_path: Path) -> None:
    origin = from_distilled(toy_set(), NETWORK, MACHINE)
    with pytest.raises(ConfigError, match="do not predict the classes of toy"):
        evaluate_networks([(origin, [0])], suite(), machine=MACHINE, folder=RunFolder(tmp_path))
    assert not list(tmp_path.iterdir())


def test_judges__target_model_is_refused() -> None:
    origin = from_target(toy_problem().needed_target)
    with pytest.raises(ConfigError, match="target-model gives representations"):
        suite().check_origin(origin)
