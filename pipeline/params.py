"""params.yaml as one validated, frozen tree, built from the catalogue: parsed once, at the edge.

`load` reports every mistake of the file in one list, each with its line, path, value, allowed range and nearest name.
"""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from models import catalogue
from models.catalogue import Settings, setting
from pipeline import paths
from pipeline.errors import Mistake

_BEFORE_SEARCH = "it is used before the search starts"
_MACHINE = "it describes the machine, not the model"


# --- the tree ---------------------------------------------------------------------------------------------------------


class Choice(Settings):
    """A section in which `name` switches between families; each family's settings lie beside it."""

    name: str

    @property
    def settings(self) -> Any:
        """The chosen family's settings: an instance of its catalogue class."""
        return getattr(self, self.name)

    @model_validator(mode="after")
    def _chosen_family_is_present(self) -> "Choice":
        if self.settings is None:
            known = ", ".join(families(type(self))[self.name].model_fields) or "{}"
            raise PydanticCustomError(
                "chosen_family", "the settings of the chosen family are missing; add `{name}:` with {known}",
                {"name": self.name, "known": known},
            )  # fmt: skip
        return self


class _Optimizer(Choice):
    lr: float = setting("learning rate", gt=0, le=1000, search=(1e-4, 1.0, "log"))
    momentum: float | None = setting("null: the optimizer's own", ge=0, lt=1, search=(0.8, 0.99))

    @model_validator(mode="after")
    def _momentum_has_a_meaning(self) -> "_Optimizer":
        if self.momentum is not None and not has_momentum(self.name):
            meant = ", ".join(name for name in catalogue.OPTIMIZERS if has_momentum(name))
            raise PydanticCustomError(
                "momentum", "momentum: {value} has no meaning for {name}; set it to null, or use {meant}",
                {"value": self.momentum, "name": self.name, "meant": meant},
            )  # fmt: skip
        return self

    @property
    def effective_momentum(self) -> float | None:
        """The number in force; None for an optimizer that has no momentum."""
        return self.momentum if self.momentum is not None else catalogue.OPTIMIZERS[self.name].own_momentum


class _Schedule(Choice):
    warmup_epochs: int = setting("epochs of linear rise before and on top of the schedule", ge=0)


def has_momentum(optimizer: str) -> bool:
    return catalogue.OPTIMIZERS[optimizer].own_momentum is not None


def _choice(title: str, table: Mapping[str, type[Settings]], base: type[Choice] = Choice) -> type[Choice]:
    """The section class of a catalogue table. A family that is not chosen may be absent."""
    members: dict[str, Any] = {name: (family | None, None) for name, family in table.items()}
    names = Literal[tuple(table)]  # type: ignore[valid-type]
    return create_model(title, __base__=base, name=(names, setting("which family")), **members)


if TYPE_CHECKING:
    ModelSection = LossSection = Choice
    OptimizerSection = _Optimizer
    ScheduleSection = _Schedule
    SourceName = str
else:
    ModelSection = _choice("Model", catalogue.NETWORKS)
    LossSection = _choice("Loss", catalogue.LOSSES)
    OptimizerSection = _choice("Optimizer", catalogue.OPTIMIZERS, _Optimizer)
    ScheduleSection = _choice("Schedule", catalogue.SCHEDULES, _Schedule)
    SourceName = Literal[tuple(catalogue.SOURCES)]


class Data(Settings):
    source: SourceName = setting("where the images come from", unsearchable=_BEFORE_SEARCH)
    path: str | None = setting("the folder, for source: folder", unsearchable=_BEFORE_SEARCH)
    image_size: int | None = setting(
        "pixels a side; null: the source's own", ge=1, le=4096, unsearchable=_BEFORE_SEARCH
    )
    channels: Literal[1, 3] | None = setting("null: the source's own", unsearchable=_BEFORE_SEARCH)
    validation_fraction: float = setting("share held out to choose on", gt=0, lt=1, unsearchable=_BEFORE_SEARCH)
    test_fraction: float = setting("share sealed for evaluate", gt=0, lt=1, unsearchable=_BEFORE_SEARCH)
    max_bad_fraction: float = setting("largest share of unreadable files", ge=0, le=1, unsearchable=_BEFORE_SEARCH)

    @model_validator(mode="after")
    def _agrees(self) -> "Data":
        needs_path = catalogue.SOURCES[self.source].needs_path
        if needs_path and not self.path:
            raise PydanticCustomError(
                "path", "path: missing; `source: {source}` needs the folder that holds the images",
                {"source": self.source},
            )  # fmt: skip
        if not needs_path and self.path is not None:
            raise PydanticCustomError(
                "path", "path: {path} is not used by `source: {source}`; set it to null, or set source: folder",
                {"path": repr(self.path), "source": self.source},
            )  # fmt: skip
        if self.validation_fraction + self.test_fraction >= 1:
            raise PydanticCustomError(
                "fractions", "validation_fraction + test_fraction = {total} leaves nothing to train on; lower one",
                {"total": self.validation_fraction + self.test_fraction},
            )  # fmt: skip
        return self

    @property
    def resolved_image_size(self) -> int:
        return self.image_size or catalogue.SOURCES[self.source].image_size

    @property
    def resolved_channels(self) -> int:
        return self.channels or catalogue.SOURCES[self.source].channels


class Augment(Settings):
    normalization: Literal["channel", "none"] = setting("how pixels are scaled", unsearchable=_BEFORE_SEARCH)
    crop_padding: int = setting("pixels of padding before a random crop", ge=0, le=512, search=(0, 4))
    horizontal_flip: bool = setting("mirror every second image at random")
    rotation_degrees: float = setting("rotate by up to this either way", ge=0, le=180, search=(0.0, 30.0))
    brightness: float = setting("add up to this share of the range either way", ge=0, le=1, search=(0.0, 0.5))
    contrast: float = setting("scale about mid-grey by up to 1 +- this", ge=0, le=1, search=(0.0, 0.5))
    pca_shift: float = setting("standard deviation of AlexNet's colour shift", ge=0, le=10, search=(0.0, 0.3))
    cutout_size: int = setting("side of the square that is blanked", ge=0, le=4096, search=(0, 16))


class Train(Settings):
    epochs: int = setting("passes over the training split", ge=1, le=100_000)
    batch_size: int = setting("images a step", ge=1, le=1_000_000, search=(16, 512, "log"))
    limit_batches: int | None = setting("batches an epoch at most; null: all", ge=1)
    early_stopping_epochs: int | None = setting("epochs without a better validation loss; null: never", ge=1)
    threads: int = setting("torch's threads", ge=1, le=1024, unsearchable=_MACHINE)
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = setting("what to train on", unsearchable=_MACHINE)
    devices: int = setting("how many of them", ge=1, le=1024, unsearchable=_MACHINE)
    strategy: Literal["auto", "ddp"] = setting("how several devices work together", unsearchable=_MACHINE)
    precision: Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"] = setting("of the arithmetic")
    channels_last: bool = setting("memory format of images and weights")


class Search(Settings):
    trials: int = setting("0: no search", ge=0, le=1_000_000)
    epochs: int | None = setting("epochs of each trial; null: train.epochs", ge=1, le=100_000)
    sampler: Literal["tpe", "random"] = setting("how values are proposed")
    pruner: Literal["median", "none"] = setting("how hopeless trials are stopped")
    space: dict[str, Any] = setting("mirrors this file: ranges or choices at the keys to search")


class Evaluate(Settings):
    mistakes: int = setting("worst mistakes shown as pictures", ge=0, le=1000)


class Tracking(Settings):
    uri: str | None = setting("MLflow server; null: mlflow.db here", operational=True)
    experiment: str = setting("MLflow experiment", operational=True, min_length=1)
    drain_seconds: float = setting("how long a stage waits for MLflow", ge=0, le=86_400, operational=True)
    log_every_steps: int = setting("steps between two points", ge=1, operational=True)


class Params(Settings):
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

    def overlaid(self, changes: Mapping[str, Any]) -> "Params":
        """This tree with some values replaced; `changes` mirrors the tree. Validated again."""
        return _validated(_merged(self.model_dump(), changes), lines={}, file="overlay")

    def flat(self) -> dict[str, Any]:
        """What is in force, as {"optimizer.lr": 0.1, ...}: families that are not chosen are left out."""
        return dict(_flat(self))

    @property
    def space(self) -> tuple["Dimension", ...]:
        """What the search may vary, in a fixed order, names of families first."""
        dimensions, _ = _parse_space(self.search.space)
        return dimensions


# --- the search space -------------------------------------------------------------------------------------------------


class Dimension(BaseModel, frozen=True):
    """One key the search may vary: a range, or a list of choices."""

    path: tuple[str, ...]
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def integral(self) -> bool:
        """Whether its values are whole numbers."""
        return int in _allowed_types(_field_at(self.path))

    def meaning_in(self, params: Params) -> str | None:
        """None where this key has a meaning under these choices of families; otherwise why it has none."""
        section = getattr(params, self.path[0])
        if not isinstance(section, Choice):
            return None
        if self.path[1] in families(type(section)) and self.path[1] != section.name:
            return f"{self.path[0]}.name is {section.name}"
        if self.path == ("optimizer", "momentum") and not has_momentum(params.optimizer.name):
            return f"{params.optimizer.name} has no momentum"
        return None


def _parse_space(space: Mapping[str, Any]) -> tuple[tuple[Dimension, ...], list[tuple[tuple[str, ...], str]]]:
    dimensions: list[Dimension] = []
    wrong: list[tuple[tuple[str, ...], str]] = []

    def visit(node: Any, path: tuple[str, ...]) -> None:
        field = _field_at(path) if path else None
        if path and field is None:
            siblings = list(_subfields(_model_at(path[:-1])))
            wrong.append((path, f"unknown key{_nearest(path[-1], siblings)}"))
        elif field is not None and _section_class(field) is None:
            problem, dimension = _dimension(path, field, node)
            if problem:
                wrong.append((path, problem))
            elif dimension is not None:
                dimensions.append(dimension)
        elif not isinstance(node, Mapping):
            wrong.append((path, "must be a mapping that mirrors the parameter tree"))
        else:
            for key, value in node.items():
                visit(value, (*path, str(key)))

    visit(space, ())
    return tuple(sorted(dimensions, key=lambda d: (d.path[-1] != "name", d.path))), wrong


def _dimension(path: tuple[str, ...], field: FieldInfo, node: Any) -> tuple[str | None, Dimension | None]:
    """The dimension that `node` describes, or what is wrong with it."""
    reason = _extra(field).get("unsearchable") or (
        f"{path[0]} is not used by the model" if path[0] in ("search", "evaluate", "tracking") else None
    )
    if reason:
        return f"cannot be searched: {reason}", None
    if isinstance(node, Mapping) and set(node) == {"choices"}:
        values = node["choices"]
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            return "choices must be a list of at least one value", None
        for value in values:
            if not _accepts(field, value):
                return f"choice {_show(value)} is not allowed; must be {_describe(field)}", None
        return None, Dimension(path=path, choices=tuple(values))
    numeric = {int, float} & _allowed_types(field)
    if not numeric:
        return f"must be `choices:` with a list of values; the key itself must be {_describe(field)}", None
    if not isinstance(node, Mapping) or not {"low", "high"} <= set(node) <= {"low", "high", "log"}:
        return "must be `low`, `high` and optionally `log`, or `choices`", None
    low, high, log = node["low"], node["high"], node.get("log", False)
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not _accepts(field, value):
            return f"{name}: {_show(value)} is not allowed; the key must be {_describe(field)}", None
    if not isinstance(log, bool):
        return f"log: {_show(log)} must be true or false", None
    if low >= high:
        return f"empty range: low {low} is not below high {high}", None
    if log and low <= 0:
        return f"low: {low} must be above 0 on a logarithmic scale", None
    return None, Dimension(path=path, low=low, high=high, log=log)


# --- reading ----------------------------------------------------------------------------------------------------------


def load(path: Path = paths.PARAMS) -> Params:
    """Read and validate params.yaml.

    Raises Mistake with every mistake of the file: unknown and missing keys, wrong types, values out of range,
    duplicate keys, and a search space that does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Mistake(f"{path}: not found; run this in the project's folder") from None
    except UnicodeDecodeError as error:
        raise Mistake(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    raw, lines, duplicates = _parse_yaml(text, str(path))
    return _validated(raw, lines, str(path), duplicates)


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping, as plain containers (best.yaml, model.yaml)."""
    raw, _, duplicates = _parse_yaml(path.read_text(encoding="utf-8"), str(path))
    if duplicates:
        raise Mistake(*duplicates)
    return raw


def _parse_yaml(text: str, file: str) -> tuple[dict[str, Any], dict[tuple[str, ...], int], list[str]]:
    """The document, the line of every key path, and what is said twice."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.nodes import MappingNode

    lines: dict[tuple[str, ...], int] = {}
    duplicates: list[str] = []

    def visit(node: Any, path: tuple[str, ...]) -> None:
        if isinstance(node, MappingNode):
            for key, value in node.value:
                place = (*path, str(key.value))
                line = key.start_mark.line + 1
                if place in lines:
                    duplicates.append(
                        f"{file}:{line}: {'.'.join(place)}: duplicate key; it is set at line {lines[place]} already"
                    )
                lines.setdefault(place, line)
                visit(value, place)

    reader = YAML(typ="safe", pure=True)
    reader.allow_duplicate_keys = True
    try:
        visit(YAML(typ="safe", pure=True).compose(text), ())
        raw = reader.load(text)
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Mistake(f"{file}{line}: not YAML: {error.problem}; mend the line or the one before it") from None
    except YAMLError as error:
        raise Mistake(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise Mistake(f"{file}: must be a mapping of sections, is {'empty' if raw is None else type(raw).__name__}")
    return raw, lines, duplicates


def _validated(
    raw: Mapping[str, Any], lines: Mapping[tuple[str, ...], int], file: str, duplicates: Sequence[str] = ()
) -> Params:
    found: list[tuple[int, str]] = [(0, line) for line in duplicates]

    def say(path: tuple[str, ...], text: str) -> None:
        line = next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), 0)
        found.append((line, f"{file}{f':{line}' if line else ''}: {'.'.join(path)}: {text}"))

    params = None
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        for problem in error.errors():
            path = tuple(str(part) for part in problem["loc"])
            say(path, _explain(problem["type"], path, problem["input"], problem["msg"]))
    search = raw.get("search")
    space = search.get("space") if isinstance(search, Mapping) else None
    if isinstance(space, Mapping):
        for path, text in _parse_space(space)[1]:
            say(("search", "space", *path), text)
    if found or params is None:
        raise Mistake(*(text for _, text in sorted(found, key=lambda item: item[0])))
    return params


def _explain(kind: str, path: tuple[str, ...], value: Any, message: str) -> str:
    if kind == "extra_forbidden":
        return f"unknown key{_nearest(path[-1], list(_subfields(_model_at(path[:-1]))))}"
    field = _field_at(path)
    if kind == "missing":
        return f"missing; every value is explicit, add it ({_describe(field)})"
    if field is None or kind in ("chosen_family", "momentum", "path", "fractions"):
        return message
    hint = _nearest(value, _choices(field)) if isinstance(value, str) else ""
    return f"{_show(value)} is not allowed; must be {_describe(field)}{hint}"


# --- looking into the tree --------------------------------------------------------------------------------------------


def families(section: type[BaseModel]) -> dict[str, type[Settings]]:
    """The families of a section in which `name` switches; empty for other sections."""
    found = {name: _section_class(field) for name, field in section.model_fields.items() if name != "name"}
    return {name: cast(type[Settings], model) for name, model in found.items() if model is not None}


def leaves(model: type[BaseModel] = Params, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every key of the tree that holds a value, with its field."""
    for name, field in model.model_fields.items():
        inner = _section_class(field)
        if inner is None:
            yield (*path, name), field
        else:
            yield from leaves(inner, (*path, name))


def is_operational(field: FieldInfo) -> bool:
    return bool(_extra(field).get("operational"))


def _flat(node: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node:
        if isinstance(value, BaseModel):
            if not (isinstance(node, Choice) and name != node.name):
                yield from _flat(value, f"{prefix}{name}.")
        elif value is not None or not isinstance(node, Choice) or name not in families(type(node)):
            yield f"{prefix}{name}", value


def _extra(field: FieldInfo) -> dict[str, Any]:
    return cast(dict[str, Any], field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


def _options(field: FieldInfo) -> tuple[Any, ...]:
    """A field's alternatives: (float, None) for `float | None`."""
    annotation = field.annotation
    if get_origin(annotation) is Literal or not get_args(annotation) or get_origin(annotation) is dict:
        return (annotation,)
    return get_args(annotation)


def _section_class(field: FieldInfo) -> type[BaseModel] | None:
    return next((o for o in _options(field) if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _allowed_types(field: FieldInfo | None) -> set[Any]:
    return {option for option in _options(field) if isinstance(option, type)} if field is not None else set()


def _choices(field: FieldInfo) -> list[Any]:
    return [value for option in _options(field) if get_origin(option) is Literal for value in get_args(option)]


def _model_at(path: tuple[str, ...]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Params
    for key in path:
        field = model.model_fields.get(key) if model is not None else None
        model = _section_class(field) if field is not None else None
    return model


def _subfields(model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    return model.model_fields if model is not None else {}


def _field_at(path: tuple[str, ...]) -> FieldInfo | None:
    return _subfields(_model_at(path[:-1])).get(path[-1]) if path else None


def _accepts(field: FieldInfo, value: Any) -> bool:
    try:
        TypeAdapter(field.rebuild_annotation()).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _describe(field: FieldInfo | None) -> str:
    """The allowed values in words: "a number above 0 and at most 1000", "one of digits, folder"."""
    if field is None:
        return "a value"
    section = _section_class(field)
    if section is not None:
        return f"a mapping with the keys {', '.join(section.model_fields) or '(none): {}'}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
    bounds = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = [
        f"{word} {getattr(constraint, name)}"
        for constraint in field.metadata
        for name, word in bounds.items()
        if hasattr(constraint, name)
    ]
    said = []
    for option in _options(field):
        if get_origin(option) is Literal:
            said.append(f"one of {', '.join(map(str, get_args(option)))}")
        elif option is type(None):
            said.append("null")
        else:
            said.append(words.get(get_origin(option) or option, str(option)) + " " * bool(limits) + " and ".join(limits))
    return " or ".join(said)


def _nearest(name: Any, known: Sequence[Any]) -> str:
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known here: {', '.join(map(str, known))}" if known else ""


def _show(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return result


def json_schema() -> str:
    """The schema by which editors complete params.yaml; kept in docs/params.schema.json."""
    return json.dumps(Params.model_json_schema(), indent=1) + "\n"
