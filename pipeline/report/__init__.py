"""report.html: one self-contained page, for a phone or a desk, light or dark, online or not.

Everything in it comes through `Common` and what extends it; the pages are templates beside this file: what all have is
in base.html.jinja, a classifier's page is report.html.jinja, another task's has the task's name. Class names and paths
are other people's text: the template escapes all of it, and the page's own policy forbids scripts and any request.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import pictures
from pipeline.data.text import shown
from pipeline.metrics import Evaluation
from pipeline.pictures import Mistaken
from pipeline.training.parameters import Searched


@dataclass(frozen=True)
class Picture:
    """A PNG, and another for dark pages where there is one."""

    light: bytes
    dark: bytes | None = None


@dataclass(frozen=True)
class LayerPicture:
    """The weights that see the images: "templates" or "filters"."""

    kind: str
    picture: Picture


@dataclass(frozen=True)
class ClassCount:
    """Images of one class in each split."""

    name: str
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class LeftOut:
    """A file that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True)
class AveragedOver:
    """The views of each image that the page's predictions are averaged over, and what is said of the images alone."""

    name: str
    views: int
    plain_test: Any  # of the same kind as the page's `test` and `validation`
    plain_validation: Any


@dataclass(frozen=True)
class Common:
    """What every page shows."""

    model: str
    source: str
    learning_curves: Picture | None  # None: nothing was learned
    searched: Sequence[Searched]
    parameters: Sequence[tuple[str, Any]]  # key and value, those in force
    left_out: Sequence[LeftOut]
    contact_sheet: Picture
    first_layer: LayerPicture | None = field(default=None, kw_only=True)
    neighbours: Picture | None = field(default=None, kw_only=True)  # of some validation images, where a model has them


@dataclass(frozen=True)
class Content(Common):
    """All that the page of a classifier shows."""

    test: Evaluation
    validation: Evaluation
    confusion: Picture
    mistakes: Sequence[Mistaken]
    counts: Sequence[ClassCount]
    averaged: AveragedOver | None = None


def render(content: Content, template: str = "report.html.jinja", **more: Any) -> str:
    """The page of a classifier, or of what extends its page, as HTML."""
    return page(
        template,
        content=content,
        rows=_class_rows(content.test),
        mistaken=[(mistake, pictures.small_png(mistake.image)) for mistake in content.mistakes],
        wrong=content.test.images - content.test.correct,
        **more,
    )


def page(template: str, *, content: Common, **more: Any) -> str:
    """A page as HTML: one of the templates beside this file, and what it shows."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, figure=_figure, value=_value, uri=_data_uri, share=pictures.percent)
    unchanged = all(item.before == item.chosen for item in content.searched)
    return environment.get_template(template).render(content=content, unchanged=unchanged, **more) + "\n"


@dataclass(frozen=True)
class _ClassRow:
    number: int
    name: str
    support: int
    precision: float
    recall: float
    f1: float
    most_often: str  # what its images were mistaken for most often
    most_often_count: int


def _class_rows(evaluation: Evaluation) -> list[_ClassRow]:
    errors = evaluation.confusion * (1 - np.eye(len(evaluation.classes), dtype=np.int64))
    return [
        _ClassRow(
            number=number,
            name=name,
            support=int(evaluation.support[number]),
            precision=float(evaluation.precision[number]),
            recall=float(evaluation.recall[number]),
            f1=float(evaluation.f1[number]),
            most_often=evaluation.classes[int(errors[number].argmax())],
            most_often_count=int(errors[number].max()),
        )
        for number, name in enumerate(evaluation.classes)
    ]


def _visible(text: Any) -> Any:
    """A name's control characters and undecodable bytes, as escapes: they would vanish or break the page."""
    if type(text) is not str or text.isprintable():
        return text  # the template's own line breaks come as Markup, which is not touched
    return shown(text)


def _percent(share: float) -> str:
    """Two decimals, and 100 only where nothing is missing."""
    text = f"{100 * share:.2f}"
    return "99.99 %" if text == "100.00" and share < 1 else f"{text} %"


def _figure(number: float) -> str:
    return f"{number:.4g}"


def _value(value: Any) -> str:
    """A parameter as it would stand in params.yaml, floats to six digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
