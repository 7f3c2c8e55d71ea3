"""The origin of a network that is evaluated: a distilled set, the target model, or scratch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datastill.core.loop import CheckpointConfig
from datastill.core.machine import Machine
from datastill.core.options import to_json
from datastill.core.rng import seeded
from datastill.distilled_set import DistilledSet
from datastill.networks.architecture import Architecture, Network
from datastill.pretrain import PRETRAINING, Pretraining, pretrain
from datastill.target_model import TargetModel


@dataclass(frozen=True)
class Origin:
    """How to make a network to evaluate, and how its rows describe it.

    Args:
        method: Name of the method, "scratch" or "target-model".
        variant: Options of the method that differ from its defaults.
        count: Images in the distilled set.
        source: Name of the distilled data set.
        artefact: Fingerprint of the distilled set or target model; "" for scratch.
        architecture: Of the network.
        options: Settings of pre-training.
        make: Makes the network from a seed, with optional checkpoints.
        target: Fingerprint of the target model whose representations are the outputs.
        protocol: Name of the evaluation protocol, such as "mkdt, 100 epochs".
        distilled: The set that networks are pre-trained on.
        pretrain_steps: Updates of pre-training.
    """

    method: str
    variant: str
    count: int
    source: str
    artefact: str
    architecture: Architecture
    options: dict[str, Any]
    make: Callable[[int, CheckpointConfig | None], Network]
    target: str = ""
    protocol: str = ""
    distilled: DistilledSet | None = None
    pretrain_steps: int = 0

    @property
    def title(self) -> str:
        """A short description, such as `krr-st, stale_pool (50), mkdt`."""
        name = ", ".join(filter(None, [self.method, self.variant]))
        if self.count:
            name += f" ({self.count})"
        return ", ".join(filter(None, [name, self.protocol]))

    def regresses(self, target: TargetModel) -> bool:
        """Return whether the networks were trained to predict this target model's outputs."""
        return self.target == target.fingerprint


def from_distilled(
    distilled: DistilledSet,
    architecture: Architecture,
    machine: Machine,
    pretraining: Pretraining | None = None,
    *,
    protocol: str = "",
) -> Origin:
    """Return the origin of networks that are pre-trained on a distilled set."""
    chosen = pretraining or PRETRAINING[distilled.target_kind]

    def make(seed: int, saving: CheckpointConfig | None) -> Network:
        return pretrain(
            architecture,
            distilled,
            seed=seed,
            pretraining=chosen,
            machine=machine,
            saving=saving,
        )

    method = distilled.provenance["method"]
    return Origin(
        method=method["name"],
        variant=method["variant"],
        count=len(distilled),
        source=distilled.provenance["source"]["name"].partition("/")[0],
        artefact=distilled.fingerprint,
        architecture=architecture,
        options={"pretraining": to_json(chosen)},
        make=make,
        target=_target_fingerprint(distilled),
        protocol=protocol,
        distilled=distilled,
        pretrain_steps=chosen.length(len(distilled)),
    )


def from_scratch(
    architecture: Architecture,
    machine: Machine,
    *,
    image_size: int,
    channels: int,
    dim: int,
    protocol: str = "",
) -> Origin:
    """Return the origin of networks without pre-training, with `dim` outputs."""

    def make(seed: int, saving: CheckpointConfig | None) -> Network:
        # The same stream, so that both start from the same weights.
        with seeded(seed, "pre-trained-network"):
            network = architecture(image_size=image_size, channels=channels, outputs=dim)
        return machine.to_device(network).eval()

    return Origin("scratch", "", 0, "", "", architecture, {}, make, protocol=protocol)


def from_target(target: TargetModel, *, protocol: str = "") -> Origin:
    """Return the target model itself as an origin.

    Raises:
        ConfigError: The target model is a module without an architecture of datastill.
    """
    architecture, network = target.rebuildable()
    source = str(target.provenance.get("source", {}).get("name", "")).partition("/")[0]
    return Origin(
        method="target-model",
        variant="",
        count=0,
        source=source,
        artefact=target.fingerprint,
        architecture=architecture,
        options={},
        make=lambda seed, saving: network,
        protocol=protocol,
    )


def _target_fingerprint(distilled: DistilledSet) -> str:
    target = distilled.provenance.get("target")
    if distilled.target_kind != "representation" or target is None:
        return ""
    return str(target["fingerprint"])
