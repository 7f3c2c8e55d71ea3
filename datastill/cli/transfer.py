"""Pre-train networks on distilled sets and evaluate them on labelled target data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datastill.cli import shared_flags
from datastill.cli.parser import CommandParser
from datastill.core import lookup
from datastill.core.errors import ArtefactError, ConfigError
from datastill.core.machine import Machine
from datastill.core.options import Json, option
from datastill.core.tensor_file import format_of
from datastill.distilled_set import DistilledSet
from datastill.networks.architecture import Architecture
from datastill.pretrained_network import FORMAT as NETWORK
from datastill.pretrained_network import PretrainedNetwork, network_files
from datastill.protocols.protocol import Protocol, custom_protocol, protocol
from datastill.report.build import build
from datastill.target_model import FILE_NAME, TargetModel
from datastill.transfer.evaluation import EvaluationSuite, evaluate_networks
from datastill.transfer.held_out import HeldOut
from datastill.transfer.origins import Origin, from_pretrained, from_scratch, from_target
from datastill.transfer.task import TaskData

EXAMPLE = "datastill transfer runs/mine scratch --to cifar10,folder:my-birds --seeds 3"
SCRATCH, ARCHITECTURES, TASKS = "scratch", "datastill.networks", "datastill.transfer"
PROTOCOLS = lookup.names("datastill.protocols")
# Ranks wait this long for each other's rows; a rank that crashes is noticed at once.
ROW_SECONDS = 30 * 86400.0
RUN = ("out", "resume", "checkpoint_seconds", "config", "device", "precision")
ORIGINS = (
    "distilled sets, pre-trained networks or target models (files or run folders), timm:NAME, or"
    " scratch"
)
TASK = f"how networks are evaluated: {', '.join(lookup.names(TASKS))}"
PROTOCOL = f"published settings ({', '.join(PROTOCOLS)}), instead of --network, --task and"
STEPS = "updates of pre-training; default: the paper's epochs"
EPOCHS = "epochs of pre-training; default: as published; several: a sweep of the protocol"
KEEP = "keep the networks that are pre-trained on sets, below networks/ in the run folder"
IMAGE_SIZE = "pixels per side; default: the origins', else the target data's"

Networks = dict[int, PretrainedNetwork]  # by seed
Source = DistilledSet | TargetModel | Networks


@dataclass(frozen=True)
class Transfer:
    """Flags of `datastill transfer` beside those of the tasks and the network."""

    to: tuple[str, ...] = option((), "target data: names, or folder:PATH")
    task: tuple[str, ...] = option(("linear-probe",), TASK)
    protocol: str | None = option(None, f"{PROTOCOL} --pretrain-steps")
    data_root: str | None = option(None, shared_flags.DATA_ROOT)
    seeds: int = option(3, "networks per origin, with seeds 0, 1, ...", at_least=1)
    pretrain_steps: int | None = option(None, STEPS, at_least=1)
    pretrain_epochs: tuple[int, ...] = option((), EPOCHS, at_least=1)
    held_out: str | None = option(None, "also measure R² on the test split of this data set")
    target: str | None = option(None, "folder of the target model, or timm:NAME, for --held-out")
    image_size: int | None = option(None, IMAGE_SIZE, at_least=1)
    keep_networks: bool = option(False, KEEP)


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser("transfer", arguments, __doc__, EXAMPLE, required=("origins", "to"))
    parser.add_positional("origins", ORIGINS, many=True)
    parser.add_options(Transfer)
    title = "run; the default folder is transfer/ beside the first of ORIGINS"
    parser.add_options(shared_flags.RunOptions, only=RUN, title=title)
    if fixing := parser.value_of("protocol"):
        lookup.check_name(fixing, PROTOCOLS, kind="protocols")
        excluded = ("network", "task", "pretrain_steps", *lookup.names(TASKS))
        parser.refuse(excluded, f"contradicts --protocol {fixing}, which fixes it")
        parser.set_defaults(task=())
    else:
        parser.add_component("network", ARCHITECTURES)
        parser.add_components("task", TASKS, Transfer.task)
    return parser


def run(config: Json) -> None:
    """Evaluate all networks and print the table of results."""
    flags, texts = shared_flags.chosen(Transfer, config), list(dict.fromkeys(config["origins"]))
    if not flags.keep_networks:  # the config.yaml of earlier versions lacks it
        config.pop("keep_networks", None)
    run_options = shared_flags.chosen(shared_flags.RunOptions, config)
    run_options = replace(run_options, out=run_options.out or _default_out(texts[0]))
    fixed = _protocol(flags, config)
    network = (
        shared_flags.component(ARCHITECTURES, config["network"]) if "network" in config else None
    )
    with shared_flags.joined_machine(config, timeout_seconds=ROW_SECONDS) as machine:
        run_options.check_folder(config, machine)
        files = [text for text in texts if text != SCRATCH and not shared_flags.timm_network(text)]
        loaded = {text: _load(text, machine) for text in files}
        suite = _suite(flags, fixed, _image_size(flags, loaded), machine)
        for text in filter(shared_flags.timm_network, texts):
            loaded[text] = shared_flags.target_model(suite.targets[0].train, text, machine)
        sources = [(text, loaded.get(text)) for text in texts]
        origins = _origins(sources, fixed, flags, network, suite.targets, machine)
        suite.check()
        for origin in origins:
            origin.architecture.check(suite.targets[0].train.image_size)
            suite.check_origin(origin)
        folder = run_options.open_folder(config, _fingerprints(suite, origins), machine)
        work = [(origin, range(flags.seeds)) for origin in origins]
        evaluate_networks(
            work, suite, machine=machine, folder=folder, keep_networks=flags.keep_networks
        )
        if machine.ranks.is_main:
            report = build([folder.path], folder.path / "report")
            print(report.table_markdown.read_text(encoding="utf-8"))


def _fingerprints(suite: EvaluationSuite, origins: Sequence[Origin]) -> dict[str, str]:
    """Return the fingerprints of everything that is evaluated or evaluated on."""
    data = {f"target data {n}": x.fingerprint for n, x in enumerate(suite.targets, start=1)}
    if suite.held_out is not None:
        data["held-out images"] = suite.held_out.images.fingerprint
        data["target model"] = suite.held_out.target.fingerprint
    return data | {f"origin {n}": x.artefact for n, x in enumerate(origins, start=1)}


def _protocol(flags: Transfer, config: Json) -> Protocol:
    """Return the published protocol of --protocol, or that of the other flags."""
    epochs = flags.pretrain_epochs
    if flags.protocol is not None:
        return protocol(flags.protocol)
    if epochs and flags.pretrain_steps is not None:
        raise ConfigError(
            "--pretrain-epochs and --pretrain-steps contradict; leave one of them out"
        )
    if len(epochs) > 1:
        raise ConfigError(
            f"--pretrain-epochs {','.join(map(str, epochs))}: several lengths are a sweep of a"
            " protocol; pass --protocol too, or one length"
        )
    options = {name: config.get(name.replace("-", "_"), {}) for name in dict.fromkeys(flags.task)}
    tasks = [shared_flags.component(TASKS, {"name": name, **v}) for name, v in options.items()]
    return custom_protocol(*tasks, pretrain_steps=flags.pretrain_steps)


def _default_out(first: str) -> str:
    if first == SCRATCH or shared_flags.timm_network(first):
        raise ConfigError(f"--out is missing: {first} has no folder of its own")
    path = Path(first)
    return str((path if path.is_dir() else path.parent) / "transfer")


def _load(text: str, machine: Machine) -> Source:
    path = Path(text)
    if path.name == FILE_NAME or (path / FILE_NAME).exists():
        return TargetModel.load(path, machine)
    if not path.exists():
        raise ArtefactError(f"there is no {text}; give {ORIGINS}")
    files = list(network_files(path).values())
    if not files and path.is_file() and format_of(path) == NETWORK:
        files = [path]
    if files:
        networks = [PretrainedNetwork.load(file) for file in files]
        if any("set" not in network.provenance for network in networks):
            raise ArtefactError(
                f"{text} does not say which set its networks were pre-trained on; give networks"
                " that 'datastill pretrain' or 'transfer --keep-networks' made"
            )
        return {int(network.provenance["seed"]): network for network in networks}
    return DistilledSet.load(path)


def _image_size(flags: Transfer, loaded: dict[str, Source]) -> int:
    """Return the pixels per side: those of the origins, which must agree, or of the target data."""
    sizes = {text: _example(source).image_size for text, source in loaded.items()}
    if flags.image_size is not None:
        sizes["--image-size"] = flags.image_size
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{text} {size}" for text, size in sizes.items())
        raise ConfigError(f"image sizes differ ({listed}); transfer from one size at a time")
    return next(iter(sizes.values())) if sizes else shared_flags.data_source(flags.to[0]).size(None)


def _suite(flags: Transfer, fixed: Protocol, image_size: int, machine: Machine) -> EvaluationSuite:
    """Load the target data, and the held-out images if --held-out is given."""
    names, root = list(dict.fromkeys(flags.to)), shared_flags.path_or_none(flags.data_root)
    for name in names:
        shared_flags.data_source(name)
    targets = [TaskData.load(name, image_size, root) for name in names]
    if flags.held_out is None:
        return EvaluationSuite(fixed.tasks, targets)
    if not flags.target:
        raise ConfigError("--held-out compares with a target model; pass its folder as --target")
    images = shared_flags.data_source(flags.held_out).load("test", image_size, root).unlabelled()
    target = shared_flags.target_model(images, flags.target, machine)
    target.check_images(images)
    return EvaluationSuite(fixed.tasks, targets, HeldOut(images, target))


def _origins(
    sources: Sequence[tuple[str, Source | None]],  # None: networks without pre-training
    fixed: Protocol,
    flags: Transfer,
    network: Architecture | None,
    targets: Sequence[TaskData],
    machine: Machine,
) -> list[Origin]:
    """Return the origins of each source: one, or one for each length of pre-training."""
    present = [_example(source) for _, source in sources if source is not None]
    examples = [example for example in present if not isinstance(example, TargetModel)]
    train, origins = targets[0].train, list[Origin]()
    for text, source in sources:
        channels = train.channels if source is None else len(_example(source).normalizer.mean)
        for data in targets:
            if channels != data.train.channels:
                raise ConfigError(
                    f"{text} has images of {channels} channels, {data.name} of"
                    f" {data.train.channels}; choose target data with as many channels"
                )
        if isinstance(source, TargetModel):
            origins.append(from_target(source, protocol=fixed.name))
        elif isinstance(source, dict):
            _check_networks(text, source, flags, network)
            origins.append(from_pretrained(source, machine))
        elif isinstance(source, DistilledSet):
            default = network or _network_of(source)
            lengths: list[int | None] = [*dict.fromkeys(flags.pretrain_epochs)] or [None]
            origins += [fixed.origin(source, default, machine, epochs=n) for n in lengths]
        else:
            example = next(iter(examples), None)
            architecture = fixed.network(train.image_size, network or _network_of(example))
            scratch = from_scratch(
                architecture,
                machine,
                image_size=train.image_size,
                channels=train.channels,
                dim=example.outputs if example else train.num_classes,
                protocol=fixed.name,
            )
            origins.append(scratch)
    return origins


def _example(source: Source) -> DistilledSet | TargetModel | PretrainedNetwork:
    """Return the source itself, or the first of several networks."""
    return next(iter(source.values())) if isinstance(source, dict) else source


def _network_of(source: DistilledSet | PretrainedNetwork | None) -> Architecture:
    """Return the architecture of a network, or the one that a set was distilled with."""
    if isinstance(source, PretrainedNetwork):
        return source.network.architecture
    used = None if source is None else source.provenance.get("network")
    architecture: Architecture = shared_flags.component(ARCHITECTURES, used or {"name": "convnet"})
    return architecture


def _check_networks(
    text: str, networks: Networks, flags: Transfer, network: Architecture | None
) -> None:
    """Refuse flags that contradict networks which are pre-trained already.

    Raises:
        ConfigError: They ask for another architecture, other pre-training, or seeds that are not
            there.
    """
    architecture = next(iter(networks.values())).network.architecture
    if network not in (None, architecture):
        raise ConfigError(f"{text} has networks of {architecture}, --network asks for {network}")
    if flags.protocol or flags.pretrain_steps or flags.pretrain_epochs:
        raise ConfigError(
            f"{text} has networks that are pre-trained already; --protocol, --pretrain-steps and"
            " --pretrain-epochs are for distilled sets: evaluate those in a run of their own"
        )
    if missing := set(range(flags.seeds)) - set(networks):
        there, lacking = (", ".join(map(str, sorted(x))) for x in (networks, missing))
        raise ConfigError(
            f"{text} has networks of the seeds {there}, and --seeds {flags.seeds} needs {lacking}"
            " too; lower --seeds, or give a folder that"
            f" 'datastill pretrain --seeds {flags.seeds}' made"
        )
