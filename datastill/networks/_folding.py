"""The former name of `datastill.maths.fusion.fuse_conv_bn`."""

from datastill.maths.fusion import fuse_conv_bn

folded = fuse_conv_bn
