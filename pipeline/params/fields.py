"""Looking into a tree of pydantic sections: its keys, what each may hold, and that in words."""

import difflib
import functools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from models.catalogue import Settings

Path = tuple[str, ...]  # the keys that lead to a place in the tree: ("optimizer", "lr")


class Section(Settings):
    """A section of params.yaml whose keys must agree with one another."""

    @classmethod
    def disagreements(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """(key, what is wrong and its remedy) for each rule that is broken between keys.

        `values` holds only the keys that are valid by themselves: one wrong key hides no rule between others.
        """
        yield from ()

    @model_validator(mode="after")
    def _agrees(self) -> "Section":
        for key, text in self.disagreements(dict(self)):
            raise PydanticCustomError("disagreement", "{key}: {text}", {"key": key, "text": text})
        return self


class Switch(Section):
    """A section in which one key switches between families; each family's settings lie beside it, under its name."""

    switch: ClassVar[str]  # that key

    @property
    def chosen(self) -> str:
        """The chosen family's name."""
        return cast(str, getattr(self, self.switch))

    @property
    def settings(self) -> Any:
        """The chosen family's settings: an instance of its catalogue class."""
        return getattr(self, self.chosen)

    @classmethod
    def disagreements(cls, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        name = values.get(cls.switch)
        if name is not None and name in values and values[name] is None:
            keys = ", ".join(families(cls)[name].model_fields) or "{}"
            yield name, f"missing, but it is the chosen family; add `{name}:` with {keys}"


class Choice(Switch):
    """A section in which `name` switches between families."""

    switch: ClassVar[str] = "name"
    name: str


# --- keys -------------------------------------------------------------------------------------------------------------


def families(section: type[BaseModel]) -> dict[str, type[Settings]]:
    """The families of a section in which one key switches; empty for other sections."""
    if not issubclass(section, Switch):
        return {}
    named = choices(section.model_fields[section.switch])  # beside them may lie sections that all families share
    found = {name: section_class(section.model_fields[name]) for name in named}
    return {name: cast(type[Settings], model) for name, model in found.items() if model is not None}


def leaves(model: type[BaseModel], path: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Every key below `model` that holds a value, with its field."""
    for name, field in model.model_fields.items():
        inner = section_class(field)
        if inner is None:
            yield (*path, name), field
        else:
            yield from leaves(inner, (*path, name))


def flattened(tree: Mapping[str, Any], whole: Collection[str] = (), prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a mapping of mappings with its dotted path; those at `whole` as they are, mappings or not."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and path not in whole:
            yield from flattened(value, whole, f"{path}.")
        else:
            yield path, value


def section_class(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a key holds; None for a key that holds a value."""
    return next((o for o in _options(field) if isinstance(o, type) and issubclass(o, BaseModel)), None)


def model_at(root: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The section at `path` below `root`, if there is one."""
    model: type[BaseModel] | None = root
    for key in path:
        field = subfields(model).get(key)
        model = section_class(field) if field is not None else None
    return model


def field_at(root: type[BaseModel], path: Path) -> FieldInfo | None:
    """The key at `path` below `root`, if there is one."""
    return subfields(model_at(root, path[:-1])).get(path[-1]) if path else None


def subfields(model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    return dict(model.model_fields) if model is not None else {}


# --- what a key may hold ----------------------------------------------------------------------------------------------


def extra(field: FieldInfo) -> dict[str, Any]:
    """What catalogue.setting says of a key beyond its type and bounds: operational, unsearchable, search."""
    return cast(dict[str, Any], field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


def is_operational(field: FieldInfo) -> bool:
    """Whether a key changes how the work is done but no result."""
    return bool(extra(field).get("operational"))


def _options(field: FieldInfo) -> tuple[Any, ...]:
    """A field's alternatives: (float, None) for `float | None`."""
    annotation = field.annotation
    if get_origin(annotation) is Literal or not get_args(annotation) or get_origin(annotation) is dict:
        return (annotation,)
    return get_args(annotation)


def allowed_types(field: FieldInfo) -> set[type]:
    return {option for option in _options(field) if isinstance(option, type)}


def choices(field: FieldInfo) -> list[Any]:
    """The values of a key that names one of several."""
    return [value for option in _options(field) if get_origin(option) is Literal for value in get_args(option)]


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))


def accepts(field: FieldInfo, value: Any) -> bool:
    """Whether `value` alone is allowed at this key."""
    try:
        _adapter(field.rebuild_annotation()).validate_python(value)
    except ValidationError:
        return False
    return True


# --- in words ---------------------------------------------------------------------------------------------------------


def describe(field: FieldInfo | None) -> str:
    """The allowed values in words: "a number above 0 and at most 1000", "one of digits, folder"."""
    if field is None:
        return "a value"
    section = section_class(field)
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
    if any(hasattr(constraint, "min_length") for constraint in field.metadata):
        limits.append("that is not empty")
    said = []
    for option in _options(field):
        if get_origin(option) is Literal:
            said.append(f"one of {', '.join(map(str, get_args(option)))}")
        elif option is type(None):
            said.append("null")
        else:
            word = words.get(get_origin(option) or option, str(option))
            said.append(f"{word} {' and '.join(limits)}".rstrip())
    return " or ".join(said)


def nearest(name: Any, known: Sequence[Any], otherwise: str | None = None) -> str:
    """The end of a message: the known name that was probably meant, or else `otherwise` (all that are known)."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    if otherwise is not None:
        return otherwise
    return f"; known here: {', '.join(map(str, known))}" if known else ""


def show(value: Any) -> str:
    """A value as it stands in YAML, cut to a readable length."""
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):  # a YAML alias that contains itself; a key that JSON has not
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
