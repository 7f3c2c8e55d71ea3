"""An evaluation protocol: network, pre-training and tasks, fixed to the last number."""

import importlib
from dataclasses import dataclass, replace

from datastill.core import lookup
from datastill.core.errors import ConfigError
from datastill.core.machine import Machine
from datastill.distilled_set import DistilledSet, TargetKind
from datastill.networks.architecture import Architecture
from datastill.pretrain import PRETRAINING, Pretraining
from datastill.transfer.origins import Origin, from_distilled
from datastill.transfer.task import Task

FOLDER = "datastill.protocols"


@dataclass(frozen=True)
class Protocol:
    """How distilled sets are evaluated, on data that the protocol leaves open.

    Args:
        name: Its public name; empty for a custom protocol.
        networks: Pairs of the largest image size and the network for it, smallest size first;
            empty: the network that the set was distilled with.
        representation: Pre-training on sets of target representations; None: not defined.
        hard_label: Pre-training on sets of class labels; None: not defined.
        soft_label: Pre-training on sets of soft labels; None: not defined.
        tasks: How the pre-trained networks are evaluated.
        seeds: Networks per row, as published.

    Example:
        >>> import datastill as ds
        >>> mkdt = ds.protocol("mkdt")
        >>> mkdt.pretraining("representation").epochs
        20
        >>> mkdt.network(32, ds.ConvNet()).widths
        (128, 128, 128)
    """

    name: str
    networks: tuple[tuple[int, Architecture], ...]
    representation: Pretraining | None
    hard_label: Pretraining | None
    soft_label: Pretraining | None
    tasks: tuple[Task, ...]
    seeds: int = 3

    def network(self, image_size: int, default: Architecture) -> Architecture:
        """Return the network for images of that size; `default` where the protocol fixes none.

        Raises:
            ConfigError: The protocol has networks, but none for images so large.
        """
        if not self.networks:
            return default
        fitting = [network for size, network in self.networks if image_size <= size]
        if not fitting:
            raise ConfigError(
                f"protocol {self.name} has networks for images of at most {self.networks[-1][0]}"
                f" pixels, got {image_size}; choose another --protocol, or none"
            )
        return fitting[0]

    def pretraining(self, kind: TargetKind, epochs: int | None = None) -> Pretraining:
        """Return how networks are trained on sets with that kind of targets.

        Args:
            kind: Kind of the targets.
            epochs: Passes over the set; None: those of the protocol.

        Raises:
            ConfigError: The protocol does not define it.
        """
        by_kind = {
            "representation": self.representation,
            "hard-label": self.hard_label,
            "soft-label": self.soft_label,
        }
        pretraining = by_kind[kind]
        if pretraining is None:
            raise ConfigError(
                f"protocol {self.name} is not defined for sets with {kind} targets; choose another"
                " --protocol, or none"
            )
        if epochs is None:
            return pretraining
        return replace(pretraining, epochs=epochs, steps=None)

    def title(self, kind: TargetKind, epochs: int | None = None) -> str:
        """Return the name, and the epochs if they were changed: `mkdt, 100 epochs`."""
        unchanged = self.pretraining(kind, epochs) == self.pretraining(kind)
        return self.name if unchanged or not self.name else f"{self.name}, {epochs} epochs"

    def origin(
        self,
        distilled: DistilledSet,
        default: Architecture,
        machine: Machine,
        *,
        epochs: int | None = None,
    ) -> Origin:
        """Return the origin of networks that are pre-trained on a distilled set.

        Args:
            distilled: The set.
            default: The network where the protocol fixes none.
            machine: Where networks are trained.
            epochs: Passes over the set; None: those of the protocol.

        Raises:
            ConfigError: The protocol is not defined for such sets or such images.
        """
        kind = distilled.target_kind
        return from_distilled(
            distilled,
            self.network(distilled.image_size, default),
            machine,
            self.pretraining(kind, epochs),
            protocol=self.title(kind, epochs),
        )


def custom_protocol(*tasks: Task, pretrain_steps: int | None = None) -> Protocol:
    """Return a protocol without a name: the published pre-training, and tasks of your choice.

    Args:
        tasks: How the pre-trained networks are evaluated.
        pretrain_steps: Updates of pre-training. Default: as published.
    """
    by_kind = PRETRAINING
    if pretrain_steps is not None:
        by_kind = {k: replace(v, steps=pretrain_steps) for k, v in PRETRAINING.items()}
    return Protocol(
        name="",
        networks=(),
        representation=by_kind["representation"],
        hard_label=by_kind["hard-label"],
        soft_label=by_kind["soft-label"],
        tasks=tasks,
    )


def protocol(name: str) -> Protocol:
    """Return a published evaluation protocol.

    Args:
        name: Such as "paper", "mkdt", "labelled" or "equal-budget".

    Returns:
        The protocol; `dataclasses.replace` makes variants of it.

    Raises:
        ConfigError: There is none of that name; the message has the nearest one.

    Example:
        >>> import datastill as ds
        >>> [type(task).__name__ for task in ds.protocol("paper").tasks]
        ['Finetune']
    """
    lookup.check_name(name, lookup.names(FOLDER), kind="protocols")
    module = importlib.import_module(f"{FOLDER}.{name.replace('-', '_')}")
    chosen: Protocol = module.PROTOCOL
    return chosen
