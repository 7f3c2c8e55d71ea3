"""Pre-train networks on a distilled set and keep them.

Each is one file, network-SEED.safetensors, for `datastill transfer`, `datastill export` and
datastill.load_network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from datastill.cli import shared_flags
from datastill.cli.parser import CommandParser
from datastill.core.options import Json, option, to_json
from datastill.core.progress import logger
from datastill.distilled_set import DistilledSet
from datastill.networks.architecture import Architecture
from datastill.pretrain import pretrain, with_provenance
from datastill.pretrained_network import FILE_NAME, PretrainedNetwork
from datastill.protocols.protocol import custom_protocol

EXAMPLE = "datastill pretrain runs/mine --network resnet18 --out networks/mine"


@dataclass(frozen=True)
class Pretrain:
    """Flags of `datastill pretrain` beside those of the network."""

    steps: int | None = option(None, "updates; default: the paper's epochs", at_least=1)
    epochs: int | None = option(None, "passes over the set, in place of steps", at_least=1)
    seeds: int = option(1, "networks, with seeds 0, 1, ...", at_least=1)


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser("pretrain", arguments, __doc__, EXAMPLE, required=("set", "out"))
    parser.add_positional("set", "distilled set (file or run folder)")
    parser.add_options(Pretrain)
    only = ("out", "resume", "checkpoint_seconds", "config", "device", "precision")
    parser.add_options(shared_flags.RunOptions, only=only, title="run")
    parser.add_component("network", "datastill.networks")
    if parser.value_of("steps"):
        parser.refuse(("epochs",), "contradicts --steps")
    return parser


def run(config: Json) -> None:
    """Pre-train the networks that the folder lacks, and print the path of each."""
    flags = shared_flags.chosen(Pretrain, config)
    run_options = shared_flags.chosen(shared_flags.RunOptions, config)
    with shared_flags.joined_machine(config) as machine:
        run_options.check_folder(config, machine)
        distilled = DistilledSet.load(config["set"])
        used = distilled.provenance.get("network") or {"name": "convnet"}
        chosen = config.get("network", used)
        network: Architecture = shared_flags.component("datastill.networks", chosen)
        network.check(distilled.image_size)
        settings = custom_protocol(pretrain_steps=flags.steps).pretraining(
            distilled.target_kind, flags.epochs
        )
        steps = settings.length(len(distilled))
        data = {"distilled set": distilled.fingerprint}
        folder = run_options.open_folder(config, data, machine)
        files = [folder.path / FILE_NAME.format(seed) for seed in range(flags.seeds)]
        for seed, file in enumerate(files):
            if file.exists():
                PretrainedNetwork.load(file)
                logger.info(f"{file} is there already")
                continue
            identity = {"set": distilled.fingerprint, "seed": seed, "network": to_json(network)}
            saving = folder.saving(f"pre-train-{seed}", identity)
            logger.info(f"network {seed + 1} of {flags.seeds}: {network} on {distilled}")
            trained = pretrain(
                network,
                distilled,
                seed=seed,
                pretraining=settings,
                machine=machine,
                saving=saving,
            )
            pretrained = with_provenance(
                trained,
                distilled,
                to_json(settings),
                steps=steps,
                seed=seed,
                precision=machine.precision,
            )
            pretrained.save(file)
            saving.clear()
        logger.info(f'in Python: network, transform = datastill.load_network("{files[0]}")')
        print(*files, sep="\n")
