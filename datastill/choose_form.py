"""Choose count, quality and components of a set for a budget of bytes, from the source alone.

Random source images in each form of a small grid pre-train a network for a short time; the form
whose network predicts held-out source images best is taken.
"""

import math
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from datastill.augment.crop_flip import CropFlip
from datastill.core.errors import ConfigError, NotFiniteError
from datastill.core.loop import run_steps
from datastill.core.progress import logger
from datastill.core.rng import fork
from datastill.core.run_folder import RunFolder
from datastill.distilled_set import DistilledSet, TargetKind
from datastill.images import ImageSet
from datastill.methods.method import Method
from datastill.methods.random_subset import RandomSubset
from datastill.ops.metrics import accuracy_percent, r_squared
from datastill.ops.schedules import Cosine
from datastill.pretrain import PRETRAINING, pretrain
from datastill.problem import BASIS_IMAGES, Problem
from datastill.stored_form.compression import Compression
from datastill.stored_form.mosaic import decoder
from datastill.stored_form.stored import Stored, TargetBasis
from datastill.target_cache import TargetCache

QUALITY_GRID = {"avif": (30, 45, 60), "webp": (30, 50, 70), "jpeg": (30, 50, 70)}
COMPONENT_GRID = (16, 32, 64)
SAMPLE = 256  # images that tell the bytes per image
HELD_OUT = 1000  # images at most, and a tenth of the source
UPDATES, BATCH = 300, 128
MARGIN = 64  # bytes: the header of a set with solved targets may compress a little worse


@dataclass(frozen=True)
class Form:
    """A candidate."""

    quality: int | None  # None: the codec has none
    components: int | None  # None: the targets are no coordinates
    count: int


@dataclass
class ChooseState:
    """What is known of the candidates; a checkpoint stores it."""

    scores: Tensor  # (candidates,) float64: held-out R², or accuracy in percent
    count: int

    @property
    def best(self) -> int:
        return int(self.scores.argmax())


def smallest_count(method: Method[Any], images: ImageSet) -> int:
    """Return the step between counts to choose from: one image, or one of each class."""
    return max(1, images.num_classes) if _is_labelled(method) else 1


def choose_form(
    method: Method[Any],
    problem: Problem,
    *,
    count: int | None = None,
    folder: RunFolder | None = None,
) -> Problem:
    """Choose what a problem leaves open of count, quality and components.

    Args:
        method: The method that will make the set.
        problem: Its `compression` has the bytes of the file, and what is not to be chosen; else
            nothing is chosen. Where the count is to be chosen, that of the problem is
            `smallest_count`.
        count: The number of images, where it is given.
        folder: Keeps the scores of candidates, so that a run which was stopped goes on. None: they
            are computed in one go.

    Returns:
        The problem with `count`, `compression` and, where something was chosen, `choice`. The
        quality is left open where it was: the last encoding takes the best that fits.

    Raises:
        ConfigError: Ranks have chosen other forms than each other.

    Example:
        >>> import datastill as ds
        >>> form = Compression(bytes=8000, codec="webp")
        >>> images = ds.source("digits").load("train")
        >>> problem = ds.Problem(images, None, count=10, compression=form)
        >>> subset = ds.RandomSubset(targets="class-label", balanced=True)
        >>> choose_form(subset, problem, count=10) is problem  # labels: nothing is left to choose
        True
    """
    form = problem.compression
    if form is None or form.bytes is None:
        return problem
    search = _Search(method, problem, form, count)
    forms = search.forms
    if not forms or (count is not None and len(forms) == 1):
        return problem
    state = ChooseState(torch.zeros(len(forms), dtype=torch.float64), problem.count)

    def step(number: int) -> dict[str, Tensor | float | int]:
        if number < len(forms):
            score = search.score(forms[number])
            state.scores[number] = score
            return {search.measure: score} if math.isfinite(score) else {}
        if not state.scores.isfinite().any():
            raise NotFiniteError(
                "the networks of all forms diverged; give --count, --quality and --components"
            )
        if count is None:
            state.count = search.fitting_count(search.chosen(state), forms[state.best])
        return {"count": state.count}

    identity = {"method": method.identity(), **problem.identity, "decoder": decoder(form.codec)}
    identity["forms"] = list(map(asdict, forms))
    saving = None
    if folder is not None:  # each candidate takes long, and its score few bytes
        saving = replace(folder.saving("choose", identity), every_seconds=0.0)
    length = len(forms) + 1
    cost = run_steps("choose", state, step, length=length, saving=saving, lower="--bytes")
    if folder is not None:
        phases = folder.path / "phases.jsonl"
        if not phases.exists() or '"choose"' not in phases.read_text(encoding="utf-8"):
            folder.finish_phase("choose", cost)  # a resumed run has it
    problem.ranks.check_equal(state.count, "the number of images that they chose")
    chosen = search.chosen(state)
    columns = [[name, *values] for name, values in (chosen.choice or {}).items()]
    for number, row in enumerate(zip(*columns, strict=True)):
        mark = "  chosen" if number == state.best + 1 else ""
        logger.info("".join(f"{cell!s:>12}" for cell in row) + mark)
    return chosen


def _is_labelled(method: Method[Any]) -> bool:
    return not method.needs_target or getattr(method, "targets", None) == "class-label"


class _Search:
    def __init__(
        self, method: Method[Any], problem: Problem, form: Compression, count: int | None
    ) -> None:
        self.method, self.problem, self.compression, self.count = method, problem, form, count
        self.labelled, images = _is_labelled(method), problem.images
        self.bytes = form.bytes or 0
        self.measure = "accuracy" if self.labelled else "r2"
        self.unit = smallest_count(method, images)
        self.held_out = max(2, min(HELD_OUT, len(images) // 10))
        most = (len(images) - self.held_out) // self.unit
        self.most = self.unit * min([most, *map(len, problem.by_class if self.labelled else [])])
        self.subset = RandomSubset(balanced=self.labelled)  # draws the images of label-solve
        if isinstance(method, RandomSubset):
            self.subset = method

    @cached_property
    def forms(self) -> list[Form]:
        """The forms to compare, each of which fits in the bytes."""
        form, count = self.compression, self.count or max(1, min(SAMPLE, self.most))
        problem = replace(self.problem, count=count)
        logger.info(f"measuring the bytes of {count} coded images")
        pairs, encoder = self.method.sized(problem, self.subset.choose(problem))
        most = min(encoder.components, len(self.problem.images) - self.held_out - 1)  # axes
        grid = {min(d, most) for d in COMPONENT_GRID if form.components is None}
        forms = []
        for d in sorted(grid) or [encoder.components]:
            if self.count is not None:  # then the quality is the best that fits
                targets = encoder.targets[:, :d] if d else encoder.targets
                options = replace(form, components=d or None)
                with suppress(ConfigError):  # so many components do not fit
                    fixed = replace(encoder, targets=targets, options=options)
                    quality = fixed.smallest_loss(pairs.size_of).form.get("quality")
                    forms.append(Form(quality, d or None, count))
                continue
            qualities = QUALITY_GRID.get(form.codec, (None,))
            for quality in qualities if form.quality is None else (form.quality,):
                room, per_image = self._room(pairs, encoder.encode(quality, d))
                fitting = self.unit * int((count + room / per_image) / self.unit)
                if fitting > 0:
                    forms.append(Form(quality, d or None, min(fitting, self.most)))
        return forms

    def chosen(self, state: ChooseState) -> Problem:
        """Return the problem with the best form, and the table of all."""
        columns = {key: [asdict(form)[key] for form in self.forms] for key in asdict(self.forms[0])}
        table = {key: column for key, column in columns.items() if column[0] is not None}
        scores = map(float, state.scores)
        table[self.measure] = [round(x, 4) if math.isfinite(x) else None for x in scores]
        options = replace(self.compression, components=self.forms[state.best].components)
        return replace(self.problem, compression=options, count=state.count, choice=table)

    def _room(self, pairs: DistilledSet, stored: Stored) -> tuple[int, float]:
        """Return the bytes that a file leaves, and those that an image with its target takes."""
        room = self.bytes - MARGIN - pairs.size_of(stored)
        return room, (stored.mosaic.nbytes + stored.targets.nbytes) / len(pairs)

    def fitting_count(self, problem: Problem, form: Form) -> int:
        """Return a number of random images that fill the bytes to 1 %, or the largest that fits."""
        low, high, count = self.unit, self.most + self.unit, form.count
        while high - low > self.unit:
            drawn = replace(problem, count=min(max(count, low + self.unit), high - self.unit))
            pairs, encoder = self.method.sized(drawn, self.subset.choose(drawn))
            room, per_image = self._room(pairs, encoder.encode(form.quality, encoder.components))
            logger.info(f"{drawn.count} images of quality {form.quality} leave {room:,} bytes")
            low, high = (drawn.count, high) if room >= 0 else (low, drawn.count)
            if 0 <= room <= self.bytes // 100:
                break
            count = drawn.count + self.unit * math.floor(room / per_image / self.unit)
        return low

    @cached_property
    def judged(self) -> tuple[ImageSet, ImageSet, Tensor, Tensor]:
        """Images for the forms, held-out images, and the targets of both."""
        problem, largest = self.problem, max(form.count for form in self.forms)
        images = problem.images.limit(max(BASIS_IMAGES, largest + self.held_out), seed=0)
        if self.labelled:
            assert images.labels is not None, "Method.check refuses this"
            targets = images.labels
        else:  # up to BASIS_IMAGES images and views are those of the problem's basis: one cache
            target, source, views = problem.needed_target, images.unlabelled(), CropFlip(0, False)
            cache = TargetCache(
                target, source, views, mode="full", precision="float32", folder=problem.cache
            )
            targets = cache.values.cpu()
        order = torch.randperm(len(images), generator=fork(0, "choose-form"))
        left, kept = order[: self.held_out], order[self.held_out :]
        return images.take(kept), images.take(left), targets[kept], targets[left]

    def score(self, form: Form) -> float:
        """Pre-train on random images in a form; return R² in all outputs, or accuracy.

        -inf where the training diverges.
        """
        (images, held_out, targets, truth), basis = self.judged, None
        kind: TargetKind = "hard-label" if self.labelled else "representation"
        index = torch.arange(min(form.count, len(images)))
        if self.labelled:  # as many of each class
            source = Problem(images, None, len(index), network=self.problem.network)
            index = RandomSubset(balanced=True).choose(source)
        if d := form.components:
            basis = TargetBasis.principal(targets[:BASIS_IMAGES], d).first(d)
            targets = basis.project(targets)
        unit, y = images.unit_pixels(index), targets[index]
        pairs = self.method.pack(self.problem, unit, y, target_kind=kind, pixel_space="unit")
        options = replace(self.compression, bytes=None, quality=form.quality, components=d)
        encoder = pairs.encoder(options, basis, in_basis=basis is not None)
        training = replace(PRETRAINING[kind], schedule=Cosine(), batch=BATCH, steps=UPDATES)
        student, coded, machine = self.problem.network, pairs.encoded(encoder), self.problem.machine
        try:
            network = pretrain(student, coded, pretraining=training, machine=machine)
        except NotFiniteError as error:
            logger.warning(f"{form.count} images of quality {form.quality} are left out: {error}")
            return -math.inf
        outputs = held_out.predict(network, machine).cpu()
        if self.labelled:
            return accuracy_percent(outputs, truth)
        return r_squared(outputs if basis is None else basis.outputs(outputs), truth)
