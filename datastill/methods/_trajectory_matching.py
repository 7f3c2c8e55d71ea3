"""What every method has in common that matches the trajectories of experts."""

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar, TypeVar, final

from datastill.ground.options import option
from datastill.images import ImageSet
from datastill.methods._base import AbstractMethod, Problem
from datastill.methods._experts import Experts, ExpertTraining

State = TypeVar("State")


@dataclass(frozen=True)
class AbstractTrajectoryMatching(AbstractMethod[State], ABC):
    """How the experts are trained, and on which pixels; the defaults are MTT's."""

    by_class: ClassVar[bool] = True

    experts: int = option(100, "networks trained on the source", at_least=1, smoke=2)
    expert_epochs: int = option(
        50, "epochs of each; max_start_epoch + matched_epochs are enough", at_least=1, smoke=2
    )
    expert_batch: int = option(256, "source images per step of an expert", at_least=1, smoke=12)
    expert_lr: float = option(0.01, "SGD learning rate of experts", above=0)
    expert_momentum: float = option(0.0, "SGD momentum of experts", at_least=0, below=1)
    expert_weight_decay: float = option(0.0, "SGD weight decay of experts", at_least=0)
    expert_seed: int | None = option(
        None, "seed of the experts, so that runs may share them; default: the run's", at_least=0
    )
    zca: bool = option(True, "whiten images")
    zca_ridge_of_mean: float = option(
        1.6, "ridge of the whitening as a share of the mean eigenvalue", at_least=0
    )

    @property
    @final
    def needs_target(self) -> bool:
        return False

    @property
    @final
    def needs_labels(self) -> bool:
        return True

    @final
    def images_of(self, problem: Problem) -> ImageSet:
        """The source as experts and students see it."""
        return problem.whitened(self.zca_ridge_of_mean) if self.zca else problem.images

    @final
    def experts_of(self, problem: Problem) -> Experts:
        """The experts of a problem; none is made by this call."""
        training = ExpertTraining(
            epochs=self.expert_epochs,
            batch=self.expert_batch,
            lr=self.expert_lr,
            momentum=self.expert_momentum,
            weight_decay=self.expert_weight_decay,
            seed=problem.seed if self.expert_seed is None else self.expert_seed,
            zca_ridge_of_mean=self.zca_ridge_of_mean if self.zca else None,
        )
        return Experts(problem, training)
