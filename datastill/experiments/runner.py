"""Run the stages of a recipe, then report what was measured."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import inf
from pathlib import Path

from datastill.core.atomic import write_json
from datastill.core.errors import ConfigError, GridError
from datastill.core.locks import exclusive_lock
from datastill.core.machine import Machine
from datastill.core.options import to_json
from datastill.core.progress import logger
from datastill.core.run_folder import RunFolder
from datastill.data.cache import cache_folder
from datastill.data.source import source
from datastill.distill import Probe, distill
from datastill.distilled_set import DistilledSet
from datastill.experiments.recipe import DistillationSpec, Recipe, describe
from datastill.experiments.scheduler import (
    Submit,
    in_subprocesses,
    in_this_process,
    on_ray,
    run_stages,
)
from datastill.experiments.stages import (
    ROWS,
    SHARED,
    TARGET,
    DistillationStage,
    EvaluationStage,
    Stage,
    TargetStage,
    set_name,
    stages,
)
from datastill.images import ImageSet
from datastill.problem import Problem
from datastill.report.build import ReportFiles, build
from datastill.target_model import TargetModel
from datastill.train_target import train_target
from datastill.transfer.evaluation import EvaluationSuite, evaluate_networks
from datastill.transfer.held_out import HeldOut
from datastill.transfer.origins import Origin, from_scratch, from_target
from datastill.transfer.task import TaskData

SOURCE = "source images"
RESULTS = ("target.safetensors", "distilled.safetensors")  # of finished stages, for `reuse`


@dataclass(frozen=True)
class Experiment:
    """A recipe and where and how to run it."""

    recipe: Recipe
    out: Path
    seed: int
    machine: Machine
    data_root: Path | None = None
    checkpoint_seconds: float = 60.0
    reuse: Path | None = None  # run folder whose target model and sets are taken where they fit


def run_recipe(
    experiment: Experiment, *, resume: bool = False, workers: int = 1, ray: str | None = None
) -> ReportFiles:
    """Run all stages of a recipe in sub-folders of `out`, then write the report to `out/report`.

    A stage that fails stops only those that depend on it; the report shows what there is, and
    `failed.json` names the rest.

    Args:
        experiment: The recipe and where to run it.
        resume: Continue the run in `out`: only what is missing is made.
        workers: Stages that run at once, each in a process of its own.
        ray: Address of a Ray cluster that runs the stages instead.

    Raises:
        ConfigError: `out` holds another run, or the images of `reuse` are others.
        ResumeError: The run in `out` has other images.
        DataError: Images are missing.
        GridError: Stages failed; the message names the first.
    """
    recipe, out = experiment.recipe, experiment.out
    data_root, reuse = experiment.data_root, experiment.reuse
    config = {
        "recipe": recipe.name,
        "scale": recipe.scale,
        "seed": experiment.seed,
        "device": experiment.machine.device,
        "data_root": data_root and str(data_root),
        "reuse": reuse and str(reuse),
        "resolved": describe(recipe),
    }
    RunFolder.check(out, config, resume=resume)
    runner = ExperimentRunner(experiment)
    runner.read_images()
    data = runner.fingerprints()
    if reuse is not None:
        reused = RunFolder(reuse).data()
        if reused.get(SOURCE, data[SOURCE]) != data[SOURCE]:
            raise ConfigError(f"{reuse} has a run of other {SOURCE}; leave --reuse out")
    RunFolder.open(out, config, resume=resume, data=data)
    depends_on = {name: stage.depends_on for name, stage in runner.stages.items()}
    with exclusive_lock(out / ".recipe.lock", recipe.name):
        with _executor(runner, workers, ray) as submit:
            failed = run_stages(depends_on, submit, at_once=workers if ray is None else inf)
        (out / "failed.json").unlink(missing_ok=True)  # of an earlier run
        if failed:
            parts = [{"part": name, "error": error} for name, error in failed.items()]
            write_json(out / "failed.json", parts)
        if any(name.startswith(ROWS) for name in depends_on.keys() - failed.keys()):
            files = build([out], out / "report")
    if failed:
        name, error = next(iter(failed.items()))
        raise GridError(
            f"{len(failed)} of {len(depends_on)} stages failed; {out / 'failed.json'} lists them."
            f" The first was {name}: {error}. The others are kept; --resume tries again"
        )
    return files


def _executor(
    runner: "ExperimentRunner", workers: int, ray: str | None
) -> AbstractContextManager[Submit]:
    experiment = runner.experiment
    if ray is not None:
        device_type = experiment.machine.device.partition(":")[
            0
        ]  # Ray chooses which GPU a worker sees
        experiment = replace(
            experiment,
            out=experiment.out.absolute(),  # workers start in folders of their own
            data_root=experiment.data_root and experiment.data_root.absolute(),
            reuse=experiment.reuse and experiment.reuse.absolute(),
            machine=replace(experiment.machine, device=device_type),
        )
        return on_ray(partial(_run_alone, experiment), ray, gpus=int(device_type == "cuda"))
    if workers > 1:
        return in_subprocesses(partial(_run_alone, experiment), workers)
    return in_this_process(runner.run)


def _run_alone(experiment: Experiment, name: str) -> None:
    """Run one stage in a process that shares nothing with other stages but the folders."""
    machine = experiment.machine
    machine = Machine.find(machine.device, machine.precision)  # sets up CUDA in this process
    ExperimentRunner(replace(experiment, machine=machine)).run(name)


@dataclass(frozen=True, eq=False)
class ExperimentRunner:
    """Runs stages of an experiment; what several stages read is read once."""

    experiment: Experiment
    full_sources: dict[DistillationSpec, DistilledSet] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        return self.experiment.recipe

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """All stages by name."""
        return stages(self.recipe)

    def run(self, name: str) -> None:
        """Run the stage of that name; return at once where it is finished already."""
        match self.stages[name]:
            case TargetStage() as stage:
                self._train_target(stage)
            case DistillationStage() as stage:
                self._distill(stage)
            case EvaluationStage() as stage:
                self._evaluate(stage)

    def read_images(self) -> None:
        """Read all images of the recipe, so that missing ones are reported before any work."""
        logger.info(f"reading {', '.join([self.recipe.source, *self.recipe.data])}")
        for protocol in self.recipe.protocols:
            EvaluationSuite(protocol.tasks, self.data).check()
        targets = ", ".join(f"{data.name} {len(data.train)}" for data in self.data)
        logger.info(
            f"{self.images.name} {len(self.images)}, held out {len(self.test_images)}; {targets}"
        )

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprints of all images of the recipe."""
        images = {SOURCE: self.images.fingerprint, "held-out images": self.test_images.fingerprint}
        return images | {f"target data {data.name}": data.fingerprint for data in self.data}

    @cached_property
    def data(self) -> list[TaskData]:
        """The target data."""
        return [
            TaskData(name, self._load(name, "train"), self._load(name, "test"))
            for name in self.recipe.data
        ]

    @cached_property
    def images(self) -> ImageSet:
        """The source, with labels for methods that need them."""
        return self._load(self.recipe.source, "train")

    @cached_property
    def test_images(self) -> ImageSet:
        """The source's test split, which is not distilled."""
        return self._load(self.recipe.source, "test").unlabelled()

    def _load(self, name: str, split: str) -> ImageSet:
        if self.recipe.scale == "smoke":
            return source(name).miniature(split, self.recipe.image_size)
        return source(name).load(split, self.recipe.image_size, self.experiment.data_root)

    @cached_property
    def target(self) -> TargetModel | None:
        """The trained target model, where the recipe has one."""
        if self.recipe.target is None:
            return None
        return TargetModel.load(self._path(TARGET), self.experiment.machine)

    @cached_property
    def held_out(self) -> HeldOut | None:
        """Measures the R² of networks that regress target representations."""
        return None if self.target is None else HeldOut(self.test_images, self.target)

    @cached_property
    def problem(self) -> Problem:
        """The problem of unlabelled images that all sets share, with one target model."""
        return Problem(
            self.images.unlabelled(),
            self.target,
            count=1,
            network=self.recipe.network,
            machine=self.experiment.machine,
            cache=None if self.recipe.scale == "smoke" else cache_folder(),
        )

    def _problem(self, spec: DistillationSpec, number: int) -> Problem:
        problem = replace(
            self.problem,
            count=len(self.images) if spec.count == "all" else spec.count,
            seed=self.experiment.seed + number,
            network=spec.network or self.recipe.network,
            compression=spec.compression,
        )
        if spec.method.needs_labels:
            problem = replace(problem, images=self.images)
        return problem

    def _train_target(self, stage: TargetStage) -> None:
        train_target(
            self.images if stage.training.objective.needs_labels else self.images.unlabelled(),
            stage.training,
            seed=self.experiment.seed,
            machine=self.experiment.machine,
            folder=self._folder(TARGET, {"training": describe(stage.training)}),
        )

    def _distill(self, stage: DistillationStage) -> None:
        method, form, probe = stage.spec.method, stage.spec.compression, None
        if self.recipe.probe_every and self.held_out is not None and form is None:
            pretraining = self.recipe.protocols[0].pretraining("representation")
            probe = Probe(self.held_out, self.recipe.probe_every, pretraining)
        config = {"compression": to_json(form)} if form else {}
        folder = self._folder(stage.name, {**method.identity(), **config})
        problem = self._problem(stage.spec, stage.number)
        distill(method, problem, folder=folder, probe=probe)

    def _evaluate(self, stage: EvaluationStage) -> None:
        origin = self._origin(stage)
        evaluate_networks(
            [(origin, [stage.seed])],
            EvaluationSuite(stage.protocol.tasks, self.data, self.held_out),
            machine=self.experiment.machine,
            folder=self._folder(stage.name, {"origin": origin.title, "artefact": origin.artefact}),
            shared=self._folder(SHARED, {}),
        )

    def _origin(self, stage: EvaluationStage) -> Origin:
        protocol, machine = stage.protocol, self.experiment.machine
        if stage.spec is not None:
            return protocol.origin(self._set(stage.spec, stage.number), stage.network, machine)
        if stage.of_target and self.target is not None:
            return from_target(self.target, protocol=protocol.name)
        return from_scratch(
            stage.network,
            machine,
            image_size=self.recipe.image_size,
            channels=self.images.channels,
            dim=self.data[0].train.num_classes if self.target is None else self.target.dim,
            protocol=protocol.name,
        )

    def _set(self, spec: DistillationSpec, number: int) -> DistilledSet:
        if not spec.method.uses_full_source:
            return DistilledSet.load(self._path(set_name(spec, number)))
        if spec not in self.full_sources:
            self.full_sources[spec] = distill(spec.method, self._problem(spec, number))
        return self.full_sources[spec]

    def _path(self, name: str) -> Path:
        """Return the folder of a stage: that of the run to be reused where it is finished there."""
        reuse = self.experiment.reuse
        if reuse is not None and any((reuse / name / file).exists() for file in RESULTS):
            return reuse / name
        return self.experiment.out / name

    def _folder(self, name: str, config: Mapping[str, object]) -> RunFolder:
        recipe, seconds = self.recipe, self.experiment.checkpoint_seconds
        shared = {"source": recipe.source, "image_size": recipe.image_size, "scale": recipe.scale}
        config = {**shared, "seed": self.experiment.seed, **config}
        path = self._path(name)
        if path == self.experiment.out / name:
            return RunFolder.open(path, config, resume=True, checkpoint_seconds=seconds)
        RunFolder.check(path, config, resume=True)  # of another run, which is never written to
        return RunFolder(path, seconds)
