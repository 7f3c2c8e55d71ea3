"""datastill distill: make a distilled set."""

from pathlib import Path
from typing import Any

from datastill.data._base import source
from datastill.distill import Probe, distill
from datastill.flags import Distill
from datastill.ground.errors import ConfigError
from datastill.ground.machine import Machine
from datastill.ground.options import Json
from datastill.ground.progress import say
from datastill.ground.run_folder import RunFolder
from datastill.held_out import HeldOut
from datastill.images import ImageSet
from datastill.methods._base import AbstractMethod, Problem
from datastill.target_model import TargetModel
from datastill.verbs._components import component, load_source, required


def main(flags: Distill, groups: Json, config: Json) -> None:
    """Distil, and print where the artefact is."""
    out = required(flags.out, "--out", "runs/mine")
    machine = Machine.find(flags.device, flags.precision)
    method: AbstractMethod[Any] = component("datastill.methods", groups["method"])
    target = TargetModel.load(flags.target, machine) if flags.target else None
    size = flags.image_size or (target.image_size if target else None)
    images = load_source(flags.data, size, flags.data_root, flags.limit, flags.seed)
    problem = Problem(
        images if method.needs_labels else images.unlabelled(),
        target,
        _count(flags.count, images),
        seed=flags.seed,
        network=component("datastill.networks", groups["network"]),
        machine=machine,
    )
    method.check(problem)
    probe = _probe(flags, problem) if flags.probe_every else None
    folder = RunFolder.open(out, config, resume=flags.resume)
    distilled = distill(method, problem, folder=folder, probe=probe)
    say(f"{len(distilled)} distilled images, fingerprint {distilled.fingerprint[:16]}")
    print(folder.path / "distilled.safetensors")


def _count(text: str, images: ImageSet) -> int:
    if text == "all":
        return len(images)
    if not text.isdigit():
        raise ConfigError(f"--count {text}: give a positive number, or all")
    return int(text)


def _probe(flags: Distill, problem: Problem) -> Probe:
    root = None if flags.data_root is None else Path(flags.data_root)
    held_out = source(flags.data).load("test", problem.images.image_size, root).unlabelled()
    return Probe(HeldOut(held_out, problem.needed_target), flags.probe_every)
