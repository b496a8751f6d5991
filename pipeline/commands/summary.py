"""`retrace summary`: the short table at the end of a run."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from pipeline import params, paths
from pipeline.errors import Mistake
from pipeline.lineage import dvc_files, reuse
from pipeline.training.parameters import FILE as TRAINED
from pipeline.training.parameters import read_training_parameters

_METRICS = paths.EVALUATION / "metrics.json"
_REPORT = paths.EVALUATION / "report.html"


def summary() -> int:
    """Print how good the model is, the searched values beside those of params.yaml, and where to look further.

    Raises Mistake where nothing has been evaluated yet, or the model has gone since.
    """
    from rich.console import Console
    from rich.table import Table

    reuse.look()
    metrics = read_metrics()
    if not TRAINED.is_file():  # DVC removes a stage's outputs before that stage runs: an older report may be there
        raise Mistake(
            f"{TRAINED}: not found: train has not finished; `dvc repro` makes it, then the report",
            f"{paths.EVALUATION}: still holds the results of the model before",
        )
    trained = read_training_parameters()
    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column("")
    table.add_column("validation", justify="right")
    table.add_column("test", justify="right")
    for name in (*_figures_in(metrics), "loss"):
        table.add_row(name, *(_figure(metrics, split, name) for split in ("validation", "test")))
    if "test_tta" in metrics:
        name = _figures_in(metrics)[0]
        averaged = (_figure(metrics, split, name) for split in ("validation_tta", "test_tta"))
        table.add_row(f"{name} over views", *averaged)
    searched = Table(title=None, show_edge=False, pad_edge=False)
    searched.add_column("searched")
    searched.add_column("params.yaml", justify="right")
    searched.add_column("found", justify="right")
    for item in trained.searched:
        searched.add_row(item.name, _shown(item.before), "=" if item.chosen == item.before else _shown(item.chosen))
    console = Console(file=sys.stdout, highlight=False)
    console.print()
    console.print(table)
    console.print()
    if trained.searched:
        console.print(searched)
        console.print()
    changed = _changed_since()
    if changed:
        print(f"params.yaml has changed since ({', '.join(changed)}): `dvc repro` makes these results anew\n")
    # Plain lines: a path must not be wrapped, or it cannot be copied.
    print(f"report:     {_REPORT.resolve()}")
    print("MLflow UI:  make ui")
    return 0


def _changed_since() -> list[str]:
    """What params.yaml says otherwise now than when the results in dvc.lock were made."""
    now = params.load().flat()
    return [
        f"{name} {_shown(value)} -> {_shown(now[name])}"
        for name, value in dvc_files.parameters_in_lock().items()
        if name in now and now[name] != value  # what is absent belongs to a family that rests now: its switch is told
    ]


def read_metrics() -> dict[str, Any]:
    """The content of metrics.json. Raises Mistake where there is none, or it is damaged."""
    try:
        content = json.loads(_METRICS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Mistake(f"{_METRICS}: not found; run `dvc repro` first (or `make repro`)") from None
    except ValueError as error:
        raise Mistake(f"{_METRICS}: not JSON ({error}); run `dvc repro evaluate` again") from None
    if not isinstance(content, dict):
        raise Mistake(f"{_METRICS}: not a mapping; run `dvc repro evaluate` again")
    return content


_SHOWN = ("localisation_accuracy", "mean_iou", "accuracy", "mae", "rmse", "r2")  # where there are such


def _figures_in(metrics: Mapping[str, Any]) -> list[str]:
    """The names of what is shown of a task, its own figure first."""
    test = metrics.get("test")
    return [name for name in _SHOWN if isinstance(test, Mapping) and name in test] or ["accuracy"]


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(metrics: Mapping[str, Any], split: str, name: str) -> str:
    section = metrics.get(split)
    value = section.get(name) if isinstance(section, Mapping) else None
    return f"{value:.4f}" if isinstance(value, int | float) else "-"
