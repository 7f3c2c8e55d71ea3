"""KIP: kernel inducing points (Nguyen, Chen & Lee, ICLR 2021; Nguyen et al., NeurIPS 2021).

M images (and their labels) are learned so that kernel ridge regression from them, with the kernel
of an infinitely wide network, predicts the labels of real images. Where labels alone are learned
the best ones have a closed form: label solve.
"""

from dataclasses import InitVar, dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datastill.core.options import check_bounds, option
from datastill.core.rng import fork
from datastill.distilled_set import DistilledSet
from datastill.images import ImageSet
from datastill.methods._checked_step import checked_optimizer_step
from datastill.methods._classes import (
    balanced_labels,
    centred_one_hot,
    images_per_class,
    sample_each_class,
    source_label_vectors,
)
from datastill.methods.method import Method
from datastill.ops.kernels import InfiniteWidthMLP
from datastill.ops.krr import solve_positive
from datastill.ops.label_solve import solve_labels
from datastill.ops.optimizers import AdamW
from datastill.problem import Problem

Learned = Literal["images", "labels", "images-and-labels"]
Kernel = Literal["ntk", "nngp"]


@dataclass(kw_only=True)
class KIPState:
    """Everything that changes while distilling; a checkpoint stores all fields."""

    x_syn: Tensor  # (M, C, H, W), normalized pixels
    y_syn: Tensor  # (M, K), centred
    optimizer: torch.optim.Optimizer  # of what is learned
    real_generator: Generator
    whitened: InitVar[ImageSet]

    def __post_init__(self, whitened: ImageSet) -> None:
        self.source = whitened  # no field: it is whitened again after a resume


@dataclass(frozen=True)
class KIP(Method[KIPState]):
    """Distill a labelled source for kernel regression with an infinitely wide network.

    Algorithm 1 of KIP with a fully connected kernel. The kernel is all that stands for a network:
    the problem's own is not used. The published results with convolutional kernels took thousands
    of GPU hours, and are not what this kernel gives. Defaults: the released notebook's for 100
    images of CIFAR-10, and the second paper's ZCA.

    Args:
        learn: Learn `images`, `images-and-labels`, or `labels`: these are solved for the whole
            source at once, in one step.
        outer_steps: Updates of the distilled set.
        outer_batch: Real images per step, equally many of each class (rounded up).
        outer_lr: Adam learning rate of images and labels.
        kernel: `ntk`, the tangent kernel, or `nngp`, the covariance of random networks.
        depth: Infinitely wide hidden layers, fully connected.
        weight_variance: Variance of weights, over fan-in.
        bias_variance: Variance of biases.
        ridge_of_mean: Ridge as a share of the mean diagonal of K_mm.
        zca: Whiten the images.
        zca_ridge_of_mean: Ridge of the whitening as a share of the mean eigenvalue.

    Raises:
        ConfigError: An option is outside of its bounds, or the source does not have enough labelled
            images of each class.

    Example:
        >>> import datastill as ds
        >>> problem = ds.Problem(ds.source("digits").load("train"), None, count=10)
        >>> ds.distill(ds.KIP(outer_steps=3, outer_batch=100), problem).targets.shape
        torch.Size([10, 10])
    """

    by_class: ClassVar[bool] = True
    soft_labels: ClassVar[bool] = True
    variant_options: ClassVar[tuple[str, ...]] = ("learn", "kernel", "depth", "zca")

    learn: Learned = option(
        "images", "what is learned; labels: solved for the whole source at once, in one step"
    )
    outer_steps: int = option(1000, "updates of the distilled set", at_least=1, smoke=3)
    outer_batch: int = option(
        5000,
        "real images per step, equally many of each class (rounded up)",
        at_least=1,
        smoke=8,
    )
    outer_lr: float = option(0.04, "Adam learning rate of images and labels", above=0)
    kernel: Kernel = option("ntk", "tangent kernel, or covariance of random networks")
    depth: int = option(
        1, "infinitely wide hidden layers, fully connected; no convolutions", at_least=1
    )
    weight_variance: float = option(2.0, "variance of weights, over fan-in", above=0)
    bias_variance: float = option(0.01, "variance of biases", at_least=0)
    ridge_of_mean: float = option(1e-6, "ridge as a share of the mean diagonal of K_mm", at_least=0)
    zca: bool = option(True, "whiten images by regularised ZCA")
    zca_ridge_of_mean: float = option(
        0.1, "ridge of ZCA as a share of the mean eigenvalue", at_least=0
    )

    def __post_init__(self) -> None:
        check_bounds(self)

    def length(self, problem: Problem) -> int:
        return 1 if self.learn == "labels" else self.outer_steps

    def init(self, problem: Problem) -> KIPState:
        source = problem.whitened_source(self.zca_ridge_of_mean) if self.zca else problem.images
        generator = fork(problem.seed, "initial-images")
        index = sample_each_class(problem, images_per_class(problem), generator)
        x_syn = problem.network_input(index, source)
        y_syn = centred_one_hot(balanced_labels(problem), problem.images.num_classes).float()
        learned = [tensor.requires_grad_() for tensor in self._learned(x_syn, y_syn)]
        return KIPState(
            x_syn=x_syn,
            y_syn=y_syn,
            optimizer=AdamW(lr=self.outer_lr).make(learned),  # without decay: Adam
            real_generator=fork(problem.seed, "batches"),
            whitened=source,
        )

    def step(self, problem: Problem, state: KIPState) -> dict[str, Tensor | float | int]:
        if self.learn == "labels":
            return self._solve_labels(problem, state)
        per_class = -(-self.outer_batch // len(problem.by_class))
        index = sample_each_class(problem, per_class, state.real_generator)
        x_real = problem.network_input(index, state.source)  # (B, C, H, W)
        y_real = source_label_vectors(problem, index)  # (B, K) float64
        k_bm = self._kernel(x_real, state.x_syn)  # (B, M) float64
        k_mm = self._regularised_kernel(state.x_syn)  # (M, M)
        weights, condition = solve_positive(k_mm, state.y_syn.double())
        prediction = k_bm @ weights
        loss = F.mse_loss(prediction, y_real) / 2

        learned = self._learned(state.x_syn, state.y_syn)
        for tensor, gradient in zip(learned, torch.autograd.grad(loss, learned), strict=True):
            tensor.grad = gradient
        names = {"x_syn": state.x_syn, "y_syn": state.y_syn}
        checked_optimizer_step(state.optimizer, loss, names)
        correct = prediction.argmax(1) == y_real.argmax(1)
        return {
            "outer_loss": loss.detach(),
            "accuracy_percent": 100 * correct.double().mean(),
            "kernel_condition": condition,
        }

    def result(self, problem: Problem, state: KIPState) -> DistilledSet:
        return self.pack(
            problem,
            state.x_syn,
            state.y_syn,
            target_kind="soft-label",
            pixel_space="normalized",
            normalizer=state.source.normalizer,
        )

    @torch.no_grad()
    def _solve_labels(self, problem: Problem, state: KIPState) -> dict[str, Tensor | float | int]:
        """Set the best labels for the whole source, read `outer_batch` images at a time."""
        parts = torch.split(torch.arange(len(problem.images)), self.outer_batch)
        blocks = (
            (
                self._kernel(problem.network_input(index, state.source), state.x_syn),
                source_label_vectors(problem, index),
            )
            for index in parts
        )
        y_syn, mean_square, condition = solve_labels(self._regularised_kernel(state.x_syn), blocks)
        state.y_syn.copy_(y_syn)
        return {"outer_loss": mean_square / 2, "kernel_condition": condition}

    def _learned(self, x_syn: Tensor, y_syn: Tensor) -> list[Tensor]:
        learned = {"images": [x_syn], "labels": [y_syn], "images-and-labels": [x_syn, y_syn]}
        return learned[self.learn]

    def _kernel(self, x_a: Tensor, x_b: Tensor) -> Tensor:  # (A, C, H, W), (B, ...) -> (A, B)
        wide = InfiniteWidthMLP(self.depth, self.weight_variance, self.bias_variance)
        kernel = wide.ntk if self.kernel == "ntk" else wide.nngp
        return kernel(x_a.flatten(1), x_b.flatten(1))

    def _regularised_kernel(self, x_syn: Tensor) -> Tensor:  # (M, M) float64
        """Return K_mm + λI; the trace in λ has its gradient, as in the released code."""
        k_mm = self._kernel(x_syn, x_syn)
        ridge = self.ridge_of_mean * k_mm.diagonal().mean()
        return k_mm + ridge * torch.eye(len(k_mm), dtype=k_mm.dtype, device=k_mm.device)
