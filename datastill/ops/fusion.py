"""Fuse batch norms into the convolutions before them (Jacob et al., CVPR 2018, section 3.2)."""

from copy import deepcopy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_conv_bn(module: nn.Module) -> nn.Module:
    """Copy a module for evaluation, with its batch norms fused into convolutions.

    In evaluation mode both are linear, so that one convolution does the work of both and a pass
    over memory is saved. The outputs are equal but for rounding.

    Args:
        module: Stays as it is. Only neighbours in an `nn.Sequential` are fused, as only there the
            order of layers is known.

    Returns:
        A copy in evaluation mode whose parameters require no gradient.

    Example:
        >>> import torch
        >>> module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        >>> fused = fuse_conv_bn(module)
        >>> [type(layer).__name__ for layer in fused]
        ['Conv2d', 'Identity', 'ReLU']
        >>> x = torch.rand(2, 3, 8, 8)
        >>> torch.allclose(fused(x), module.eval()(x), atol=1e-5)
        True
    """
    fused = deepcopy(module).eval().requires_grad_(False)
    for layers in list(fused.modules()):
        if isinstance(layers, nn.Sequential):
            for index, (first, second) in enumerate(pairwise(layers)):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    layers[index] = fuse_conv_bn_eval(first, second)
                    layers[index + 1] = nn.Identity()  # the other layers keep their numbers
    return fused
