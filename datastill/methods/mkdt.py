"""MKDT: trajectories of knowledge distillation (Joshi, Ni and Mirzasoleiman, ICLR 2025).

Experts regress the target model's representations of the source; a student that starts like one of
them and is trained on the distilled images has to end near it (`_trajectory_matching.py`). Written
from the paper's description: the released code has no licence.
"""

from dataclasses import dataclass
from typing import ClassVar

from datastill.core.options import option
from datastill.methods._experts import Experts, source_representations
from datastill.methods._starts import StartImages, choose_start
from datastill.methods._trajectory_matching import TrajectoryMatching, TrajectoryState
from datastill.methods.high_loss import highest
from datastill.networks.architecture import Architecture
from datastill.networks.convnet import ConvNet
from datastill.problem import Problem


@dataclass(frozen=True)
class MKDT(TrajectoryMatching):
    """Distill a source by matching the trajectories of networks that regress representations.

    The images are learned, their targets stay the target model's representations of the first
    images. The defaults are those for 2 % of CIFAR-100.

    Args:
        start: First images: those with the highest loss, averaged over the experts after one epoch
            (`high-loss`), `random` ones, or those of the method `k-means`.
        experts: Networks trained on the source.
        expert_epochs: Epochs of each; `max_start_epoch + matched_epochs` are enough.
        expert_batch: Source images per step of an expert.
        expert_lr: SGD learning rate of experts.
        expert_momentum: SGD momentum of experts.
        expert_weight_decay: SGD weight decay of experts.
        expert_seed: Seed of the experts, so that runs may share them. Default: the problem's.
        outer_steps: Updates of the distilled images.
        outer_lr: SGD learning rate of distilled images.
        outer_momentum: SGD momentum of distilled images and of the student's step size.
        syn_steps: Steps of the student on distilled images (N).
        syn_batch: Distilled images per step of the student; None: all of them.
        student_lr: First step size of the student; it is learned.
        student_lr_lr: SGD learning rate of the step size; 0 for a fixed one.
        student_lr_range: The step size stays within its first value divided and multiplied by this.
        matched_epochs: Epochs of the expert that the student has to match (M⁺).
        max_start_epoch: Latest epoch of an expert at which a student starts.

    Raises:
        ConfigError: An option is outside of its bounds, experts have too few epochs, or the problem
            has no target model.

    Example:
        >>> import datastill as ds, torch
        >>> images = ds.source("digits").load("train").limit(100, seed=0)
        >>> target = ds.TargetModel(torch.nn.Flatten(), images.normalizer, images.image_size)
        >>> problem = ds.Problem(images, target, count=10,
        ...                      network=ds.ConvNet(widths=(8,), norm="instance"))
        >>> method = ds.MKDT(experts=1, expert_epochs=2, max_start_epoch=0, outer_steps=2,
        ...                  syn_steps=2, student_lr_lr=0.0)
        >>> distilled = ds.distill(method, problem)
        >>> distilled.images.shape, distilled.targets.shape
        (torch.Size([10, 1, 16, 16]), torch.Size([10, 256]))
    """

    variant_options: ClassVar[tuple[str, ...]] = ("start", "student_lr_range")
    default_network: ClassVar[Architecture] = ConvNet(widths=(128, 128, 128), norm="instance")

    start: StartImages = option(
        "high-loss", "images to start from: of highest loss of the experts, random, or by k-means"
    )
    expert_epochs: int = option(
        20, "epochs of each; max_start_epoch + matched_epochs are enough", at_least=1, smoke=2
    )
    expert_lr: float = option(0.1, "SGD learning rate of experts", above=0)
    expert_momentum: float = option(0.9, "SGD momentum of experts", at_least=0, below=1)
    expert_weight_decay: float = option(1e-4, "SGD weight decay of experts", at_least=0)
    outer_lr: float = option(1e3, "SGD learning rate of distilled images", above=0)
    syn_steps: int = option(40, "steps of the student on distilled images", at_least=1, smoke=2)
    syn_batch: int | None = option(
        256, "distilled images per step of the student; null: all of them", at_least=1, smoke=5
    )
    student_lr: float = option(0.1, "first step size of the student; it is learned", above=0)
    student_lr_lr: float = option(1e-4, "SGD learning rate of student_lr; 0: fixed", at_least=0)
    max_start_epoch: int = option(
        5, "latest epoch of an expert at which a student starts", at_least=0, smoke=1
    )

    @property
    def needs_target(self) -> bool:
        return True

    def init(self, problem: Problem) -> TrajectoryState:
        training, representations = self.expert_training(problem), source_representations(problem)
        experts = Experts(problem, problem.images, training, representations)
        experts.make(range(self.experts))
        if self.start == "high-loss":
            chosen = highest(experts.mean_losses(self.experts), problem.count)
        else:
            chosen = choose_start(problem, self.start, "initial-images")
        return self.first_state(problem, experts, chosen, problem.represent(chosen))
