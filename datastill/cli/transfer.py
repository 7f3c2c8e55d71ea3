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
from datastill.distilled_set import DistilledSet
from datastill.networks.architecture import Architecture
from datastill.protocols.protocol import Protocol, custom_protocol, protocol
from datastill.report.build import build
from datastill.target_model import FILE_NAME, TargetModel
from datastill.transfer.evaluation import EvaluationSuite, evaluate_networks
from datastill.transfer.held_out import HeldOut
from datastill.transfer.origins import Origin, from_scratch, from_target
from datastill.transfer.task import TaskData

EXAMPLE = "datastill transfer runs/mine scratch --to cifar10,folder:my-birds --seeds 3"
SCRATCH, NETWORKS, TASKS = "scratch", "datastill.networks", "datastill.transfer"
PROTOCOLS = lookup.names("datastill.protocols")
# Ranks wait this long for each other's rows; a rank that crashes is noticed at once.
ROW_SECONDS = 30 * 86400.0
RUN = ("out", "resume", "checkpoint_seconds", "config", "device", "precision")
ORIGINS = "distilled sets or target models (files or run folders), timm:NAME, or scratch"
TASK = f"how networks are evaluated: {', '.join(lookup.names(TASKS))}"
PROTOCOL = f"published settings ({', '.join(PROTOCOLS)}), instead of --network, --task and"
STEPS = "updates of pre-training; default: the paper's epochs"
EPOCHS = "epochs of pre-training; default: as published; several: a sweep of the protocol"
IMAGE_SIZE = "pixels per side; default: the origins', else the target data's"

Source = DistilledSet | TargetModel


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
        parser.add_component("network", NETWORKS)
        parser.add_components("task", TASKS, Transfer.task)
    return parser


def run(config: Json) -> None:
    """Evaluate all networks and print the table of results."""
    flags, texts = shared_flags.chosen(Transfer, config), list(dict.fromkeys(config["origins"]))
    run_options = shared_flags.chosen(shared_flags.RunOptions, config)
    run_options = replace(run_options, out=run_options.out or _default_out(texts[0]))
    fixed = _protocol(flags, config)
    network = shared_flags.component(NETWORKS, config["network"]) if "network" in config else None
    with shared_flags.joined_machine(config, timeout_seconds=ROW_SECONDS) as machine:
        run_options.check_folder(config, machine)
        files = [text for text in texts if text != SCRATCH and not shared_flags.timm_network(text)]
        loaded = {text: _load(text, machine) for text in files}
        suite = _suite(flags, fixed, _image_size(flags, loaded), machine)
        for text in filter(shared_flags.timm_network, texts):
            loaded[text] = shared_flags.target_model(suite.targets[0].train, text, machine)
        sources = [(text, loaded.get(text)) for text in texts]
        origins = _origins(sources, fixed, flags.pretrain_epochs, network, suite.targets, machine)
        suite.check()
        for origin in origins:
            origin.architecture.check(suite.targets[0].train.image_size)
            suite.check_origin(origin)
        folder = run_options.open_folder(config, _fingerprints(suite, origins), machine)
        work = [(origin, range(flags.seeds)) for origin in origins]
        evaluate_networks(work, suite, machine=machine, folder=folder)
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
        raise ArtefactError(
            f"there is no {text}; give files or run folders of distilled sets or target models,"
            f" or {SCRATCH}"
        )
    return DistilledSet.load(path)


def _image_size(flags: Transfer, loaded: dict[str, Source]) -> int:
    """Return the pixels per side: those of the origins, which must agree, or of the target data."""
    sizes = {text: origin.image_size for text, origin in loaded.items()}
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
    epochs: Sequence[int],
    network: Architecture | None,
    targets: Sequence[TaskData],
    machine: Machine,
) -> list[Origin]:
    """Return the origins of each source: one, or one for each length of pre-training."""
    sets = [source for _, source in sources if isinstance(source, DistilledSet)]
    train, origins = targets[0].train, list[Origin]()
    for text, source in sources:
        channels = train.channels if source is None else len(source.normalizer.mean)
        for data in targets:
            if channels != data.train.channels:
                raise ConfigError(
                    f"{text} has images of {channels} channels, {data.name} of"
                    f" {data.train.channels}; choose target data with as many channels"
                )
        if isinstance(source, TargetModel):
            origins.append(from_target(source, protocol=fixed.name))
            continue
        example = source or next(iter(sets), None)
        used = example and example.provenance.get("network")
        default = network or shared_flags.component(NETWORKS, used or {"name": "convnet"})
        if source is not None:
            lengths: list[int | None] = [*dict.fromkeys(epochs)] or [None]
            origins += [fixed.origin(source, default, machine, epochs=n) for n in lengths]
            continue
        shape = {"image_size": train.image_size, "channels": train.channels}
        outputs = example.outputs if example else train.num_classes
        architecture = fixed.network(train.image_size, default)
        origins.append(
            from_scratch(architecture, machine, **shape, dim=outputs, protocol=fixed.name)
        )
    return origins
