"""Evaluate a target model while it trains: k-NN and linear accuracy, and signs of collapse.

Labels are used for these numbers only. No random number is drawn and nothing is trained, so a
monitored run gives the same target model bit for bit.
"""

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from datastill.core.errors import ConfigError, DataWarning, NotFiniteError
from datastill.core.machine import Machine
from datastill.core.options import check_bounds, option
from datastill.images import ImageSet
from datastill.networks.architecture import Network
from datastill.ops.effective_rank import effective_rank, normalized_std
from datastill.ops.knn import knn_predict
from datastill.ops.krr import krr_predict, with_bias
from datastill.ops.metrics import accuracy_percent

COLLAPSED_RANK = 1.5  # effective rank below which all representations lie nearly on a line
COLLAPSED_SPREAD = (
    0.01  # normalized deviation below which all representations have nearly one direction
)


@dataclass(frozen=True, eq=False)
class TargetMonitor:
    """Periodically evaluate a network with k-NN and a linear classifier on held-out images.

    Args:
        train: Images whose labels the classifiers learn.
        held_out: Images that the network is not trained on.
        every_steps: Steps between two evaluations.
        neighbours: k of the k-NN classifier.
        temperature: T of the k-NN votes exp(cosine / T).
        ridge_of_mean: Ridge of the linear classifier, as a fraction of the mean eigenvalue.

    Raises:
        ConfigError: There are fewer than two held-out images, or an option is outside its range.
    """

    train: ImageSet
    held_out: ImageSet
    every_steps: int = option(100, "steps between two evaluations", at_least=1)
    neighbours: int = option(20, "k of the k-NN classifier", at_least=1)
    temperature: float = option(0.07, "how fast a neighbour's vote falls with its cosine", above=0)
    ridge_of_mean: float = option(1e-3, "ridge of the linear classifier", above=0)

    def __post_init__(self) -> None:
        check_bounds(self)
        if len(self.held_out) < 2:
            raise ConfigError(
                f"{self.held_out.name} has {len(self.held_out)} images; monitoring a target model"
                " needs at least two"
            )

    def due(self, step: int) -> bool:
        """Return whether to evaluate after step number `step` (from 0)."""
        return (step + 1) % self.every_steps == 0

    def evaluate(self, network: Network, machine: Machine) -> dict[str, float]:
        """Return the monitored values, and warn if the representations have collapsed.

        The network is left in evaluation mode.

        Returns:
            `monitor_knn_percent` and `monitor_linear_percent` where both sets have labels, else
            `monitor_rank` (effective rank) and `monitor_spread`.

        Raises:
            NotFiniteError: The network diverged.
        """
        network.eval()
        held_out = _represent(network, self.held_out, machine)
        collapse = {
            "monitor_rank": effective_rank(held_out),
            "monitor_spread": normalized_std(held_out),
        }
        _warn_of_collapse(collapse, held_out.shape[1])
        if self.train.num_classes == 0 or self.held_out.labels is None:
            return collapse
        return self._accuracies(_represent(network, self.train, machine), held_out)

    def _accuracies(self, train: Tensor, held_out: Tensor) -> dict[str, float]:
        assert self.train.labels is not None and self.held_out.labels is not None
        labels, classes = self.train.labels, self.train.num_classes
        votes = knn_predict(
            train,
            labels,
            held_out,
            k=min(self.neighbours, len(train)),
            temperature=self.temperature,
            num_classes=classes,
        )
        center = train.mean(0)
        scores, _ = krr_predict(
            with_bias(held_out - center),
            with_bias(train - center),
            F.one_hot(labels, classes).float(),
            ridge_of_mean=self.ridge_of_mean,
        )
        return {
            "monitor_knn_percent": accuracy_percent(votes, self.held_out.labels),
            "monitor_linear_percent": accuracy_percent(scores, self.held_out.labels),
        }


@torch.no_grad()
def _represent(network: Network, images: ImageSet, machine: Machine) -> Tensor:  # (N, D), on CPU
    representations = images.predict(network, machine).cpu()
    if not representations.isfinite().all():
        raise NotFiniteError(
            f"the representations of {images.name} are not finite; lower the learning rate"
        )
    return representations


def _warn_of_collapse(collapse: dict[str, float], dim: int) -> None:
    rank, spread = collapse["monitor_rank"], collapse["monitor_spread"]
    if rank < min(dim, COLLAPSED_RANK) or (dim > 1 and spread < COLLAPSED_SPREAD):
        warnings.warn(
            f"the representation has collapsed: effective rank {rank:.2f} of {dim}, spread"
            f" {spread:.4f} (0: all images alike). Lower the learning rate, use a larger batch,"
            " other views or another objective",
            DataWarning,
            stacklevel=2,
        )
