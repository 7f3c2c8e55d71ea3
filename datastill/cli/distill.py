"""Distill the images of a data set into a small set of images and targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datastill.choose_form import choose_form, smallest_count
from datastill.cli import shared_flags
from datastill.cli.parser import CommandParser
from datastill.core.machine import Machine
from datastill.core.options import Json, option
from datastill.core.progress import logger
from datastill.data.cache import cache_folder
from datastill.distill import Probe, distill
from datastill.distilled_set import DistilledSet
from datastill.methods.method import Method
from datastill.networks.architecture import Architecture
from datastill.problem import Problem
from datastill.stored_form.compression import Compression
from datastill.target_model import TargetModel
from datastill.transfer.held_out import HeldOut

EXAMPLE = "datastill distill --data folder:my-photos --target targets/mine --count 100 --out runs/1"
TARGET = "folder of the target model that 'datastill target' made, or timm:NAME"
START = "set (file or run folder) whose images and targets krr-st and label-solve start from"
PROBE = "steps between measurements of R² on the test split; 0: none"


@dataclass(frozen=True)
class Distill:
    """Flags of `datastill distill` beside those of the method and the network."""

    target: str | None = option(None, TARGET)
    count: int | Literal["all"] | None = option(
        None,
        "number M of distilled images; default: that of --start-set, chosen for --bytes, or 1000",
        at_least=1,
    )
    start_set: str | None = option(None, START)
    probe_every: int = option(0, PROBE, at_least=0)


def make_parser(arguments: Sequence[str]) -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser("distill", arguments, __doc__, EXAMPLE, required=("data", "out"))
    parser.add_options(shared_flags.SourceOptions, title="source")
    parser.add_options(Distill, title="distilled set")
    parser.add_options(shared_flags.StoredForm, title="stored form")
    parser.add_options(shared_flags.RunOptions, title="run")
    parser.add_component("method", "datastill.methods", "krr-st")
    parser.add_component("network", "datastill.networks")
    return parser


def run(config: Json) -> None:
    """Distill, and print the path of the artefact."""
    run_options = shared_flags.chosen(shared_flags.RunOptions, config)
    source_options = shared_flags.chosen(shared_flags.SourceOptions, config)
    flags, probe = shared_flags.chosen(Distill, config), None
    with shared_flags.joined_machine(config) as machine:
        run_options.check_folder(config, machine)
        method: Method[Any] = shared_flags.component("datastill.methods", config["method"])
        network: Architecture = method.default_network
        if "network" in config:
            network = shared_flags.component("datastill.networks", config["network"])
        form = shared_flags.compression(config)
        problem = _problem(flags, source_options, method, network, machine, form)
        method.check(problem)
        if flags.probe_every:
            size = problem.images.image_size
            root = shared_flags.path_or_none(source_options.data_root)
            held_out = (
                shared_flags.data_source(source_options.data).load("test", size, root).unlabelled()
            )
            probe = Probe(HeldOut(held_out, problem.needed_target), flags.probe_every)
        data = {"source images": problem.images.fingerprint}
        if problem.target is not None:
            data["target model"] = problem.target.fingerprint
        if problem.start_set is not None:
            data["set to start from"] = problem.start_set.fingerprint
        folder = run_options.open_folder(config, data, machine)
        given = flags.count is not None or problem.start_set is not None
        count = problem.count if given else None
        problem = choose_form(method, problem, count=count, folder=folder)
        distilled = distill(method, problem, folder=folder, probe=probe)
        logger.info(
            f"{len(distilled)} distilled images, {distilled.num_bytes:,} bytes, fingerprint"
            f" {distilled.fingerprint[:16]}"
        )
        print(folder.path / "distilled.safetensors")


def _problem(
    flags: Distill,
    options: shared_flags.SourceOptions,
    method: Method[Any],
    network: Architecture,
    machine: Machine,
    form: Compression | None,
) -> Problem:
    """Load the source images and the target model."""
    target, size = None, options.image_size
    if flags.target and shared_flags.timm_network(flags.target) is None:
        target = TargetModel.load(flags.target, machine)
        size = size or target.image_size
    images = options.load(size)
    if flags.target and target is None:
        target = shared_flags.target_model(images, flags.target, machine)
    start = None if flags.start_set is None else DistilledSet.load(flags.start_set)
    default = 1000 if start is None else len(start)
    if form is not None and form.bytes and start is None:
        default = smallest_count(method, images)  # until it is chosen
    return Problem(
        images if method.needs_labels else images.unlabelled(),
        target,
        len(images) if flags.count == "all" else flags.count or default,
        seed=options.seed,
        network=network,
        machine=machine,
        cache=cache_folder(),
        compression=form,
        start_set=start,
    )
