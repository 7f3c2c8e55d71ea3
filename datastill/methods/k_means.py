"""K-means: the source images nearest to the centres of M clusters (Lloyd, IEEE Trans. IT 1982).

With class labels each class has its own clusters. KRR-ST's paper compares with such a row and does
not say in which space it was made (docs/fidelity.md#k-means).
"""

import importlib
from dataclasses import dataclass

import torch
from torch import Tensor

from datastill.core.options import option
from datastill.methods._real_images import SelectionMethod


@dataclass(frozen=True)
class KMeans(SelectionMethod):
    """Take the source images that are nearest to the centres of M clusters.

    Args:
        targets: Pair the images with their target `representation` or `class-label`.
        space: Select by target `representation`, or by normalized `pixels`.
        max_iterations: Iterations of Lloyd's algorithm.
        starts: Runs from other first centres, of which the best is kept.

    Raises:
        ConfigError: The problem lacks the target model or the labels that are needed.

    Example:
        >>> import datastill as ds
        >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=10)
        >>> len(ds.distill(ds.KMeans(targets="class-label", space="pixels"), problem))
        10
    """

    max_iterations: int = option(300, "iterations of Lloyd's algorithm", at_least=1, smoke=3)
    starts: int = option(1, "runs from other first centres, of which the best is kept", at_least=1)

    def select(self, x: Tensor, count: int, *, seed: int) -> Tensor:
        """Return the row nearest to the centre of each cluster, in the order of clusters."""
        clusters = importlib.import_module("sklearn.cluster")  # takes a second
        lloyd = clusters.KMeans(
            n_clusters=count,
            n_init=self.starts,
            max_iter=self.max_iterations,
            random_state=seed % 2**32,
        ).fit(x.numpy())
        cluster = torch.from_numpy(lloyd.labels_).long()
        centres = torch.from_numpy(lloyd.cluster_centers_).to(x)
        order = (x - centres[cluster]).square().sum(1).argsort(stable=True)  # nearest first
        return order[_first_of_each(cluster[order], count)]


def _first_of_each(cluster: Tensor, count: int) -> Tensor:  # (n,) -> (count,) positions
    """Return where each cluster occurs first; an empty one (of equal images) takes the last."""
    first = [torch.nonzero(cluster == k).flatten()[:1] for k in range(count)]
    indices = torch.cat(first)
    spare = torch.arange(len(cluster) - 1, -1, -1)
    spare = spare[~torch.isin(spare, indices)]
    return torch.cat([indices, spare[: count - len(indices)]])
