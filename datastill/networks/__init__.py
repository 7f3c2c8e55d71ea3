"""Architectures, one in each file."""

NOT_COMPONENTS = ("train_step",)
