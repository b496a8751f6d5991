"""What a search may vary: `search.space`, read into dimensions and held against the tree that it mirrors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from models import catalogue
from pipeline.params import fields
from pipeline.params.augmentation import MIXING
from pipeline.params.fields import Path

if TYPE_CHECKING:
    from pipeline.params.tree import Params


_OF_SLOPES = {("optimizer", "lr"), ("train", "clip_norm"), ("train", "accumulate_batches")}  # and the whole schedule


class Dimension(BaseModel, frozen=True):
    """One key the search may vary: a range, or a list of choices."""

    path: tuple[str, ...]
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None
    integral: bool = False  # whether a range's values are whole numbers

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def meaning_in(self, params: "Params") -> str | None:
        """None where this key has a meaning for what is chosen; otherwise why it has none."""
        if self.path[0] == "augment" and params.augment.copies > 0 and self.path[1] not in MIXING:
            return "augment.copies are made before the search starts"
        if params.model.settings.memorises and self.path[0] != "model":
            return f"{params.model.name} memorises raw pixels: only model.{params.model.name} has a meaning for it"
        section = getattr(params, self.path[0])
        if self.path[1] in fields.families(type(section)) and self.path[1] != section.chosen:
            return f"{self.path[0]}.{section.switch} is {section.chosen}"
        if self.path[:2] == ("model", "init_from") and params.model.init_from.weights is None:
            return "model.init_from.weights is null"
        of_slopes = self.path in _OF_SLOPES or self.path[0] == "schedule"
        if of_slopes and not params.optimizer.settings.follows_the_slope:
            return f"{params.optimizer.name} follows no slope"
        if self.path == ("train", "accumulate_batches") and params.train.batch_size is None:
            return "train.batch_size: null makes one batch an epoch"
        if self.path == ("regularization", "dropout") and not params.model.settings.drops_out:
            return f"{params.model.name} has no hidden activations"
        if self.path == ("regularization", "elastic_net_beta") and params.regularization.elastic_net == 0:
            searched = any(dimension.name == "regularization.elastic_net" for dimension in params.space)
            return None if searched else "regularization.elastic_net is 0"
        if self.path == ("optimizer", "momentum") and not has_momentum(params.optimizer.name):
            return f"{params.optimizer.name} has no momentum"
        return None


def has_momentum(optimizer: str) -> bool:
    """Whether `optimizer.momentum` has a meaning for this optimizer."""
    return catalogue.OPTIMIZERS[optimizer].own_momentum is not None


def parse(root: type[BaseModel], space: Mapping[Any, Any]) -> tuple[tuple[Dimension, ...], list[tuple[Path, str]]]:
    """The dimensions, sorted by path; and (path, what is wrong) for every mistake."""
    dimensions: list[Dimension] = []
    wrong: list[tuple[Path, str]] = []

    def visit(node: Any, path: Path) -> None:
        field = fields.field_at(root, path)
        if path and field is None:
            siblings = list(fields.subfields(fields.model_at(root, path[:-1])))
            wrong.append((path, f"unknown key{fields.nearest(path[-1], siblings)}"))
        elif field is not None and fields.section_class(field) is None:
            found = _dimension(path, field, node)
            if isinstance(found, Dimension):
                dimensions.append(found)
            else:
                wrong.append((path, found))
        elif not isinstance(node, Mapping):
            wrong.append((path, "must be a mapping that mirrors the parameter tree"))
        else:
            for key, value in node.items():
                visit(value, (*path, str(key)))

    visit(space, ())
    return tuple(sorted(dimensions, key=lambda dimension: dimension.path)), wrong


def _dimension(path: Path, field: FieldInfo, node: Any) -> Dimension | str:
    """The dimension that `node` describes, or what is wrong with it."""
    reason = fields.extra(field).get("unsearchable") or (
        f"{path[0]} is not used by the model" if path[0] in ("search", "evaluate", "tracking") else None
    )
    if reason:
        return f"cannot be searched: {reason}"
    if isinstance(node, Mapping) and set(node) == {"choices"}:
        values = node["choices"]
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            return "choices must be a list of at least one value"
        for position, value in enumerate(values):
            if not fields.accepts(field, value):
                return f"choice {fields.show(value)} is not allowed; must be {fields.describe(field)}"
            if value in values[:position]:
                return f"choice {fields.show(value)} stands twice; name each once"
        return Dimension(path=path, choices=tuple(values))
    numeric = {int, float} & fields.allowed_types(field)
    if not numeric:
        return f"must be `choices:` with a list of values; the key itself must be {fields.describe(field)}"
    if not isinstance(node, Mapping) or not {"low", "high"} <= set(node) <= {"low", "high", "log"}:
        return "must be `low`, `high` and optionally `log`, or `choices`"
    low, high, log = node["low"], node["high"], node.get("log", False)
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not fields.accepts(field, value):
            return f"{name}: {fields.show(value)} is not allowed; the key must be {fields.describe(field)}"
    if not isinstance(log, bool):
        return f"log: {fields.show(log)} must be true or false"
    if low >= high:
        return f"empty range: low {low} is not below high {high}"
    if log and low <= 0:
        return f"low: {low} must be above 0 on a logarithmic scale"
    return Dimension(path=path, low=low, high=high, log=log, integral=int in numeric)
