"""A protocol: how distilled sets are judged, fixed to the last number, under one name."""

import importlib
from dataclasses import dataclass, replace

from datastill.artefact import DistilledSet, TargetKind
from datastill.ground import lookup
from datastill.ground.errors import ConfigError
from datastill.ground.machine import Machine
from datastill.networks._base import AbstractArchitecture
from datastill.origins import Origin, from_distilled
from datastill.pretrain import PRETRAINING, Pretraining
from datastill.transfer._base import AbstractTask

FOLDER = "datastill.protocols"


@dataclass(frozen=True)
class Protocol:
    """Network, pre-training and tasks; everything but the data and the number of seeds."""

    name: str
    networks: tuple[tuple[int, AbstractArchitecture], ...]  # (largest image size, network), rising
    representation: Pretraining | None  # None: the protocol says nothing of such sets
    hard_label: Pretraining | None
    soft_label: Pretraining | None
    tasks: tuple[AbstractTask, ...]
    seeds: int = 3  # networks per row, as published

    def network(self, image_size: int, own: AbstractArchitecture) -> AbstractArchitecture:
        """The protocol's network for images of that size; `own` where it prescribes none.

        Raises:
            ConfigError: the protocol has networks, but none for images so large.
        """
        if not self.networks:
            return own
        fitting = [network for size, network in self.networks if image_size <= size]
        if not fitting:
            raise ConfigError(
                f"protocol {self.name} has networks for images of at most {self.networks[-1][0]}"
                f" pixels, got {image_size}; choose another --protocol, or none"
            )
        return fitting[0]

    def pretraining(self, kind: TargetKind, epochs: int | None = None) -> Pretraining:
        """How networks are trained on sets of that kind, for so many epochs instead of its own.

        Raises:
            ConfigError: the protocol says nothing of that kind.
        """
        rows = {
            "representation": self.representation,
            "hard-label": self.hard_label,
            "soft-label": self.soft_label,
        }
        row = rows[kind]
        if row is None:
            raise ConfigError(
                f"protocol {self.name} says nothing of sets with {kind} targets; choose another"
                " --protocol, or none"
            )
        return row if epochs is None else replace(row, epochs=epochs, steps=None)

    def title(self, kind: TargetKind, epochs: int | None = None) -> str:
        """The name, and the epochs where they are not its own: `mkdt, 100 epochs`."""
        own = self.pretraining(kind, epochs) == self.pretraining(kind)
        return self.name if own else f"{self.name}, {epochs} epochs"

    def origin(
        self,
        distilled: DistilledSet,
        own: AbstractArchitecture,
        machine: Machine,
        *,
        epochs: int | None = None,
    ) -> Origin:
        """Networks pre-trained on a distilled set by this protocol.

        Raises:
            ConfigError: the protocol says nothing of such sets or such images.
        """
        kind = distilled.target_kind
        return from_distilled(
            distilled,
            self.network(distilled.image_size, own),
            machine,
            self.pretraining(kind, epochs),
            protocol=self.title(kind, epochs),
        )


def own_protocol(*tasks: AbstractTask, pretrain_steps: int | None = None) -> Protocol:
    """A protocol without a name: the published rows of pre-training, cut to so many updates."""
    rows = {
        kind: row if pretrain_steps is None else replace(row, steps=pretrain_steps)
        for kind, row in PRETRAINING.items()
    }
    return Protocol(
        name="",
        networks=(),
        representation=rows["representation"],
        hard_label=rows["hard-label"],
        soft_label=rows["soft-label"],
        tasks=tasks,
    )


def protocol(name: str) -> Protocol:
    """The protocol in the file of that name, such as "paper" or "mkdt".

    Raises:
        ConfigError: there is none; the message has the nearest name.
    """
    lookup.check_name(name, lookup.names(FOLDER), kind="protocols")
    module = importlib.import_module(f"{FOLDER}.{name.replace('-', '_')}")
    found: Protocol = module.PROTOCOL
    return found
