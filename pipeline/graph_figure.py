"""A computational graph, drawn node by node: values and tangents on the way forwards, adjoints on the way back."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.gradients.graph import Node
from pipeline.canvas import DARK, LIGHT, new_figure, own_style, png_of

if TYPE_CHECKING:
    from matplotlib.patches import FancyBboxPatch

_ACROSS, _DOWN = 3.3, 1.9  # inches between columns and between rows
_WIDTH, _LINE, _EDGE = 2.1, 0.21, 0.3  # of a node's box, of a line of text in it, around all, in inches


@own_style()
def computational_graph(nodes: Sequence[Node], *, dark: bool = False) -> bytes:
    """Every node as a box, its parents to the left of it; the derivative by the parent stands at each arrow.

    nodes: as `models.gradients.graph.worked` gives them, parents first.
    """
    theme = DARK if dark else LIGHT
    inputs = [node.name for node in nodes if not node.parents]
    places = _places(nodes)
    height = _LINE * (3 + len(inputs)) + 0.12
    right = max(x for x, _ in places.values()) + _WIDTH / 2 + _EDGE
    left = -_WIDTH / 2 - _EDGE
    low = min(y for _, y in places.values()) - height / 2 - _EDGE
    high = max(y for _, y in places.values()) + height / 2 + _EDGE
    figure = new_figure(right - left, high - low, theme)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    for node in nodes:
        for partial, parent in zip(node.partials, node.parents, strict=True):
            start = (places[parent][0] + _WIDTH / 2, places[parent][1])
            end = (places[node.name][0] - _WIDTH / 2, places[node.name][1])
            axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": theme.ink, "linewidth": 1.2})
            x, y = (0.28 * a + 0.72 * b for a, b in zip(start, end, strict=True))  # beyond where arrows cross
            axes.text(
                x, y, f"{partial:.4g}", ha="center", va="center", fontsize=9, color=theme.ink,
                bbox={"boxstyle": "round,pad=0.2", "facecolor": theme.background, "edgecolor": "none"},
            )  # fmt: skip
    for node in nodes:
        x, y = places[node.name]
        title = node.formula if node.formula == node.name else f"{node.name} = {node.formula}"
        lines = [(title, theme.ink, "bold"), (f"value {node.value:.4g}", theme.ink, "normal")]
        lines += [(f"tangent by {name}: {node.tangents[name]:.4g}", theme.lines[0], "normal") for name in inputs]
        lines += [(f"adjoint {node.adjoint:.4g}", theme.wrong, "normal")]
        axes.add_patch(_box(x, y, height, theme.background, theme.ink))
        for number, (text, colour, weight) in enumerate(lines):
            above = height / 2 - 0.06 - _LINE * (number + 0.5)
            axes.text(x, y + above, text, ha="center", va="center", fontsize=10, color=colour, fontweight=weight)
    return png_of(figure)


def _box(x: float, y: float, height: float, inside: str, edge: str) -> "FancyBboxPatch":
    from matplotlib.patches import FancyBboxPatch

    corner = (x - _WIDTH / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.08"
    return FancyBboxPatch(corner, _WIDTH, height, boxstyle=style, facecolor=inside, edgecolor=edge, linewidth=1.2)


def _places(nodes: Sequence[Node]) -> dict[str, tuple[float, float]]:
    """The middle of each node's box: a column right of all its parents', nodes of a column one above the other."""
    column: dict[str, int] = {}
    for node in nodes:
        column[node.name] = max((column[parent] + 1 for parent in node.parents), default=0)
    columns: dict[int, list[str]] = {}
    for name, number in column.items():
        columns.setdefault(number, []).append(name)
    return {
        name: (number * _ACROSS, (len(names) - 1 - 2 * row) * _DOWN / 2)
        for number, names in columns.items()
        for row, name in enumerate(names)
    }
