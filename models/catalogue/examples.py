"""Values for a family's keys, from what its entry says of them: for checks that run over the whole catalogue."""

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from models.catalogue.settings import Settings

S = TypeVar("S", bound=Settings)


def example(family: type[S]) -> S:
    """A value for every key: the middle of the range worth searching (on its scale), else one within the bounds; of
    choices the first, of what may be left out the value.

    Raises TypeError for a key of which its entry says too little; it then needs its case here.
    """
    return family(**{name: _value(family, name, field) for name, field in family.model_fields.items()})


def variants(settings: S) -> Iterator[tuple[str, S]]:
    """These settings with each other choice among names, or yes for no, one at a time: ("activation=tanh", ...)."""
    for name, field in type(settings).model_fields.items():
        present = getattr(settings, name)
        for choice in _choices(field.annotation):
            if isinstance(choice, str | bool) and choice != present:
                yield f"{name}={_shown(choice)}", settings.model_copy(update={name: choice})


def neutral(family: type[S]) -> S:
    """Every key at what switches it off: null where it may be left out, no, or zero; one that cannot be off as in
    `example`."""
    return family(**{name: _off(family, name, field) for name, field in family.model_fields.items()})


def _choices(annotation: Any) -> tuple[Any, ...]:
    if annotation is bool:
        return (False, True)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The types of a key that may have several: `float | None` to (float, NoneType)."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _value(family: type[Settings], name: str, field: FieldInfo) -> Any:
    kind = next(kind for kind in _kinds(field.annotation) if kind is not NoneType)
    if _choices(kind):
        return _choices(kind)[0]
    if isinstance(kind, type) and issubclass(kind, Settings):
        return example(kind)
    if kind not in (int, float):
        raise TypeError(f"{family.__name__}.{name}: no example is known for {kind}; add its case to {__name__}")
    extra = field.json_schema_extra
    searched = extra.get("search") if isinstance(extra, dict) else None
    if isinstance(searched, dict):
        least, most = float(str(searched["low"])), float(str(searched["high"]))
        return kind((least * most) ** 0.5 if searched["log"] else (least + most) / 2)
    low, high = _bounds(field)
    if low is not None:
        return kind(low + 1 if high is None else (low + high) / 2)
    return kind(1 if high is None else high - 1)


def _off(family: type[Settings], name: str, field: FieldInfo) -> Any:
    kinds = _kinds(field.annotation)
    if NoneType in kinds:
        return None
    if isinstance(kinds[0], type) and issubclass(kinds[0], Settings):
        return neutral(kinds[0])
    if kinds[0] is bool:
        return False
    if kinds[0] in (int, float) and not any(getattr(bound, "gt", -1) >= 0 for bound in field.metadata):
        return kinds[0](max(0, _bounds(field)[0] or 0))
    return _value(family, name, field)


def _bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """The lowest and the highest number that a key takes, in or out."""
    low: Any = None
    high: Any = None
    for bound in field.metadata:
        low = getattr(bound, "ge", getattr(bound, "gt", low))
        high = getattr(bound, "le", getattr(bound, "lt", high))
    return low, high


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
