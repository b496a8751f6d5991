"""By how much two files of one kind differ, as numbers: weights, arrays, tables, JSON and YAML.

The size of a difference is |a - b| / max(1, |a|), with a the recorded value: absolute for small values, relative for
large ones. What is no number and is not equal differs by infinity.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

DRAWINGS = (".png", ".svg", ".html", ".jpg", ".gif", ".pdf")  # drawn from numbers that other files hold
_ROWS = 4096  # of an array that are compared at a time
_ABSENT = "(absent)"


@dataclass(frozen=True)
class Difference:
    """One place where two results are not equal."""

    where: str
    recorded: str
    reproduced: str
    size: float  # infinity where there is no number to take


def size(recorded: float, reproduced: float) -> float:
    """How far two numbers are from each other; 0 for two NaN."""
    if recorded == reproduced or (math.isnan(recorded) and math.isnan(reproduced)):
        return 0.0
    distance = abs(recorded - reproduced) / max(1.0, abs(recorded))
    return math.inf if math.isnan(distance) else distance


def largest(recorded: Path, reproduced: Path, name: str) -> Difference | None:
    """The largest difference between two files that are not byte-equal; None where their numbers are all equal.

    name: what the file is called in the answer. Files that cannot be read, or of no known kind, differ by infinity.
    """
    read = _READERS.get(Path(name).suffix)
    if read is None:
        return Difference(name, "other bytes", "other bytes", math.inf)
    try:
        found = list(read(recorded, reproduced))
    except Exception as error:  # of whichever library reads the kind: the content is of a server or a cache
        return Difference(name, "unreadable", f"{type(error).__name__}: {error}"[:200], math.inf)
    if not found:
        return None
    first = max(found, key=lambda difference: difference.size)
    return Difference(f"{name}, {first.where}" if first.where else name, first.recorded, first.reproduced, first.size)


def of_values(recorded: Any, reproduced: Any, where: str = "") -> Iterator[Difference]:
    """Every place where two trees of mappings, lists, numbers and texts differ."""
    if isinstance(recorded, Mapping) and isinstance(reproduced, Mapping):
        for key in [*recorded, *(key for key in reproduced if key not in recorded)]:
            below = f"{where}.{key}" if where else str(key)
            yield from of_values(recorded.get(key, _ABSENT), reproduced.get(key, _ABSENT), below)
    elif _is_list(recorded) and _is_list(reproduced):
        for index, (one, other) in enumerate(zip_longest(recorded, reproduced, fillvalue=_ABSENT)):
            yield from of_values(one, other, f"{where}[{index}]")
    elif _is_number(recorded) and _is_number(reproduced):
        distance = size(float(recorded), float(reproduced))
        if distance:
            yield Difference(where, repr(recorded), repr(reproduced), distance)
    elif recorded != reproduced:
        yield Difference(where, repr(recorded)[:100], repr(reproduced)[:100], math.inf)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- one kind of file each --------------------------------------------------------------------------------------------


def _json(recorded: Path, reproduced: Path) -> Iterator[Difference]:
    yield from of_values(json.loads(recorded.read_bytes()), json.loads(reproduced.read_bytes()))


def _yaml(recorded: Path, reproduced: Path) -> Iterator[Difference]:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    yield from of_values(yaml.load(recorded.read_bytes()), yaml.load(reproduced.read_bytes()))


def _csv(recorded: Path, reproduced: Path) -> Iterator[Difference]:
    yield from of_values(_rows(recorded), _rows(reproduced))


def _rows(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(stream)]


def _number(text: Any) -> Any:
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def _parquet(recorded: Path, reproduced: Path) -> Iterator[Difference]:
    import pyarrow.parquet as pq

    one, other = pq.read_table(recorded), pq.read_table(reproduced)
    for name in dict.fromkeys([*one.column_names, *other.column_names]):
        before, now = (
            table.column(name).to_pylist() if name in table.column_names else _ABSENT for table in (one, other)
        )
        yield from of_values(before, now, name)


def _array(recorded: Path, reproduced: Path) -> Iterator[Difference]:
    import numpy as np

    one, other = (np.load(file, mmap_mode="r", allow_pickle=False) for file in (recorded, reproduced))
    if one.shape != other.shape or one.ndim == 0:
        yield from of_values(list(one.shape), list(other.shape), "shape")
        return
    for first in range(0, len(one), _ROWS):
        yield from _of_arrays(one[first : first + _ROWS], other[first : first + _ROWS], f"rows from {first}")


def _weights(recorded: Path, reproduced: Path) -> Iterator[Difference]:
    from safetensors.torch import load_file

    one, other = load_file(recorded), load_file(reproduced)
    for name in dict.fromkeys([*one, *other]):
        if name not in one or name not in other or one[name].shape != other[name].shape:
            before, now = (str(tuple(file[name].shape)) if name in file else _ABSENT for file in (one, other))
            yield Difference(f"tensor {name}, shape", before, now, math.inf)
        else:  # float64 holds every value of the types that weights come in; numpy has no bfloat16
            yield from _of_arrays(one[name].double().numpy(), other[name].double().numpy(), f"tensor {name}")


def _of_arrays(one: Any, other: Any, where: str) -> Iterator[Difference]:
    """The largest difference of two arrays of one shape."""
    import numpy as np

    if one.dtype.kind not in "fiub" or other.dtype.kind not in "fiub":
        if not np.array_equal(one, other):
            yield Difference(where, str(one.dtype), str(other.dtype), math.inf)
        return
    a, b = np.asarray(one, np.float64).reshape(-1), np.asarray(other, np.float64).reshape(-1)
    with np.errstate(invalid="ignore"):
        distances = np.abs(a - b) / np.maximum(1.0, np.abs(a))
    distances[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    distances[np.isnan(distances)] = math.inf
    if distances.size and distances.max() > 0:
        place = int(distances.argmax())
        index = tuple(map(int, np.unravel_index(place, one.shape)))
        yield Difference(f"{where} at {index}", repr(float(a[place])), repr(float(b[place])), float(distances[place]))


_READERS: dict[str, Callable[[Path, Path], Iterator[Difference]]] = {
    ".json": _json,
    ".yaml": _yaml,
    ".csv": _csv,
    ".parquet": _parquet,
    ".npy": _array,
    ".safetensors": _weights,
}
