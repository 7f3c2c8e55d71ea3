"""Batch normalisation folded into the convolution before it: the same map, one pass less.

In evaluation mode both are linear, and so is one after the other (Jacob et al., CVPR 2018,
section 3.2).
"""

from copy import deepcopy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(module: nn.Module) -> nn.Module:
    """A frozen copy in evaluation mode, equal but for rounding.

    Only neighbours in an `nn.Sequential` are folded: there the order of layers is known.
    """
    copy = deepcopy(module).eval().requires_grad_(False)
    for layers in list(copy.modules()):
        if isinstance(layers, nn.Sequential):
            for place, (first, second) in enumerate(pairwise(layers)):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    layers[place] = fuse_conv_bn_eval(first, second)
                    layers[place + 1] = nn.Identity()
    return copy
