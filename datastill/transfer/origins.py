"""The origin of a network that is evaluated: a distilled set, the target model, or scratch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from datastill.core.errors import ConfigError
from datastill.core.loop import CheckpointConfig
from datastill.core.machine import Machine
from datastill.core.options import to_json
from datastill.core.rng import seeded
from datastill.distilled_set import DistilledSet, SetSummary
from datastill.images import Normalizer
from datastill.networks.architecture import Architecture, Network
from datastill.pretrain import PRETRAINING, Pretraining, pretrain
from datastill.pretrained_network import PretrainedNetwork
from datastill.stored_form.stored import TargetBasis
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
        summary: Of the set that networks are pre-trained on.
        distilled: That set, for tasks that train on its images.
        normalizer: Of that set.
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
    summary: SetSummary | None = None
    distilled: DistilledSet | None = None
    normalizer: Normalizer | None = None
    pretrain_steps: int = 0

    @property
    def title(self) -> str:
        """A short description, such as `krr-st, stale_pool (50), mkdt`."""
        name = ", ".join(filter(None, [self.method, self.variant]))
        if self.count:
            name += f" ({self.count})"
        return ", ".join(filter(None, [name, self.protocol]))

    @property
    def basis(self) -> TargetBasis | None:
        """The basis of the outputs, where they are coordinates of the target model's."""
        return None if self.distilled is None else self.distilled.basis

    @property
    def lacks_basis(self) -> bool:
        """Whether the outputs are coordinates of the target model's in an unknown basis."""
        stored = {} if self.summary is None else self.summary.provenance.get("stored", {})
        return "components" in stored and self.basis is None

    def regresses(self, target: TargetModel) -> bool:
        """Return whether the networks predict this target model's outputs, or known coordinates."""
        return self.target == target.fingerprint and not self.lacks_basis


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

    return Origin(
        **_of_set(distilled.summary),
        architecture=architecture,
        options={"pretraining": to_json(chosen)},
        make=make,
        protocol=protocol,
        distilled=distilled,
        normalizer=distilled.normalizer,
        pretrain_steps=chosen.length(len(distilled)),
    )


def from_pretrained(networks: Mapping[int, PretrainedNetwork], machine: Machine) -> Origin:
    """Return the origin of networks that were pre-trained on one set before, by their seeds.

    Their rows are those that the set itself would give.

    Raises:
        ConfigError: The networks differ in more than their seeds.
    """
    first, *others = networks.values()
    if any(_without_seed(other) != _without_seed(first) for other in others):
        raise ConfigError(
            "the networks differ in more than their seeds (architecture, set or settings of"
            " pre-training); give folders whose networks were made by one command"
        )
    summary = SetSummary(**first.provenance["set"])
    return Origin(
        **_of_set(summary),
        architecture=first.network.architecture,
        options={"pretraining": first.provenance["pretraining"]},
        make=lambda seed, saving: machine.to_device(networks[seed].network),
        normalizer=first.normalizer,
        pretrain_steps=first.provenance["steps"],
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
    architecture, network = target.require_network()
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


def _of_set(summary: SetSummary) -> dict[str, Any]:
    """Return how rows describe networks that were pre-trained on a set."""
    method, target = summary.provenance["method"], summary.provenance.get("target") or {}
    regresses_target = summary.target_kind == "representation"
    return {
        "method": method["name"],
        "variant": method["variant"],
        "count": summary.count,
        "source": summary.provenance["source"]["name"].partition("/")[0],
        "artefact": summary.fingerprint,
        "target": str(target.get("fingerprint", "")) if regresses_target else "",
        "summary": summary,
    }


def _without_seed(network: PretrainedNetwork) -> dict[str, Any]:
    changing = ("seed", "fingerprint", "versions", "precision")
    kept = {k: v for k, v in network.describe().items() if k not in changing}
    # earlier versions counted the bytes of the tensors alone
    return {**kept, "set": {k: v for k, v in kept["set"].items() if k != "bytes"}}
