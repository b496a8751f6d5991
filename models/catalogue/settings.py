"""What one key of params.yaml is: its type, its bounds, and whether and where a search may vary it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """One mapping of params.yaml: frozen, every key required, none unknown, no value silently converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


def setting(
    description: str,
    *,
    search: tuple[float, float] | tuple[float, float, str] | None = None,
    operational: bool = False,
    unsearchable: str | None = None,
    **bounds: Any,
) -> Any:
    """A key of params.yaml.

    search: the range that is sensible to search, (low, high) or (low, high, "log").
    operational: changes how work is done but no result, so it makes no output stale.
    unsearchable: why no search may vary it.
    bounds: pydantic's ge, gt, le, lt.
    """
    extra: dict[str, Any] = {}
    if operational:
        extra["operational"] = True
    if unsearchable is not None:
        extra["unsearchable"] = unsearchable
    if search is not None:
        extra["search"] = {"low": search[0], "high": search[1], "log": len(search) == 3}
    return Field(description=description, json_schema_extra=extra, **bounds)
