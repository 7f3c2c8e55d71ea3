"""datastill distill: make a distilled set."""

from typing import Any

from datastill.command.understand import Command
from datastill.data._base import source
from datastill.data._cache_folder import cache_folder
from datastill.distill import Probe, distill
from datastill.flags import Distill
from datastill.ground.machine import Machine
from datastill.ground.progress import say
from datastill.ground.run_folder import RunFolder
from datastill.held_out import HeldOut
from datastill.methods._base import AbstractMethod, Problem
from datastill.networks._base import AbstractArchitecture
from datastill.target_model import TargetModel
from datastill.verbs._components import component, folder_of, load_source, target_for, timm_named
from datastill.verbs._ranks import joined_machine


def main(command: Command) -> None:
    """Distil, and print where the artefact is."""
    assert isinstance(command.flags, Distill)
    flags = command.flags
    with joined_machine(flags.device, flags.precision) as machine:
        _distill(command.settled(precision=machine.precision), flags, machine)


def _distill(command: Command, flags: Distill, machine: Machine) -> None:
    if machine.world.writes:
        RunFolder.check(flags.out, command.config, resume=flags.resume)
    method: AbstractMethod[Any] = component("datastill.methods", command.groups["method"])
    problem = _problem(command, flags, method, machine)
    method.check(problem)
    probe = _probe(flags, problem) if flags.probe_every else None
    folder = RunFolder.open(
        flags.out,
        command.config,
        resume=flags.resume,
        checkpoint_seconds=flags.checkpoint_seconds,
        profile=flags.profile,
        world=machine.world,
    )
    distilled = distill(method, problem, folder=folder, probe=probe)
    say(f"{len(distilled)} distilled images, fingerprint {distilled.fingerprint[:16]}")
    print(folder.path / "distilled.safetensors")


def _problem(
    command: Command, flags: Distill, method: AbstractMethod[Any], machine: Machine
) -> Problem:
    network: AbstractArchitecture = method.default_network
    if "network" in command.groups:
        network = component("datastill.networks", command.groups["network"])
    target, size = None, flags.image_size
    if flags.target and timm_named(flags.target) is None:
        target = TargetModel.load(flags.target, machine)
        size = size or target.image_size
    images = load_source(flags.data, size, flags.data_root, flags.limit, flags.seed)
    if flags.target and target is None:
        target = target_for(images, flags.target, machine)
    return Problem(
        images if method.needs_labels else images.unlabelled(),
        target,
        len(images) if flags.count == "all" else flags.count,
        seed=flags.seed,
        network=network,
        machine=machine,
        cache=cache_folder(),
    )


def _probe(flags: Distill, problem: Problem) -> Probe:
    size, root = problem.images.image_size, folder_of(flags.data_root)
    held_out = source(flags.data).load("test", size, root).unlabelled()
    return Probe(HeldOut(held_out, problem.needed_target), flags.probe_every)
