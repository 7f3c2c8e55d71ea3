"""K-means: the source images nearest to the centres of M clusters (Lloyd, IEEE Trans. IT 1982).

With class labels each class has its own clusters. KRR-ST's paper compares with such a row and does
not say in which space it was made (docs/fidelity.md#k-means).
"""

import importlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datastill.artefact import DistilledSet
from datastill.ground.options import check_bounds, option
from datastill.ground.rng import derive
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods._real_pairs import RealTargets, real_pairs
from datastill.methods._selection import WITHOUT_TARGET, Space, features, groups


@dataclass
class KMeansState:
    """Indices of the chosen source images."""

    chosen: Tensor  # (M,) int64


@dataclass(frozen=True)
class KMeans(AbstractMethod[KMeansState]):
    """M different source images, each the nearest to the centre of its cluster."""

    variant_options: ClassVar[tuple[str, ...]] = ("targets", "space")
    without_target: ClassVar[str] = WITHOUT_TARGET

    targets: RealTargets = option("representation", "what the images are paired with")
    space: Space = option("representation", "features that are clustered")
    max_iterations: int = option(300, "iterations of Lloyd's algorithm", at_least=1, smoke=3)
    starts: int = option(1, "runs from other first centres, of which the best is kept", at_least=1)

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def needs_target(self) -> bool:
        return "representation" in (self.targets, self.space)

    @property
    def needs_labels(self) -> bool:
        return self.targets == "class-label"

    def length(self, problem: Problem) -> int:
        return 0

    def init(self, problem: Problem) -> KMeansState:
        chosen = [
            index[self._nearest(features(problem, index, self.space), count, problem.seed, number)]
            for number, (index, count) in enumerate(groups(problem, self.targets))
            if count
        ]
        return KMeansState(torch.cat(chosen))

    def step(self, problem: Problem, state: KMeansState) -> dict[str, Tensor | float | int]:
        return {}

    def result(self, problem: Problem, state: KMeansState) -> DistilledSet:
        return real_pairs(self, problem, state.chosen, self.targets)

    def _nearest(
        self, x: Tensor, count: int, seed: int, group: int
    ) -> Tensor:  # (n, F) -> (count,)
        """The row nearest to the centre of each cluster, clusters in the order of their numbers."""
        clusters = importlib.import_module("sklearn.cluster")  # takes a second
        lloyd = clusters.KMeans(
            n_clusters=count,
            n_init=self.starts,
            max_iter=self.max_iterations,
            random_state=derive(seed, "k-means", group) % 2**32,
        ).fit(x.numpy())
        cluster = torch.from_numpy(lloyd.labels_).long()
        centres = torch.from_numpy(lloyd.cluster_centers_).to(x)
        order = (x - centres[cluster]).square().sum(1).argsort(stable=True)  # nearest first
        return order[_first_of_each(cluster[order], count)]


def _first_of_each(cluster: Tensor, count: int) -> Tensor:  # (n,) -> (count,) positions
    """Where each cluster occurs first; an empty one (of equal images) takes the last of all."""
    first = [torch.nonzero(cluster == k).flatten()[:1] for k in range(count)]
    found = torch.cat(first)
    spare = torch.arange(len(cluster) - 1, -1, -1)
    spare = spare[~torch.isin(spare, found)]
    return torch.cat([found, spare[: count - len(found)]])
