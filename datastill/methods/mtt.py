"""MTT: matching training trajectories (Cazenavette et al., CVPR 2022, Algorithm 1).

Experts classify the source; a student that starts like one of them and is trained on the distilled
images has to end near it (`_trajectory_matching.py`).
"""

from dataclasses import dataclass
from typing import ClassVar

from datastill.core.options import option
from datastill.core.rng import fork
from datastill.methods._classes import balanced_labels, images_per_class, sample_each_class
from datastill.methods._experts import Experts
from datastill.methods._trajectory_matching import TrajectoryMatching, TrajectoryState
from datastill.networks.architecture import Architecture
from datastill.networks.convnet import ConvNet
from datastill.problem import Problem


@dataclass(frozen=True)
class MTT(TrajectoryMatching):
    """Distill a labelled source by matching the trajectories of networks trained on it.

    The defaults are those for CIFAR-10 with 10 images per class.

    Args:
        experts: Networks trained on the source.
        expert_epochs: Epochs of each; `max_start_epoch + matched_epochs` are enough.
        expert_batch: Source images per step of an expert.
        expert_lr: SGD learning rate of experts.
        expert_momentum: SGD momentum of experts.
        expert_weight_decay: SGD weight decay of experts.
        expert_seed: Seed of the experts, so that runs may share them. Default: the problem's.
        zca: Whiten the images.
        zca_ridge_of_mean: Ridge of the whitening as a share of the mean eigenvalue.
        outer_steps: Updates of the distilled images.
        outer_lr: SGD learning rate of distilled images.
        outer_momentum: SGD momentum of distilled images and of the student's step size.
        syn_steps: Steps of the student on distilled images (N).
        syn_batch: Distilled images per step of the student. Default: all of them.
        student_lr: First step size of the student; it is learned.
        student_lr_lr: SGD learning rate of the step size; 0 for a fixed one.
        student_lr_range: The step size stays within its first value divided and multiplied by this.
        matched_epochs: Epochs of the expert that the student has to match (M⁺).
        max_start_epoch: Latest epoch of an expert at which a student starts.

    Raises:
        ConfigError: An option is outside of its bounds, experts have too few epochs, or the source
            does not have enough labelled images of each class.

    Example:
        >>> import datastill as ds
        >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=10,
        ...                      network=ds.ConvNet(widths=(8,), norm="instance"))
        >>> method = ds.MTT(experts=1, expert_epochs=2, max_start_epoch=0, outer_steps=2,
        ...                 syn_steps=2, student_lr_lr=0.0)
        >>> ds.distill(method, problem).images.shape
        torch.Size([10, 1, 16, 16])
    """

    variant_options: ClassVar[tuple[str, ...]] = ("zca", "student_lr_range")
    by_class: ClassVar[bool] = True
    default_network: ClassVar[Architecture] = ConvNet(widths=(128,), norm="instance")

    zca: bool = option(True, "whiten images")
    zca_ridge_of_mean: float = option(
        1.6, "ridge of the whitening as a share of the mean eigenvalue", at_least=0
    )

    def init(self, problem: Problem) -> TrajectoryState:
        source = problem.whitened_source(self.zca_ridge_of_mean) if self.zca else problem.images
        ridge = self.zca_ridge_of_mean if self.zca else None
        experts = Experts(problem, source, self.expert_training(problem, ridge))
        experts.make(range(self.experts))
        generator = fork(problem.seed, "initial-images")
        chosen = sample_each_class(problem, images_per_class(problem), generator)
        return self.first_state(problem, experts, chosen, balanced_labels(problem))
