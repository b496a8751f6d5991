"""`retrace check`: what can be said before a run: what is wrong, what will be skipped, how long it will take."""

import json
import math
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline import initial, params, paths
from pipeline.commands import memory
from pipeline.commands.text import about, brief
from pipeline.data.answers import Answers, notice, require_learnable
from pipeline.data.augmentation.strengths import unknown_classes
from pipeline.data.raw.base import TEST, VALIDATION
from pipeline.data.sources import open_source
from pipeline.errors import Mistake
from pipeline.machine import required_device, usable_cores
from pipeline.params import Params

_MEASURE_SECONDS = 0.7
_PATIENCE_SECONDS = 3.0  # for fewer than five steps: a slow network, or a machine that is busy otherwise
_ENOUGH_STEPS = 3  # of fewer the middle says little
_FIRST_STEPS = 2  # these pay for threads, memory and the choice of kernels


def check() -> int:
    """Validate params.yaml, dvc.yaml and the images' folder; print notices and an estimate.

    Raises Mistake with every mistake found.
    """
    mistakes: list[str] = []
    chosen: Params | None = None
    try:
        chosen = params.load()
    except Mistake as mistake:
        mistakes += mistake.lines
    images = None
    if chosen is not None:
        try:
            images = count_images(chosen)
        except Mistake as mistake:
            mistakes += mistake.lines
        mistakes += _pipeline_mistakes()  # DVC reads params.yaml too: it would only repeat what is wrong there
    if chosen is None or images is None or mistakes:
        raise Mistake(*mistakes)
    for line in notices(chosen):
        print(line)
    print(_size(images))
    sizes = split_sizes(chosen, images)
    if chosen.model.settings.memorises:
        lines = memory.estimate(chosen, *sizes[:2]).lines()
    else:
        lines = [*whole_batch(chosen, images), *estimate(chosen, images).lines()]
    for line in lines:
        print(line)
    print("params.yaml and dvc.yaml are valid")
    return 0


def notices(chosen: Params) -> list[str]:
    """What is valid, but may surprise."""
    lines = []
    for dimension in chosen.space:
        reason = dimension.meaning_in(chosen)
        if reason is not None:
            lines.append(f"search.space.{dimension.name}: skipped, {reason}")
    if chosen.search.trials == 0:
        lines.append("search.trials: 0 switches the search off; train uses the values of params.yaml")
    elif not chosen.space:
        lines.append("search.space: names nothing to search; every trial would repeat params.yaml's own values")
    elif chosen.search.trials > 1 and all(dimension.meaning_in(chosen) is not None for dimension in chosen.space):
        lines.append(
            "search.space: nothing in it has a meaning here, every trial would repeat params.yaml's own values; name"
            " other keys, or set search.trials: 0"
        )
    if chosen.search.trials == 1:
        lines.append("search.trials: 1 tries params.yaml's own values only")
    if chosen.model.settings.memorises:
        lines.append(memory.notice(chosen))
        return lines + _machine_notices(chosen)
    if not chosen.optimizer.settings.follows_the_slope:
        lines.append(f"optimizer.lr, schedule: without meaning for {chosen.optimizer.name}, which follows no slope")
        if chosen.model.settings.drops_out and chosen.dropout > 0:
            lines.append(
                f"regularization.dropout: with {chosen.dropout:g}, {chosen.optimizer.name} judges what it draws and"
                " what it has by different units; 0 compares like with like"
            )
    schedule, trial_epochs = chosen.schedule, chosen.search.epochs or chosen.train.epochs
    if chosen.search.trials > 1 and schedule.name == "step" and schedule.settings.every_epochs >= trial_epochs:
        lines.append(
            f"schedule.step.every_epochs: {schedule.settings.every_epochs} is not below a trial's {trial_epochs}"
            " epochs: no trial sees the rate drop (search.epochs)"
        )
    if schedule.warmup_epochs >= min(chosen.train.epochs, trial_epochs):
        lines.append(f"schedule.warmup_epochs: {schedule.warmup_epochs} epochs never reach the full rate")
    moving = notice(chosen)
    if moving is not None:
        lines.append(moving)
    return lines + _machine_notices(chosen)


def _machine_notices(chosen: Params) -> list[str]:
    lines = []
    cores = usable_cores()
    if chosen.train.threads > cores:
        lines.append(f"train.threads: {chosen.train.threads} on {cores} cores: slower than {cores}")
    side_by_side = min(chosen.search.workers, chosen.search.trials)
    if side_by_side > 1 and side_by_side * chosen.train.threads > cores:
        lines.append(
            f"search.workers: {side_by_side} trials side by side with {chosen.train.threads} threads each"
            f" (train.threads) on {cores} cores: they wait for one another"
        )
    return lines


# --- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Images:
    """How many files there are."""

    total: int
    validation: int | None  # None: held out by data.validation_fraction
    test: int | None
    classes: int
    targets: int = 0  # numbers to predict of each


def count_images(chosen: Params) -> Images:
    """List the source's files without opening them.

    Raises Mistake where it cannot be a data set, has not what the loss learns from, or lacks a class that
    augment.per_class names; where augment does not fit the images' size; and where weights to start from are not there.
    """
    initial.origin(chosen)
    stored = chosen.data.resolved_image_size
    chosen.evaluate.require_in_sight(stored, chosen.augment.seen(stored))
    scan = open_source(chosen.data.source, chosen.data.path, paths.root(), chosen.data.settings.model_dump()).scan()
    has_boxes = any(found.box is not None for found in scan.found)
    require_learnable(chosen, Answers(scan.classes, scan.targets, has_boxes))
    if wrong := unknown_classes(chosen.augment, scan.classes):
        raise Mistake(*wrong)
    given = Counter(found.split for found in scan.found)
    return Images(len(scan.found), given.get(VALIDATION), given.get(TEST), len(scan.classes), len(scan.targets))


def split_sizes(chosen: Params, images: Images) -> tuple[int, int, int]:
    """About how many images train, choose and test."""
    test = images.test if images.test is not None else round(images.total * chosen.data.test_fraction)
    if images.validation is not None:
        validation = images.validation
    elif images.test is not None:
        validation = round((images.total - test) * chosen.data.validation_fraction)
    else:
        validation = round(images.total * chosen.data.validation_fraction)
    return max(1, images.total - test - validation), validation, test


def whole_batch(chosen: Params, images: Images) -> list[str]:
    """What a step on all training images holds at once, where that is asked for."""
    if chosen.train.batch_size is not None:
        return []
    count = split_sizes(chosen, images)[0] * (1 + chosen.augment.copies)
    side = chosen.augment.seen(chosen.data.resolved_image_size)
    pixels = count * side * side * chosen.data.resolved_channels * 4
    return [
        f"train.batch_size: null: each step holds all {count:,} training images at once, {pixels / 1e6:,.3g} MB as the"
        " network sees them; what it computes of them comes on top"
    ]


def _size(images: Images) -> str:
    answers = f"in {images.classes} classes" if images.classes else f"with {images.targets} targets each"
    return f"{images.total:,} image files {answers}"


# --- time -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """What a run from nothing will take; `step_seconds` was measured here and now on one batch."""

    steps: int
    search_steps: int
    step_seconds: float
    measured_steps: int
    batch: int
    device: str
    parameters: int
    trials: int

    @property
    def seconds(self) -> float:
        """Of search and train together, without what is around the steps."""
        return (self.steps + self.search_steps) * self.step_seconds

    def lines(self) -> list[str]:
        search = f" and {self.search_steps:,} in {self.trials} trials of the search" if self.search_steps else ""
        measured = f"the middle of {self.measured_steps} forward-backward steps"
        if self.measured_steps < _ENOUGH_STEPS:
            measured = f"a guess from {self.measured_steps} forward-backward step{'s' * (self.measured_steps > 1)} only"
        return [
            f"{self.parameters:,} learned numbers; {self.steps:,} optimizer steps to train{search}",
            f"about {about(self.seconds)} of training at {brief(self.step_seconds)} a step: {measured}, batches of"
            f" {self.batch}, timed now on {self.device}. Validation, augmentation and tracking come on top; pruned"
            " trials come off, and what search.workers saves",
        ]


def estimate(chosen: Params, images: Images) -> Estimate:
    """Count the steps and time some of them on noise. Raises Mistake where the network does not fit the images."""
    train = split_sizes(chosen, images)[0] * (1 + chosen.augment.copies)
    batch = min(chosen.train.batch_size or train, train)
    batches = math.ceil(train / batch)
    batches = min(batches, chosen.train.limit_batches or batches)
    trials = chosen.search.trials
    step_seconds, measured, device, parameters = _time_steps(chosen, batch, images)
    if not chosen.optimizer.settings.follows_the_slope:
        step_seconds *= 2  # it judges two sets of weights
    return Estimate(
        steps=batches * chosen.train.epochs,
        search_steps=batches * (chosen.search.epochs or chosen.train.epochs) * trials,
        step_seconds=step_seconds,
        measured_steps=measured,
        batch=batch,
        device=device,
        parameters=parameters,
        trials=trials,
    )


def _time_steps(chosen: Params, batch: int, of: Images) -> tuple[float, int, str, int]:
    """(median seconds of a step, steps timed, device, learned numbers)."""
    import torch

    from models.losses import LOSSES, on
    from models.networks.shape import Shape
    from models.tasks import TASKS
    from pipeline.training.network import initialised_network, started

    task = TASKS[chosen.task]
    outputs = task.outputs(of.classes, of.targets)
    size, channels = chosen.augment.seen(chosen.data.resolved_image_size), chosen.data.resolved_channels
    device = required_device(chosen.train.accelerator)
    torch.set_num_threads(chosen.train.threads)
    network = initialised_network(chosen, Shape(channels, size, outputs))
    if (origin := initial.origin(chosen)) is not None:
        started(network, chosen, origin)
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    images, targets = torch.rand(batch, channels, size, size), task.example(batch, of.classes, of.targets)
    half = {"bf16-mixed": torch.bfloat16, "bf16-true": torch.bfloat16, "16-mixed": torch.float16}
    precision = half.get(chosen.train.precision)
    layout = torch.channels_last if chosen.train.channels_last else torch.contiguous_format
    network.to(device, memory_format=layout)  # type: ignore[call-overload]
    images, targets = images.to(device, memory_format=layout), on(targets, device)
    loss = LOSSES[chosen.loss.name](chosen.loss.settings)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6)
    taken: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < (_MEASURE_SECONDS if len(taken) >= _FIRST_STEPS + 5 else _PATIENCE_SECONDS):
        begun = time.perf_counter()
        with torch.autocast(device.split(":")[0], dtype=precision, enabled=precision is not None):
            answers = network(images)
        loss(answers.float(), targets).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begun)
    timed = sorted(taken[_FIRST_STEPS:] or taken)
    return timed[len(timed) // 2], len(timed), device, parameters


# --- dvc.yaml ---------------------------------------------------------------------------------------------------------

_DVC_LOCKS = Path(".dvc/tmp/rwlock")


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True


STAGES = ("source", "prepare", "augment", "search", "train", "evaluate")


def _pipeline_mistakes() -> list[str]:
    """What DVC would refuse: dvc.yaml as it is with the values of params.yaml in it."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    if _DVC_LOCKS.is_file() and not _is_json(_DVC_LOCKS):
        return [f"{_DVC_LOCKS}: half-written by a dvc that was killed, and stops every other; delete it"]
    try:
        with Repo(".") as repo:
            found = {stage.name for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"}
    except NotDvcRepoError:
        return [".dvc: not found; this is no DVC repository: clone the project anew, or run `dvc init`"]
    except DvcException as error:
        return [f"dvc.yaml: {' '.join(str(error).split())}"]
    return [f"dvc.yaml: stage {name} is missing; restore it from git" for name in STAGES if name not in found]
