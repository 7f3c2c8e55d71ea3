"""The outer step of the released code (github.com/db-Lee/selfsup_dd), run from a checkout of it.

None of its code is here: `step` imports it from the folder that `--released` names. Its crops are
made by our `CropFlip`, so that kornia is not needed; torchvision, which it imports for networks
that are not used here, is stood in for where it is not installed.
"""

import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
from plain import PlainKRRST

import datastill as ds

STAND_INS = {
    "torchvision": (),
    "torchvision.models": ("resnet18", "resnet34", "resnet50"),
    "tqdm": ("trange",),
}


def step(checkout: Path, start: PlainKRRST, method: ds.KRRST) -> Callable[[], object]:
    """Its step from the same start, with its own networks, pool, solve and optimizer."""
    absent: dict[str, types.ModuleType] = {}
    for name, wanted in STAND_INS.items():
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            stand_in = types.ModuleType(name)
            vars(stand_in).update(dict.fromkeys(wanted))
            absent[name] = stand_in
    sys.modules.update(absent)
    sys.path.insert(0, str(checkout))
    from algorithms.distill import run
    from model_pool import ModelPool

    images, device = start.problem.images, start.problem.machine.device
    size = images.image_size
    args = types.SimpleNamespace(
        train_model="convnet_128_256_512_bn" if size == 32 else "convnet_64_128_256_512_bn",
        img_shape=(images.channels, size, size),
        num_pretrain_classes=start.y.shape[1],
        online_iteration=method.max_age,
        num_models=method.pool_size,
        online_opt="sgd",
        online_lr=method.inner_lr,
        online_wd=method.inner_weight_decay,
        outer_grad_norm=0.0,
    )
    pool = ModelPool(args, device)
    batches = iter(lambda: (start._real_batch(), None), None)
    normalized = images.normalizer
    x_syn = normalized(start.x.detach()).requires_grad_()
    y_syn = start.y.detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW([x_syn, y_syn], lr=method.outer_lr, weight_decay=0.0)

    def one() -> object:
        return run(args, device, start.target, pool, optimizer, batches, normalized, x_syn, y_syn)

    return one
