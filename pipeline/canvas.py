"""The canvas that every picture with axes is drawn on, and its colours.

A canvas of its own (no pyplot, no global state), in the one font that matplotlib brings along, so that a picture looks
the same on every machine.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    background: str
    ink: str
    faint: str
    right: str  # the ramp's end for what was recognised
    wrong: str  # and for what was mistaken
    lines: tuple[str, str]  # training, validation


LIGHT = Theme("#ffffff", "#1c2530", "#d5dbe1", "#1f6feb", "#c9342b", ("#1f6feb", "#d9730d"))
DARK = Theme("#161b22", "#e6edf3", "#343c46", "#4f94f5", "#e5534b", ("#5fa3ff", "#f0984a"))


@contextmanager
def own_style() -> Iterator[None]:
    """A user's matplotlibrc must not change the bytes. Used as a decorator."""
    import matplotlib

    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        yield


def new_figure(width: float, height: float, theme: Theme) -> "Figure":
    """An empty figure, in inches, with its own canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, facecolor=theme.background, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def quiet_frame(axes: "Axes", theme: Theme) -> None:
    axes.set_facecolor(theme.background)
    axes.tick_params(colors=theme.ink, which="both")
    for spine in axes.spines.values():
        spine.set_color(theme.faint)


def png_of(figure: "Figure") -> bytes:
    stream = io.BytesIO()
    # The version of matplotlib that drew it is not part of the picture.
    figure.savefig(stream, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()
