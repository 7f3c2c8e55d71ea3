"""How good a target model is while it trains: k-NN and linear accuracy, or whether it collapsed.

Labels are read for these numbers only; nothing is drawn and nothing is trained, so a monitored run
gives the same target model bit for bit.
"""

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from datastill.ground.errors import ConfigError, DataWarning, NotFiniteError
from datastill.ground.machine import Machine
from datastill.ground.options import check_bounds, option
from datastill.images import ImageSet
from datastill.maths.effective_rank import effective_rank, normalized_std
from datastill.maths.knn import knn_predict
from datastill.maths.krr import krr_predict, with_bias
from datastill.maths.metrics import accuracy_percent
from datastill.networks._base import Network

COLLAPSED_RANK = 1.5  # effective rank below which all images lie on a line, more or less
COLLAPSED_SPREAD = 0.01  # spread below which all images point the same way


@dataclass(frozen=True, eq=False)
class TargetMonitor:
    """Asks a network, every so often, about held-out images; `known` ones answer for it."""

    known: ImageSet  # images whose labels the classifiers learn, with those of `asked`
    asked: ImageSet  # images that the network is not trained on
    every_steps: int = option(100, "steps between two looks", at_least=1)
    neighbours: int = option(20, "k of the k-NN classifier", at_least=1)
    temperature: float = option(0.07, "how fast a neighbour's vote falls with its cosine", above=0)
    ridge_of_mean: float = option(1e-3, "ridge of the linear classifier", above=0)

    def __post_init__(self) -> None:
        check_bounds(self)
        if len(self.asked) < 2:
            raise ConfigError(f"{self.asked.name} has too few images to watch a target model by")

    def due(self, step: int) -> bool:
        """Whether to look after step number `step` (from 0)."""
        return (step + 1) % self.every_steps == 0

    def look(self, network: Network, machine: Machine) -> dict[str, float]:
        """The monitored values; leaves the network in evaluation mode.

        `monitor_knn_percent` and `monitor_linear_percent` where both sets have labels, else
        `monitor_rank` (effective) and `monitor_spread`. Either way a collapse is warned of.

        Raises:
            NotFiniteError: the network diverged.
        """
        network.eval()
        asked = _represent(network, self.asked, machine)
        signs = {"monitor_rank": effective_rank(asked), "monitor_spread": normalized_std(asked)}
        _warn_of_collapse(signs, asked.shape[1])
        if self.known.num_classes == 0 or self.asked.labels is None:
            return signs
        return self._accuracies(_represent(network, self.known, machine), asked)

    def _accuracies(self, known: Tensor, asked: Tensor) -> dict[str, float]:
        assert self.known.labels is not None and self.asked.labels is not None
        labels, classes = self.known.labels, self.known.num_classes
        votes = knn_predict(
            known,
            labels,
            asked,
            k=min(self.neighbours, len(known)),
            temperature=self.temperature,
            num_classes=classes,
        )
        center = known.mean(0)
        scores, _ = krr_predict(
            with_bias(asked - center),
            with_bias(known - center),
            F.one_hot(labels, classes).float(),
            ridge_of_mean=self.ridge_of_mean,
        )
        return {
            "monitor_knn_percent": accuracy_percent(votes, self.asked.labels),
            "monitor_linear_percent": accuracy_percent(scores, self.asked.labels),
        }


@torch.no_grad()
def _represent(network: Network, images: ImageSet, machine: Machine) -> Tensor:  # (N, D), on CPU
    found = images.outputs(network, machine).cpu()
    if not found.isfinite().all():
        raise NotFiniteError(
            f"the representations of {images.name} are not finite; lower the learning rate"
        )
    return found


def _warn_of_collapse(signs: dict[str, float], dim: int) -> None:
    rank, width = signs["monitor_rank"], signs["monitor_spread"]
    if rank < min(dim, COLLAPSED_RANK) or (dim > 1 and width < COLLAPSED_SPREAD):
        warnings.warn(
            f"the representation has collapsed: effective rank {rank:.2f} of {dim}, spread"
            f" {width:.4f} (0: all images alike). Lower the learning rate, take a larger batch or"
            " other views, or another objective",
            DataWarning,
            stacklevel=2,
        )
