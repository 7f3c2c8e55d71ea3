"""MTT: matching training trajectories (Cazenavette et al., CVPR 2022, Algorithm 1).

M images are learned so that a student, which starts where an expert was after some epoch and takes
N steps on them, arrives where the expert was M⁺ epochs later. The student's step size is learned
with them. Experts are made ahead (`_experts.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from datastill.artefact import DistilledSet
from datastill.augment.dsa import Dsa
from datastill.batches import Batches
from datastill.ground.errors import ConfigError
from datastill.ground.options import check_bounds, option
from datastill.ground.rng import fork, seeded
from datastill.methods._base import Problem
from datastill.methods._classes import balanced_labels, draw_of_each_class, images_per_class
from datastill.methods._experts import new_network
from datastill.methods._flat import FlatNetwork
from datastill.methods._student import clip, share_of_distance, train_on
from datastill.methods._trajectory_matching import AbstractTrajectoryMatching
from datastill.methods._update import update
from datastill.networks._base import AbstractArchitecture
from datastill.networks.convnet import ConvNet


@dataclass
class MTTState:
    """What changes during a distillation; the experts do not."""

    x_syn: Tensor  # (M, C, H, W), normalized pixels
    student_lr: Tensor  # ()
    optimizer: torch.optim.Optimizer
    starts: Generator
    batches: Generator
    augmentation: Generator
    step: int = 0
    clipped: int = 0  # steps after which student_lr was put back into its range


@dataclass(frozen=True)
class MTT(AbstractTrajectoryMatching[MTTState]):
    """Algorithm 1; the defaults are those for CIFAR-10 with 10 images per class."""

    variant_options: ClassVar[tuple[str, ...]] = ("zca", "student_lr_range")
    default_network: ClassVar[AbstractArchitecture] = ConvNet(widths=(128,), norm="instance")

    outer_steps: int = option(5000, "updates of the distilled images", at_least=1, smoke=3)
    outer_lr: float = option(100.0, "SGD learning rate of distilled images", above=0)
    outer_momentum: float = option(
        0.5, "SGD momentum of images and of student_lr", at_least=0, below=1
    )
    syn_steps: int = option(30, "steps of the student on distilled images", at_least=1, smoke=2)
    syn_batch: int | None = option(
        None, "distilled images per step of the student; default: all of them", at_least=1
    )
    student_lr: float = option(1e-3, "first step size of the student; it is learned", above=0)
    student_lr_lr: float = option(1e-5, "SGD learning rate of student_lr; 0: fixed", at_least=0)
    student_lr_range: float | None = option(
        100.0,
        "student_lr stays within its first value divided and multiplied by this; null: anywhere, as"
        " published",
        above=1,
    )
    matched_epochs: int = option(
        2, "epochs of the expert that the student has to match", at_least=1, smoke=1
    )
    max_start_epoch: int = option(
        20, "latest epoch of an expert at which a student starts", at_least=0, smoke=1
    )

    def __post_init__(self) -> None:
        check_bounds(self)
        needed = self.max_start_epoch + self.matched_epochs
        if self.expert_epochs < needed:
            raise ConfigError(
                f"expert_epochs={self.expert_epochs}: students start as late as epoch"
                f" {self.max_start_epoch} and match {self.matched_epochs} more; raise it to"
                f" {needed} or lower max_start_epoch"
            )

    def short_preparations(self) -> tuple["MTT", "MTT", int]:
        one = replace(self, experts=1, expert_epochs=1, max_start_epoch=0, matched_epochs=1)
        return one, replace(one, experts=2), self.experts * self.expert_epochs

    def length(self, problem: Problem) -> int:
        return self.outer_steps

    def init(self, problem: Problem) -> MTTState:
        self.experts_of(problem).make(self.experts)
        seed, per_class = problem.seed, images_per_class(problem)
        chosen = draw_of_each_class(problem, per_class, fork(seed, "initial-images"))
        x_syn = self.images_of(problem).normalized(chosen).to(problem.machine.device)
        student_lr = torch.tensor(self.student_lr, device=problem.machine.device)
        return MTTState(
            x_syn=x_syn.requires_grad_(),
            student_lr=student_lr.requires_grad_(),
            optimizer=self._optimizer(x_syn, student_lr),
            starts=fork(seed, "starts"),
            batches=fork(seed, "batches"),
            augmentation=fork(seed, "augmentation"),
        )

    def step(self, problem: Problem, state: MTTState) -> dict[str, Tensor | float | int]:
        start, goal, epoch = self._draw(problem, state)
        student_lr = float(state.student_lr.detach())
        with seeded(problem.seed, "student", state.step):
            student = FlatNetwork(new_network(problem), problem.machine)
            batches = self._batches(problem, state)
            theta = train_on(student, start, batches, state.student_lr)
        loss = share_of_distance(theta, start, goal)
        learned = {"x_syn": state.x_syn, "student_lr": state.student_lr}
        gradients = torch.autograd.grad(loss, list(learned.values()))
        state.x_syn.grad, state.student_lr.grad = gradients
        update(state.optimizer, loss, learned, advice=_advice(student_lr))
        self._keep_in_range(state)
        state.step += 1
        numbers = {"student_lr": student_lr, "start_epoch": epoch, "clipped": state.clipped}
        return {"outer_loss": loss.detach(), **numbers}

    def result(self, problem: Problem, state: MTTState) -> DistilledSet:
        return self.pack(
            problem,
            state.x_syn,
            balanced_labels(problem),
            target_kind="hard-label",
            pixel_space="normalized",
            normalizer=self.images_of(problem).normalizer,
            learned={"student_lr": float(state.student_lr.detach())},
        )

    def _draw(self, problem: Problem, state: MTTState) -> tuple[Tensor, Tensor, int]:
        """(θ of an expert at an epoch, θ `matched_epochs` later, that epoch): (P,), (P,)."""
        number = int(torch.randint(self.experts, (), generator=state.starts))
        epoch = int(torch.randint(self.max_start_epoch + 1, (), generator=state.starts))
        trajectory = self.experts_of(problem).trajectory(number)
        start, goal = trajectory[epoch], trajectory[epoch + self.matched_epochs]
        return problem.machine.here(start), problem.machine.here(goal), epoch

    def _batches(self, problem: Problem, state: MTTState) -> Iterator[tuple[Tensor, Tensor]]:
        """What the student sees at each step: (B, C, H, W) augmented pixels, (B,) labels."""
        y_syn = balanced_labels(problem)
        batches = Batches.over(len(y_syn), state.batches)
        for _ in range(self.syn_steps):
            index = problem.machine.here(batches.draw(self.syn_batch or len(y_syn)))
            yield Dsa()(state.x_syn[index], state.augmentation), y_syn[index]

    def _keep_in_range(self, state: MTTState) -> None:
        if (factor := self.student_lr_range) is not None:
            within, quiet = (self.student_lr / factor, self.student_lr * factor), state.clipped > 0
            state.clipped += clip(state.student_lr, within, step=state.step, quiet=quiet)

    def _optimizer(self, x_syn: Tensor, student_lr: Tensor) -> torch.optim.Optimizer:
        rates = {"params": [student_lr], "lr": self.student_lr_lr}
        images = {"params": [x_syn], "lr": self.outer_lr}
        return torch.optim.SGD([images, rates], momentum=self.outer_momentum)


def _advice(student_lr: float) -> str:
    return (
        f"student_lr is {student_lr:.3g}; lower --method.outer_lr, --method.student_lr or"
        " --method.syn_steps"
    )
