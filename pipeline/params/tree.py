"""params.yaml as one frozen tree, built from the catalogue: parsed once, at the edge."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import BaseModel, create_model, field_validator
from pydantic.fields import FieldInfo

from models import catalogue
from models.catalogue import Settings, setting
from pipeline import paths
from pipeline.errors import Mistake
from pipeline.params import fields, reading, sources, space
from pipeline.params.augmentation import Augment
from pipeline.params.fields import Choice, Section, Switch
from pipeline.params.space import Dimension, has_momentum

_BEFORE_SEARCH = "it is used before the search starts"
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "file", "databricks", "databricks-uc", "uc")
_MACHINE = "it describes the machine, not the model"
# What train's keys may be where no gradient is followed: one device compares two losses on one batch, unscaled.
_WITHOUT_SLOPE: dict[str, tuple[Any, ...]] = {
    "accumulate_batches": (1,),
    "clip_norm": (None,),
    "devices": (1,),
    "precision": ("32-true", "bf16-mixed", "bf16-true"),
}
_ONE_FAMILY = "results depend on the chosen family alone; compare families with `dvc exp run -S`"


class _Optimizer(Choice):
    lr: float = setting("learning rate", gt=0, le=1000, search=(1e-4, 1.0, "log"))
    momentum: float | None = setting("null: the optimizer's own", ge=0, lt=1, search=(0.8, 0.99))

    @classmethod
    def disagreements(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().disagreements(values)
        name, momentum = values.get("name"), values.get("momentum")
        if name is not None and momentum is not None and not has_momentum(name):
            meant = ", ".join(other for other in catalogue.OPTIMIZERS if has_momentum(other))
            yield "momentum", f"{momentum} has no meaning for {name}; set it to null, or use {meant}"

    @property
    def effective_momentum(self) -> float | None:
        """The number in force; None for an optimizer that has no momentum."""
        return self.momentum if self.momentum is not None else catalogue.OPTIMIZERS[self.name].own_momentum


class InitFrom(Settings):
    weights: str | None = setting(
        "folder of a model, file of weights or id of a run of train; null: none",
        min_length=1,
        unsearchable=_BEFORE_SEARCH,
    )
    up_to: str | None = setting("the last layer that is taken over; null: all are", min_length=1)
    frozen: bool = setting("leave what is taken over as it is")


class _Model(Choice):
    init_from: InitFrom

    @classmethod
    def disagreements(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().disagreements(values)
        name, start = values.get("name"), values.get("init_from")
        if name is not None and values.get(name) is not None:
            settings = catalogue.NETWORKS[name].model_validate(values[name])
            yield from ((f"{name}.{key}", text) for key, text in settings.disagreements())
        if start is not None:
            start = InitFrom.model_validate(start)
            if start.weights is not None and name is not None and catalogue.NETWORKS[name].memorises:
                yield "init_from.weights", f"has no meaning for {name}, which memorises images; set it to null"
            for key, is_set in (("up_to", start.up_to is not None), ("frozen", start.frozen)):
                if is_set and start.weights is None:
                    yield f"init_from.{key}", "has no meaning where init_from.weights is null; name saved weights there"


class _Loss(Choice):
    class_weights: Literal["none", "balanced"] = setting("whether rare classes' images count for more in training")

    @classmethod
    def disagreements(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().disagreements(values)
        name = values.get("name")
        if name is not None and values.get("class_weights") == "balanced":
            task = catalogue.LOSSES[name].task
            if task not in ("classification", "binary"):
                yield "class_weights", f"balanced has no meaning for {name}, which is for {task}; set it to none"


class _Schedule(Choice):
    warmup_epochs: int = setting("epochs of linear rise before and on top of the schedule", ge=0, search=(0, 5))


class _Data(Switch):
    switch: ClassVar[str] = "source"
    source: str
    path: str | None = setting("where they lie", unsearchable=_BEFORE_SEARCH)
    image_size: int | None = setting(
        "pixels a side; null: the source's own", ge=1, le=4096, unsearchable=_BEFORE_SEARCH
    )
    channels: Literal[1, 3] | None = setting("null: the source's own", unsearchable=_BEFORE_SEARCH)
    split: Literal["auto", "given", "stratified", "stable", "grouped"] = setting(
        "how images are dealt out", unsearchable=_BEFORE_SEARCH
    )
    folds: int | None = setting(
        "folds that the images outside test are dealt out into; null: none", ge=2, le=100, unsearchable=_BEFORE_SEARCH
    )
    on_leak: Literal["drop", "warn", "fail"] = setting(
        "what becomes of copies across splits", unsearchable=_BEFORE_SEARCH
    )
    validation_fraction: float = setting("share held out to choose on", gt=0, lt=1, unsearchable=_BEFORE_SEARCH)
    test_fraction: float = setting("share sealed for evaluate", gt=0, lt=1, unsearchable=_BEFORE_SEARCH)
    max_bad_fraction: float = setting("largest share of unreadable files", ge=0, le=1, unsearchable=_BEFORE_SEARCH)
    max_packed_bytes: int = setting("most bytes kept as pixels", ge=0, unsearchable=_BEFORE_SEARCH)

    @field_validator("channels", mode="before")
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        if isinstance(value, bool):  # Python takes true for 1
            raise ValueError("true and false are no numbers")
        return value

    @classmethod
    def disagreements(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().disagreements(values)
        source = values.get("source")
        if source is not None and "path" in values:
            kind, path = sources.SOURCES[source], values["path"]
            if kind.path == "needed" and not path:
                yield "path", f"missing; `source: {source}` needs {kind.place}"
            elif kind.path == "unused" and path is not None:
                readers = ", ".join(name for name, other in sources.SOURCES.items() if other.path != "unused")
                yield "path", f"{path!r} is not used by `source: {source}`; set it to null, or source to {readers}"
        if source is not None and values.get(source) is not None:
            settings = sources.SOURCES[source].model_validate(values[source])
            yield from ((f"{source}.{key}", text) for key, text in settings.disagreements())
            for key, own in (("image_size", settings.image_size), ("channels", settings.channels)):
                if not settings.pictures and values.get(key) not in (None, own):
                    yield (
                        key,
                        f"the pixels of `source: {source}` are numbers that no conversion may change; set it to null",
                    )
        if {"validation_fraction", "test_fraction"} <= set(values):
            total = values["validation_fraction"] + values["test_fraction"]
            if total >= 1:
                text = f"with test_fraction makes {total:g}, which leaves nothing to train on; lower one"
                yield "validation_fraction", text

    @property
    def resolved_image_size(self) -> int:
        return self.image_size or cast(sources.Source, self.settings).image_size

    @property
    def resolved_channels(self) -> int:
        return self.channels or cast(sources.Source, self.settings).channels


def _choice(
    title: str, table: Mapping[str, type[Settings]], base: type[Switch], unsearchable: str = _ONE_FAMILY
) -> type[Switch]:
    """The section class of a table of families. A family that is not chosen may be absent.

    title: the name that it has in this module, by which another process finds it.
    """
    members: dict[str, Any] = {name: (family | None, None) for name, family in table.items()}
    members[base.switch] = (Literal[tuple(table)], setting("which family", unsearchable=unsearchable))
    return create_model(title, __base__=base, **members)


if TYPE_CHECKING:
    Data = _Data
    ModelSection = _Model
    LossSection = _Loss
    OptimizerSection = _Optimizer
    ScheduleSection = _Schedule
else:
    Data = _choice("Data", sources.SOURCES, _Data, _BEFORE_SEARCH)
    ModelSection = _choice("ModelSection", catalogue.NETWORKS, _Model)
    LossSection = _choice("LossSection", catalogue.LOSSES, _Loss)
    OptimizerSection = _choice("OptimizerSection", catalogue.OPTIMIZERS, _Optimizer)
    ScheduleSection = _choice("ScheduleSection", catalogue.SCHEDULES, _Schedule)


class Train(Section):
    epochs: int = setting(
        "passes over the training split", ge=1, le=100_000, unsearchable="search.epochs is the length of every trial"
    )
    batch_size: int | None = setting(
        "images a step; null: the whole training split", ge=1, le=1_000_000, search=(16, 512, "log")
    )
    accumulate_batches: int = setting("batches whose gradients make one step", ge=1, le=65_536, search=(1, 8))
    limit_batches: int | None = setting("batches an epoch at most; null: all", ge=1)
    early_stopping_epochs: int | None = setting("epochs without a better validation loss; null: never", ge=1)
    clip_norm: float | None = setting(
        "largest norm of a step's whole gradient; null: any", gt=0, search=(0.1, 10.0, "log")
    )
    ema_decay: float | None = setting("of the weights' moving average; null: none", gt=0, lt=1, search=(0.9, 0.9999))
    checkpoint_seconds: float = setting("between two checkpoints", ge=0, le=86_400, operational=True)
    threads: int = setting("torch's threads", ge=1, le=1024, unsearchable=_MACHINE)
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = setting("what to train on", unsearchable=_MACHINE)
    devices: int = setting("how many of them", ge=1, le=1024, unsearchable=_MACHINE)
    strategy: Literal["auto", "ddp"] = setting("how several devices work together", unsearchable=_MACHINE)
    precision: Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"] = setting("of the arithmetic")
    channels_last: bool = setting("memory format of images and weights")

    @classmethod
    def disagreements(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if values.get("batch_size", 0) is None and values.get("accumulate_batches", 1) > 1:
            yield (
                "accumulate_batches",
                f"{values['accumulate_batches']} has no meaning where batch_size: null makes one batch an epoch; use 1",
            )
        if values.get("clip_norm") is not None and values.get("precision") == "16-mixed":
            yield "clip_norm", "cannot be had with precision: 16-mixed, which scales gradients; use bf16-mixed"


class Search(Section):
    trials: int = setting("0: no search", ge=0, le=1_000_000)
    epochs: int | None = setting("epochs of each trial; null: train.epochs", ge=1, le=100_000)
    sampler: Literal["tpe", "random"] = setting("how values are proposed")
    pruner: Literal["median", "none"] = setting("how hopeless trials are stopped")
    round: int = setting("trials proposed together, before any of them has a result", ge=1, le=1024)
    workers: int = setting("trials of a round that train side by side", ge=1, le=1024, operational=True)
    space: dict[str, Any] = setting("mirrors this file: ranges or choices at the keys to search")

    @classmethod
    def disagreements(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        if {"round", "workers"} <= set(values) and values["workers"] > values["round"]:
            yield (
                "workers",
                f"{values['workers']} is more than search.round, which is {values['round']}: only trials proposed"
                " together train side by side; raise search.round (it changes what is proposed), or lower this",
            )


class Evaluate(Settings):
    mistakes: int = setting("worst mistakes shown as pictures", ge=0, le=1000)
    tta: Literal["none", "flip", "shifts", "ten_crop"] = setting("views whose probabilities are averaged")
    tta_pixels: int = setting("how far those of shifts and ten_crop move", ge=1, le=512)

    def require_in_sight(self, stored: int, seen: int) -> None:
        """Raise Mistake where a view would show nothing of images of `stored` pixels a side, `seen` by the model."""
        moves = self.tta == "shifts" or (self.tta == "ten_crop" and seen == stored)
        if moves and self.tta_pixels >= stored:
            raise Mistake(
                f"params.yaml: evaluate.tta_pixels: {self.tta_pixels} moves all of an image of {stored} pixels out of"
                " sight; lower it"
            )


class Tracking(Section):
    uri: str | None = setting("MLflow server; null: mlflow.db here", operational=True)
    experiment: str = setting("MLflow experiment", operational=True, min_length=1)
    drain_seconds: float = setting("how long a stage waits for MLflow", ge=0, le=86_400, operational=True)
    log_every_steps: int = setting("steps between two points", ge=1, operational=True)

    @classmethod
    def disagreements(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        scheme, separator, _ = (values.get("uri") or "").partition("://")
        if separator and scheme.partition("+")[0] not in _SCHEMES:
            meant = fields.nearest(scheme, _SCHEMES, otherwise=f"; known: {', '.join(_SCHEMES)}")
            yield "uri", f"unknown scheme {scheme}://{meant}"


class Params(Section):
    seed: int = setting("of every random number", ge=0, lt=2**63, unsearchable="a search would pick the luckiest")
    data: Data
    augment: Augment
    model: ModelSection
    loss: LossSection
    regularization: catalogue.Regularization
    optimizer: OptimizerSection
    schedule: ScheduleSection
    train: Train
    search: Search
    evaluate: Evaluate
    tracking: Tracking

    @classmethod
    def disagreements(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Between sections; `values` holds those that are valid by themselves."""
        loss, optimizer, schedule, train = (values.get(name) for name in ("loss", "optimizer", "schedule", "train"))
        if (model := values.get("model")) is not None and model.settings.memorises:
            return  # all of them rest
        if optimizer is not None and train is not None and not optimizer.settings.follows_the_slope:
            for key, allowed in _WITHOUT_SLOPE.items():
                if (value := getattr(train, key)) not in allowed:
                    said = f"{fields.show(value)} has no meaning for {optimizer.name}; use"
                    yield f"train.{key}", f"{said} {' or '.join(map(fields.show, allowed))}"
        watches_error = schedule is not None and schedule.name == "plateau" and schedule.settings.monitor == "error"
        if watches_error and loss is not None and loss.settings.task == "regression":
            text = f"error has no meaning for {loss.name}, which learns numbers: none is right or wrong; use loss"
            yield "schedule.plateau.monitor", text

    def overlaid(self, changes: Mapping[str, Any]) -> "Params":
        """This tree with some values replaced; `changes` mirrors the tree. Validated again."""
        return reading.validated(Params, _merged(self.model_dump(), changes), "overlaid values")

    @property
    def task(self) -> catalogue.Task:
        """What is learned: what the loss is for; by a network that memorises classes, whatever loss rests beside it."""
        return "classification" if self.model.settings.memorises else catalogue.LOSSES[self.loss.name].task

    @property
    def figure(self) -> catalogue.Figure:
        """What epochs and trials are compared by."""
        return catalogue.FIGURES[self.task]

    @property
    def dropout(self) -> float:
        """The share in force: regularization.dropout, or the network's own."""
        own = catalogue.NETWORKS[self.model.name].own_dropout
        return own if self.regularization.dropout is None else self.regularization.dropout

    def flat(self) -> dict[str, Any]:
        """What is in force, as {"optimizer.lr": 0.1, ...}: families that are not chosen are left out."""
        return dict(_flat(self))

    @property
    def space(self) -> tuple[Dimension, ...]:
        """What the search may vary, sorted by path."""
        return space.parse(Params, self.search.space)[0]


def load(path: Path = paths.PARAMS) -> Params:
    """Read and validate params.yaml.

    Raises Mistake with every mistake of the file: unknown and missing keys, wrong types, values out of range,
    duplicate keys, keys that do not agree, and a search space that does not fit.
    """
    try:
        text = reading.read_text(path)
    except FileNotFoundError:
        raise Mistake(f"{path}: not found; run this in the project's folder") from None
    raw, lines, duplicates = reading.parse_yaml(text, str(path))
    return reading.validated(Params, raw, str(path), lines, duplicates)


def leaves(model: type[BaseModel] = Params) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every key of the tree that holds a value, with its field."""
    yield from fields.leaves(model)


def json_schema() -> str:
    """The schema by which editors complete params.yaml; kept in docs/params.schema.json."""
    return json.dumps(Params.model_json_schema(), indent=1) + "\n"


def _flat(node: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node:
        if isinstance(value, BaseModel):
            if not (isinstance(node, Switch) and name in fields.families(type(node)) and name != node.chosen):
                yield from _flat(value, f"{prefix}{name}.")
        elif value is not None or name not in fields.families(type(node)):
            yield f"{prefix}{name}", value


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return result
