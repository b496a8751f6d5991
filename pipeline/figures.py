"""The pictures of a model, as PNG bytes: equal input gives equal bytes. `dark` draws for a dark page."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.catalogue import FIGURES
from pipeline.canvas import DARK, LIGHT, new_figure, own_style, png_of, quiet_frame

_LONGEST_NAME = 22  # characters of a class name on an axis
_LARGEST_WITH_NUMBERS = 30  # classes up to which every cell says its count
_LARGEST_WITH_NAMES = 300  # and up to which every row has a name; of more, the picture grows no further


# --- confusion matrix -------------------------------------------------------------------------------------------------


@own_style()
def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str], *, dark: bool = False) -> bytes:
    """A confusion matrix, counts of shape (K, K), rows actual and columns predicted.

    Blue, on the diagonal: the share of the row that was recognised. Red: the mistakes, on a scale of their own that
    ends at the largest share of any, because beside the diagonal they would all look like nothing.
    """
    theme = DARK if dark else LIGHT
    names = labels(classes)
    size = len(names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    largest_mistake = float(np.max(shares * (1 - np.eye(size)), initial=0.0))
    # Every name must be legible: 7 points a row for many classes, more room for a few.
    inches = max(4.0, 0.46 * size) if size <= _LARGEST_WITH_NUMBERS else 0.115 * min(size, _LARGEST_WITH_NAMES) + 0.6
    points = 10.0 if size <= 12 else 8.0 if size <= _LARGEST_WITH_NUMBERS else 6.5
    margin = 0.5 + 0.0085 * points * max(map(len, names))  # inches that the names take
    figure = new_figure(inches + margin, inches + margin, theme)
    axes = figure.add_subplot()
    colours = np.empty((size, size, 3))
    diagonal = np.eye(size, dtype=bool)
    colours[diagonal] = _ramp(theme.background, theme.right, shares[diagonal])
    # A square root lifts the single mistakes, which are most of them, off the ground.
    colours[~diagonal] = _ramp(theme.background, theme.wrong, np.sqrt(shares[~diagonal] / (largest_mistake or 1.0)))
    axes.imshow(colours, interpolation="nearest")
    upright = size <= 12 and max(map(len, names)) <= 4
    named = range(size) if size <= _LARGEST_WITH_NAMES else range(0)
    axes.set_xticks(named, names[: len(named)], rotation=0 if upright else 90, fontsize=points)
    axes.set_yticks(named, names[: len(named)], fontsize=points)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)  # a class may be called $x$
    axes.set_xlabel("predicted", color=theme.ink, fontsize=points + 1)
    axes.set_ylabel("actual", color=theme.ink, fontsize=points + 1)
    quiet_frame(axes, theme)
    if named:
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=theme.faint, linewidth=0.5 if size <= _LARGEST_WITH_NUMBERS else 0.25)
    axes.tick_params(which="both", length=0)
    if size <= _LARGEST_WITH_NUMBERS:
        for row, column in zip(*np.nonzero(counts), strict=True):
            bright = colours[row, column] @ (0.2126, 0.7152, 0.0722) > 0.5
            axes.text(
                column, row, str(counts[row, column]), ha="center", va="center", fontsize=points,
                color="#101418" if bright else "#ffffff",
            )  # fmt: skip
    return png_of(figure)


def _ramp(low: str, high: str, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours between two, shape (..., 3); a share above nothing is never invisible."""
    from matplotlib.colors import to_rgb

    start, end = np.array(to_rgb(low)), np.array(to_rgb(high))
    strength = np.where(shares > 0, 0.12 + 0.88 * shares, 0.0)[..., None]
    return np.asarray(start + strength * (end - start))


def labels(classes: Sequence[str]) -> list[str]:
    """Names as DejaVu Sans can show them: cut when long, by number (from 0) when the font lacks a character."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties(family=["DejaVu Sans"]))).get_charmap()
    result = []
    for number, name in enumerate(classes):
        writable = name.isprintable() and all(ord(character) in known for character in name)
        cut = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
        result.append(cut if writable else f"class {number}")
    return result


# --- learning curves --------------------------------------------------------------------------------------------------


def _panels(columns: Iterable[str]) -> list[tuple[str, str, str | None]]:
    """Title and columns of each panel. Raises ValueError where columns are missing."""
    names = set(columns)
    figures = [(f.title, f"train_{f.name}", f"val_{f.name}") for f in FIGURES.values()]
    chosen = next((panel for panel in figures if names.issuperset(panel[1:])), figures[0])
    panels = [("loss", "train_loss", "val_loss"), chosen, ("learning rate", "lr", None)]
    needed = {"epoch", "step", *(name for _, *of in panels for name in of if name)}
    if not needed <= names:
        raise ValueError(f"needs the columns {', '.join(sorted(needed))} and at least one row")
    return panels


def read_learning_curves(path: Path) -> dict[str, list[float]]:
    """The columns of a learning_curves.csv; an empty cell is NaN.

    Raises ValueError for a file that is not one.
    """
    import csv

    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    _panels(rows[0] if rows else ())
    return {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}


@own_style()
def learning_curves(history: Mapping[str, Sequence[float]], *, dark: bool = False) -> bytes:
    """Loss, the task's figure and learning rate by epoch, one panel above the other.

    history: the equally long columns of learning_curves.csv; NaN leaves a gap.
    """
    theme = DARK if dark else LIGHT
    figure = new_figure(5.0, 5.6, theme)
    panels = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 3, 1.3]})
    epochs = np.asarray(history["epoch"], dtype=float)
    for axes, (title, train, validation) in zip(panels, _panels(history), strict=True):
        for name, column, colour in zip(("training", "validation"), (train, validation), theme.lines, strict=True):
            if column is not None:
                values = np.asarray(history[column], dtype=float)
                marker = "o" if len(epochs) <= 40 else None
                # An infinite loss has no place on an axis.
                shown = np.where(np.isfinite(values), values, np.nan)
                axes.plot(epochs, shown, color=colour, label=name, marker=marker, markersize=3, linewidth=1.6)
        axes.set_ylabel(title, color=theme.ink)
        axes.grid(color=theme.faint, linewidth=0.6)
        axes.margins(x=0.02)
        quiet_frame(axes, theme)
    panels[0].legend(frameon=False, labelcolor=theme.ink)
    panels[-1].set_xlabel("epoch", color=theme.ink)
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.align_ylabels()
    return png_of(figure)


# --- numbers predicted ------------------------------------------------------------------------------------------------

_MOST_PANELS = 12  # targets that are drawn; a table has them all
_MOST_POINTS = 3000


@own_style()
def predicted_against_true(
    targets: NDArray[np.float64], predicted: NDArray[np.float64], names: Sequence[str], *, dark: bool = False
) -> bytes:
    """A panel for each of the first targets, (N, T) both: true across, predicted upright, the line where both agree."""
    theme = DARK if dark else LIGHT
    shown = min(len(names), _MOST_PANELS)
    columns = min(shown, 3)
    lines = -(-shown // columns)
    figure = new_figure(max(4.0, 2.7 * columns), max(3.6, 2.7 * lines), theme)
    rows = np.unique(np.linspace(0, len(targets) - 1, min(len(targets), _MOST_POINTS)).astype(np.int64))
    grid = figure.subplots(lines, columns, squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number >= shown:
            axes.set_visible(False)
            continue
        across, upright = targets[rows, number], predicted[rows, number]
        ends = [min(across.min(), upright.min()), max(across.max(), upright.max())]
        axes.plot(ends, ends, color=theme.wrong, linewidth=1.2, zorder=1)
        axes.scatter(across, upright, s=5, color=theme.right, alpha=0.45, linewidths=0, zorder=2)
        axes.set_title(labels(names)[number], color=theme.ink, fontsize=10).set_parse_math(False)
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(color=theme.faint, linewidth=0.5)
        axes.tick_params(labelsize=8)
        quiet_frame(axes, theme)
    figure.supxlabel("true", color=theme.ink, fontsize=11)
    figure.supylabel("predicted", color=theme.ink, fontsize=11)
    return png_of(figure)


@own_style()
def error_histogram(errors: NDArray[np.float64], *, dark: bool = False) -> bytes:
    """How many images have which error (N,), with the mean and the median marked."""
    theme = DARK if dark else LIGHT
    figure = new_figure(5.0, 3.4, theme)
    axes = figure.add_subplot()
    axes.hist(errors, bins=min(40, max(5, len(errors) // 10)), color=theme.right, edgecolor=theme.background)
    for value, style, name in ((errors.mean(), "-", "mean"), (float(np.median(errors)), "--", "median")):
        axes.axvline(value, color=theme.wrong, linewidth=1.4, linestyle=style, label=f"{name} {value:.4g}")
    axes.legend(frameon=False, labelcolor=theme.ink)
    axes.set_xlabel("mean absolute error of an image", color=theme.ink)
    axes.set_ylabel("test images", color=theme.ink)
    axes.grid(color=theme.faint, linewidth=0.6, axis="y")
    axes.set_axisbelow(True)
    quiet_frame(axes, theme)
    return png_of(figure)
