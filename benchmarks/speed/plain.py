"""KRR-ST's outer step as a plain script has it: what a fast one must equal and be faster than.

Float32, NCHW, a general solve, target representations computed anew in every step. The numbers are
those of `methods/krr_st.py` on the same batches (tests/test_benchmarks.py).
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import datastill as ds
from datastill.augment.crop_flip import CropFlip
from datastill.methods.krr_st import KRRSTState


class PlainKRRST:
    """Algorithm 1 from the same start as `state`, on the batches and views that it would draw.

    The target model's outputs are taken as they are, not standardized.
    """

    def __init__(self, method: ds.KRRST, problem: ds.Problem, state: KRRSTState) -> None:
        self.method, self.problem = method, problem
        self.state = copy.deepcopy(state)
        self.x, self.y = self.state.x_syn, self.state.y_syn
        self.outer = torch.optim.AdamW([self.x, self.y], lr=method.outer_lr, weight_decay=0.0)
        self.models = [nchw(inner.network) for inner in self.state.pool.models]
        self.inner = [
            torch.optim.SGD(
                model.parameters(),
                lr=method.inner_lr,
                momentum=method.inner_momentum,
                weight_decay=method.inner_weight_decay,
            )
            for model in self.models
        ]
        self.target = nchw(problem.needed_target.module)

    def step(self) -> Tensor:
        method, normalizer = self.method, self.problem.images.normalizer
        slot = int(torch.randint(method.pool_size, (), generator=self.state.slot_generator))
        model = self.models[slot].eval()
        x_real = self._real_batch()
        with torch.no_grad():
            g_real = self.target(self.problem.needed_target.normalizer(x_real))
            f_real = with_ones(model.embed(normalizer(x_real)))
        f_syn = with_ones(model.embed(normalizer(self.x)))
        k_mm = f_syn @ f_syn.T
        ridge = method.ridge_of_trace * k_mm.detach().trace()
        identity = torch.eye(len(k_mm), device=k_mm.device)
        inverse_times_y = torch.linalg.solve(k_mm + ridge * identity, self.y)
        loss = F.mse_loss(f_real @ f_syn.T @ inverse_times_y, g_real)
        self.x.grad, self.y.grad = torch.autograd.grad(loss, [self.x, self.y])
        for group in self.outer.param_groups:
            done = self.state.step / method.outer_steps
            group["lr"] = method.outer_lr * (1 - (1 - 1e-3) * done)
        self.outer.step()
        self._train(slot)
        self.state.step += 1
        return loss.detach()

    def _real_batch(self) -> Tensor:  # (B, C, H, W) in [0, 1]
        crop_flip = CropFlip(self.method.crop_padding, self.method.flip)
        index = self.state.batches.draw(self.method.outer_batch)
        view = crop_flip.draw(len(index), self.state.view_generator)
        return crop_flip(self.problem.source_pixels(index), view).float() / 255

    def _train(self, slot: int) -> None:
        model = self.models[slot].train()
        loss = F.mse_loss(model(self.problem.images.normalizer(self.x.detach())), self.y.detach())
        self.inner[slot].zero_grad()
        loss.backward()
        self.inner[slot].step()


def nchw(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).to(memory_format=torch.contiguous_format)


def with_ones(features: Tensor) -> Tensor:
    return F.pad(features, (0, 1), value=1.0)
