"""The linear probe against scikit-learn, and on features that are easy or useless."""

from dataclasses import replace

import pytest
import torch
from factories import embedded, measured, toy_network, toy_task
from sklearn.linear_model import LogisticRegression

from datastill.core.rng import derive
from datastill.transfer.linear_probe import LinearProbe

PROBE = LinearProbe(steps=200, batch=24)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
@pytest.mark.parametrize("standardize", [False, True])
def test_linear_probe__separable_features_give_100(solver: str, standardize: bool) -> None:
    probe = replace(PROBE, solver=solver, standardize=standardize, features="body")
    assert measured(probe)[0].accuracy_percent == 100


def test_linear_probe__lbfgs_equals_scikit_learn() -> None:
    network, data = toy_network(), toy_task()
    assert data.train.labels is not None and data.test.labels is not None
    model = LogisticRegression(C=1 / (0.1 * 24), max_iter=300)
    model.fit(embedded(network, data.train).numpy(), data.train.labels.numpy())
    accuracy = model.score(embedded(network, data.test).numpy(), data.test.labels.numpy())
    results = measured(replace(PROBE, solver="lbfgs", l2=0.1), data=data, network=network)
    assert results[0].accuracy_percent == pytest.approx(100 * accuracy)


def test_linear_probe__reads_the_outputs_where_asked() -> None:
    network = toy_network()
    with torch.no_grad():
        network.head.weight.zero_()
    output, body = (
        measured(replace(PROBE, features=features), network=network)[0]
        for features in ("output", "body")
    )
    assert output.accuracy_percent == 25 and body.accuracy_percent == 100
    assert (output.setting, body.setting) == ("all, output", "all, body")


def test_linear_probe__constant_features_survive_standardizing() -> None:
    network = toy_network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    results = measured(replace(PROBE, standardize=True, solver="lbfgs"), network=network)
    assert results[0].accuracy_percent == 25


def test_linear_probe__draws_are_averaged() -> None:
    data, network = toy_task(48), toy_network()
    data = replace(data, test=replace(data.test, images=data.test.images // 3 + 80))
    probe = replace(PROBE, solver="lbfgs", labels=("1-per-class",), features="output")
    two = replace(probe, draws=2).run(network, data, seed=3)[0].accuracy_percent
    single = [
        probe.run(network, data, seed=seed)[0].accuracy_percent
        for seed in (3, derive(3, "label-draw", 1))
    ]
    assert single[0] != single[1] and two == pytest.approx(sum(map(float, single)) / 2)


def test_linear_probe__lbfgs_stops_after_so_many_iterations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models: list[LogisticRegression] = []
    fit = LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda m, *xy: models.append(m) or fit(m, *xy))
    for probe in (PROBE, replace(PROBE, lbfgs_iterations=2)):
        measured(replace(probe, solver="lbfgs"))
    assert [model.max_iter for model in models] == [300, 2]


@pytest.mark.parametrize("labels", ["1%", "5%", "10%", "50%", "100%", "all", "3-per-class"])
def test_linear_probe__takes_every_published_label_budget(labels: str) -> None:
    results = measured(replace(PROBE, labels=(labels,), solver="lbfgs"))
    assert results[0].setting == f"{labels}, body"
