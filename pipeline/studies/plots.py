"""What the pictures of studies share: panels with quiet frames, colours that the colour-blind tell apart."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.canvas import LIGHT, new_figure, own_style, png_of, quiet_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008, Color Universal Design, without its yellow, which is too light for a line
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2530", "#8a8f98")
PASTEL = ("#cfe3f2", "#f7dcc8", "#cdeadf", "#f2dfea", "#faecc9")  # grounds of decision regions

__all__ = ["COLOURS", "LIGHT", "Series", "bars", "canvas", "legend", "lines", "own_style", "png_of", "regions"]

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # name -> x, y


def canvas(rows: int, columns: int, width: float = 4.2, height: float = 3.4, **named: Any) -> "tuple[Figure, Any]":
    """A figure with rows x columns axes of this size in inches; the axes as an array of that shape."""
    figure = new_figure(width * columns, height * rows, LIGHT)
    grid = figure.subplots(rows, columns, squeeze=False, **named)
    for axes in grid.flat:
        quiet_frame(axes, LIGHT)
        axes.grid(color=LIGHT.faint, linewidth=0.5)
        axes.set_axisbelow(True)
    return figure, grid


def titled(axes: "Axes", title: str, x: str = "", y: str = "") -> None:
    axes.set_title(title, color=LIGHT.ink, fontsize=10.5, loc="left", fontweight="bold")
    axes.set_xlabel(x, color=LIGHT.ink)
    axes.set_ylabel(y, color=LIGHT.ink)


def legend(axes: "Axes", **named: Any) -> None:
    axes.legend(frameon=False, labelcolor=LIGHT.ink, fontsize=8.5, **named)


def lines(axes: "Axes", series: Series, colours: Sequence[str] = COLOURS, **named: Any) -> None:
    """A line a series; what is not finite leaves a gap."""
    for index, (name, (x, y)) in enumerate(series.items()):
        values = np.asarray(y, dtype=float)
        shown = np.where(np.isfinite(values), values, np.nan)
        axes.plot(x, shown, color=colours[index % len(colours)], label=name, linewidth=1.7, **named)


@own_style()
def curves(
    title: str,
    x: str,
    y: str,
    series: Series,
    *,
    log: str = "",
    limits: tuple[float, float] | None = None,
    marker: str | None = "o",
    ticks: Sequence[float] | None = None,
) -> bytes:
    """One panel of lines. log: which axes are logarithmic, of "xy"; limits: of y; ticks: of x."""
    figure, grid = canvas(1, 1, 6.4, 4.2)
    axes = grid[0, 0]
    lines(axes, series, marker=marker, markersize=3)
    titled(axes, title, x, y)
    if "x" in log:
        axes.set_xscale("log")
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
    if ticks is not None:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    if "y" in log:
        axes.set_yscale("log")
    if limits is not None:
        axes.set_ylim(*limits)
    legend(axes)
    return png_of(figure)


@own_style()
def bars(
    title: str, x: str, groups: Mapping[str, Sequence[float]], *, scale: float = 100.0, start: float | None = None
) -> bytes:
    """A row a setting: every repetition as a dot, their mean as a stroke. Values are shown times `scale`."""
    figure, grid = canvas(1, 1, 6.4, 1.1 + 0.38 * len(groups))
    dots(grid[0, 0], groups, scale)
    titled(grid[0, 0], title, x)
    if start is not None:
        grid[0, 0].set_xlim(left=start)
    return png_of(figure)


def dots(axes: "Axes", groups: Mapping[str, Sequence[float]], scale: float = 1.0) -> None:
    """See `bars`."""
    for row, (_, values) in enumerate(groups.items()):
        shown = scale * np.asarray(values, dtype=float)
        colour = COLOURS[row % len(COLOURS)]
        axes.plot(shown, np.full(len(shown), row), "o", color=colour, alpha=0.45, markersize=6, markeredgewidth=0)
        axes.plot([shown.mean()] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2.4)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def regions(
    axes: "Axes",
    predicted: NDArray[np.int64],
    points: NDArray[np.float64],
    labels: NDArray[np.int64],
    reach: float = 1.0,
) -> None:
    """Decision regions: classes predicted on a square grid (rows from y = -reach upwards), and points (N, 2) on it."""
    from matplotlib.colors import to_rgb

    ground = np.array([to_rgb(colour) for colour in PASTEL])[predicted % len(PASTEL)]
    axes.imshow(ground, origin="lower", extent=(-reach, reach, -reach, reach), interpolation="nearest", aspect="equal")
    for label in np.unique(labels):
        mine = points[labels == label]
        axes.plot(mine[:, 0], mine[:, 1], "o", color=COLOURS[label % len(COLOURS)], markersize=2.2, markeredgewidth=0)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
