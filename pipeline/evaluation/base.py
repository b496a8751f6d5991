"""What the tasks' evaluations have in common."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import Split
from pipeline.data.views import Averaged
from pipeline.report import Common

if TYPE_CHECKING:
    import pyarrow as pa

    from models.build import Predictor


T = TypeVar("T")


class Judged(Protocol):
    """What is to be said of the answers to one split's images."""

    def summary(self) -> dict[str, float]:
        """The headline figures, by the names they have in metrics.json and MLflow."""
        ...

    def details(self) -> dict[str, Any]:
        """What metrics.json has besides, by name; nested."""
        ...

    @property
    def told(self) -> str:
        """The headline figures in words."""
        ...

    @property
    def briefly(self) -> str:
        """The first of them."""
        ...


@dataclass(frozen=True)
class Subject:
    """What was evaluated on what."""

    model: "Predictor"
    train: Split
    validation: Split
    test: Split
    test_paths: Sequence[str]  # where each test image came from
    mistakes: int  # how many pictures of the worst are wanted
    views: Averaged  # of each image, which `test_tta` and `validation_tta` are averaged over


@dataclass(frozen=True)
class Kind:
    """One task's way to judge a model and to write what comes of it."""

    judge: "Callable[[NDArray[np.float32], Split, Predictor], Any]"  # from answers (N, any); raises ValueError
    # Into a folder: tables, pictures and the page, from evaluations by name: test, validation, and where answers are
    # averaged over views test_tta, validation_tta.
    write: "Callable[[Path, Common, Subject, Mapping[str, Any]], None]"


def asked_for(splits: Mapping[str, T]) -> tuple[T, T]:
    """Of test and validation what all but the plain figures shows: averaged over views, where that was asked for."""
    return splits.get("test_tta", splits["test"]), splits.get("validation_tta", splits["validation"])


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def write_plots(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """PNGs by name, in a folder of their own: `dvc plots` shows whatever a task has there."""
    (folder / "plots").mkdir()
    for name, png in pictures.items():
        (folder / "plots" / f"{name}.png").write_bytes(png)


def lists(values: NDArray[Any]) -> "pa.ListArray":
    """Rows (N, K) as a Parquet column of lists."""
    import pyarrow as pa

    count, width = values.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(width))
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(values).reshape(-1)))


def write_parquet(path: Path, columns: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> None:
    """A table of columns; `names` are kept as JSON lists in the file's metadata."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = {key: json.dumps(list(value), ensure_ascii=False) for key, value in names.items()}
    pq.write_table(pa.table(dict(columns)).replace_schema_metadata(metadata), path)
