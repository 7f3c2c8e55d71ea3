"""Matching training trajectories: what MTT and MKDT share.

A student starts from the weights of an expert after some epoch and takes N steps on M distilled
images. The images are learned so that it ends near the expert's weights M⁺ epochs later. The
student's step size is learned with them. Experts are trained ahead (`_experts.py`).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, replace
from typing import Self

import torch
from torch import Generator, Tensor

from datastill.batches import Batches
from datastill.core.errors import ConfigError, NumericalWarning
from datastill.core.machine import Machine
from datastill.core.options import check_bounds, option
from datastill.core.rng import fork, seeded
from datastill.distilled_set import DistilledSet
from datastill.methods._checked_step import checked_optimizer_step
from datastill.methods._experts import Experts, ExpertTraining, functional_forward
from datastill.methods.method import Method
from datastill.networks.architecture import Network
from datastill.problem import Problem


@dataclass(kw_only=True)
class TrajectoryState:
    """Everything that changes while distilling, and the targets; a checkpoint stores all fields."""

    x_syn: Tensor  # (M, C, H, W), normalized pixels
    y_syn: Tensor  # (M,) int64 or (M, D), never changed
    student_lr: Tensor  # ()
    optimizer: torch.optim.Optimizer  # of both
    start_generator: Generator
    batch_generator: Generator
    augmentation_generator: Generator
    step: int = 0
    clipped: int = 0  # steps after which student_lr was put back into its range
    trained: InitVar[Experts]

    def __post_init__(self, trained: Experts) -> None:
        self.experts = trained  # no field: they never change


@dataclass(frozen=True)
class TrajectoryMatching(Method[TrajectoryState]):
    """Options and steps of MTT and MKDT; the defaults are MTT's."""

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

    def short_preparations(self) -> tuple[Self, Self, int]:
        one = replace(self, experts=1, expert_epochs=1, max_start_epoch=0, matched_epochs=1)
        return one, replace(one, experts=2), self.experts * self.expert_epochs

    def length(self, problem: Problem) -> int:
        return self.outer_steps

    def expert_training(
        self, problem: Problem, zca_ridge_of_mean: float | None = None
    ) -> ExpertTraining:
        """Return how experts are trained."""
        return ExpertTraining(
            epochs=self.expert_epochs,
            batch=self.expert_batch,
            lr=self.expert_lr,
            momentum=self.expert_momentum,
            weight_decay=self.expert_weight_decay,
            seed=problem.seed if self.expert_seed is None else self.expert_seed,
            zca_ridge_of_mean=zca_ridge_of_mean,
        )

    def first_state(
        self, problem: Problem, experts: Experts, chosen: Tensor, y_syn: Tensor
    ) -> TrajectoryState:
        """Return the state that starts from the source images `chosen` (M,), with their targets."""
        seed, device = problem.seed, problem.machine.device
        x_syn = problem.network_input(chosen, experts.source).requires_grad_()
        student_lr = torch.tensor(self.student_lr, device=device).requires_grad_()
        image_group = {"params": [x_syn], "lr": self.outer_lr}
        lr_group = {"params": [student_lr], "lr": self.student_lr_lr}
        return TrajectoryState(
            x_syn=x_syn,
            y_syn=y_syn,
            student_lr=student_lr,
            optimizer=torch.optim.SGD([image_group, lr_group], momentum=self.outer_momentum),
            start_generator=fork(seed, "starts"),
            batch_generator=fork(seed, "batches"),
            augmentation_generator=fork(seed, "augmentation"),
            trained=experts,
        )

    def step(self, problem: Problem, state: TrajectoryState) -> dict[str, Tensor | float | int]:
        machine, experts, count = problem.machine, state.experts, len(state.y_syn)
        number = int(torch.randint(self.experts, (), generator=state.start_generator))
        epoch = int(torch.randint(self.max_start_epoch + 1, (), generator=state.start_generator))
        trajectory = experts.trajectory(number)  # (epochs + 1, P)
        start = machine.to_device(trajectory[epoch])
        goal = machine.to_device(trajectory[epoch + self.matched_epochs])
        student_lr = float(state.student_lr.detach())

        batches = []
        index_batches = Batches.over(count, state.batch_generator)
        for _ in range(self.syn_steps):
            index = machine.to_device(index_batches.draw(self.syn_batch or count))
            x = experts.augment(state.x_syn[index], state.augmentation_generator)
            batches.append((x, state.y_syn[index]))
        with seeded(problem.seed, "student", state.step):
            student = experts.new_network()
            theta = unroll(student, start, batches, state.student_lr, experts.loss, machine)
        loss = normalized_distance(theta, start, goal)

        gradients = torch.autograd.grad(loss, [state.x_syn, state.student_lr])
        state.x_syn.grad, state.student_lr.grad = gradients
        checked_optimizer_step(
            state.optimizer,
            loss,
            {"x_syn": state.x_syn, "student_lr": state.student_lr},
            advice=f"student_lr is {student_lr:.3g}; lower --method.outer_lr,"
            " --method.student_lr or --method.syn_steps",
        )
        self._clip_student_lr(state)
        state.step += 1
        return {
            "outer_loss": loss.detach(),
            "student_lr": student_lr,
            "start_epoch": epoch,
            "clipped": state.clipped,
        }

    def result(self, problem: Problem, state: TrajectoryState) -> DistilledSet:
        return self.pack(
            problem,
            state.x_syn,
            state.y_syn,
            target_kind="representation" if state.experts.representations else "hard-label",
            pixel_space="normalized",
            normalizer=state.experts.source.normalizer,
            learned={"student_lr": float(state.student_lr.detach())},
        )

    def _clip_student_lr(self, state: TrajectoryState) -> None:
        """Put the learned step size back into its range, with a warning the first time.

        Warns:
            NumericalWarning: It was outside, for the first time.
        """
        if self.student_lr_range is None:
            return
        low, high = self.student_lr / self.student_lr_range, self.student_lr * self.student_lr_range
        learned = float(state.student_lr.detach())
        state.student_lr.detach().clamp_(low, high)
        if float(state.student_lr.detach()) == learned:
            return
        state.clipped += 1
        if state.clipped == 1:
            warnings.warn(
                f"student_lr became {learned:.3g} at step {state.step} and is kept in [{low:.3g},"
                f" {high:.3g}] from now on; the metric 'clipped' counts how often. Lower"
                " --method.student_lr_lr or --method.outer_lr",
                NumericalWarning,
                stacklevel=2,
            )


def unroll(
    student: Network,
    start: Tensor,  # (P,)
    batches: Sequence[tuple[Tensor, Tensor]],
    lr: Tensor,  # ()
    loss_function: Callable[[Tensor, Tensor], Tensor],
    machine: Machine,
) -> Tensor:  # (P,)
    """Take θ ← θ - lr · ∇ loss(student(θ, x), y) on each batch; differentiable in x and lr."""
    theta = start.detach().requires_grad_()
    for x, y in batches:
        loss = loss_function(functional_forward(student, theta, x, machine), y)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - lr * gradient
    return theta


def normalized_distance(theta: Tensor, start: Tensor, goal: Tensor) -> Tensor:  # () of (P,) each
    """Return ‖θ - goal‖² / ‖start - goal‖²: 1 at the start, 0 at the goal."""
    return (theta - goal).square().sum() / (start - goal).square().sum()
