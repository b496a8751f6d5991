"""The chain of `retrace trace` as a page: one column of cards, from the number down to the raw data, and at its side
the lines on which each output goes to those that read it. Complete in itself; light and dark; fit for a phone."""

import html
import textwrap
from collections.abc import Iterator, Sequence

from pipeline.commands import chain, text
from pipeline.tracking.store import Recorded

_WIDTH = 400
_CARD = 312  # width; what is right of it belongs to the lines
_LEFT = 4
_LINE = 17
_PAD = 10
_GAP = 16
_FIRST_LANE = _LEFT + _CARD + 14
_LONGEST = 44  # characters of a line in a card
_COLOURS = 7

_STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --text: #1d1f23; --faint: #62676f; --edge: #d6d8dc;
  --bad: #c4281c; --l0: #2f6fdb; --l1: #b8560f; --l2: #1c8a56; --l3: #9540bf; --l4: #b32c6b; --l5: #0d8390;
  --l6: #7a6a00; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --card: #1f2226; --text: #e8e9eb; --faint: #a0a5ad;
  --edge: #3a3e45; --bad: #ff7b6e; --l0: #7aa8ff; --l1: #f0a05c; --l2: #5cc994; --l3: #cf93f0; --l4: #f07fae;
  --l5: #55c6d2; --l6: #d0bd4a; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 20px 10px 40px; background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 560px; margin: 0 auto; }
h1 { font-size: 19px; margin: 0 4px 2px; overflow-wrap: anywhere; }
p { color: var(--faint); margin: 0 4px 14px; }
p.bad { color: var(--bad); overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; font-family: inherit; }
svg text { fill: var(--text); font-size: 12px; }
svg .faint { fill: var(--faint); }
svg .bad { fill: var(--bad); font-weight: 600; }
svg .stage { font-size: 14px; font-weight: 650; }
svg .code, code, td { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
svg .code { font-size: 11px; }
svg .card { fill: var(--card); stroke: var(--edge); }
svg .card.broken { stroke: var(--bad); stroke-width: 2; }
svg .way { fill: none; stroke-width: 2; }
details { margin: 10px 4px; border-top: 1px solid var(--edge); padding-top: 8px; }
summary { cursor: pointer; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; margin-top: 6px; }
td { font-size: 11px; padding: 2px 8px 2px 0; vertical-align: top; overflow-wrap: anywhere; color: var(--faint); }
td:first-child { color: var(--text); }
"""


def page(title: str, top: chain.Node, broken: Sequence[str]) -> str:
    """The whole page."""
    picture = _Picture(top)
    svg = "\n".join(picture.draw())
    warnings = "\n".join(f'<p class="bad">Broken: {html.escape(line)}</p>' for line in broken)
    details = "\n".join(_details(node) for node in chain.nodes(top))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body><main>
<h1>{html.escape(title)}</h1>
<p>Read downwards: each card was made from what it reads, found by the hash of its content.</p>
{warnings}
<svg viewBox="0 0 {_WIDTH} {picture.height}" role="img" aria-label="The runs that led here and what each has read">
{svg}
</svg>
{details}
</main></body>
</html>
"""


class _Picture:
    """Cards in one column; beside them a lane for each output."""

    def __init__(self, top: chain.Node) -> None:
        self._nodes = chain.nodes(top)
        self._lanes: dict[tuple[str, str], int] = {}  # (run id, path) -> lane
        for node in reversed(self._nodes):
            for link in node.links:
                if link.maker is not None:
                    self._lanes.setdefault((link.maker.run.run_id, link.path), len(self._lanes))
        self._from: dict[tuple[str, str], list[float]] = {}  # lane -> heights of those that read it
        self._to: dict[tuple[str, str], float] = {}  # lane -> height of what it brings
        self._parts: list[str] = []
        self.height = 4.0
        for node in self._nodes:
            self._card(node)
        raw = [link for node in self._nodes for link in node.links if link.is_raw]
        for link in {link.digest: link for link in raw}.values():
            self._raw(link)
        self.height = round(self.height)

    def draw(self) -> Iterator[str]:
        yield from (
            f'<marker id="a{n}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
            f' orient="auto-start-reverse" markerUnits="userSpaceOnUse">'
            f'<path d="M0 0L8 4L0 8z" style="fill:var(--l{n})"/></marker>'
            for n in range(_COLOURS)
        )
        yield from self._parts
        edge = _LEFT + _CARD
        for key, starts in self._from.items():
            end, lane = self._to[key], self._lanes[key]
            x, colour = _FIRST_LANE + 11 * (lane % 7), lane % _COLOURS
            top = min(starts)
            style = f'style="stroke:var(--l{colour})"'
            yield (
                f'<path class="way" {style} marker-end="url(#a{colour})"'
                f' d="M{edge} {top}H{x - 6}Q{x} {top} {x} {top + 6}V{end - 6}Q{x} {end} {x - 6} {end}H{edge + 2}"/>'
            )
            for start in starts:
                if start != top:
                    yield f'<path class="way" {style} d="M{edge} {start}H{x - 6}Q{x} {start} {x} {start + 6}"/>'
                yield f'<circle cx="{edge}" cy="{start}" r="3.5" style="fill:var(--l{colour})"/>'

    def _card(self, node: chain.Node) -> None:
        run = node.run
        card = _Card(self.height)
        card.row(run.stage, "stage", right=run.name)
        card.row(f"{run.status.lower()} · {text.when(run.started)[:-3]}", "faint", right=text.where(run))
        card.row(_commit(run), "faint")
        for line in (line for fact in node.facts for line in textwrap.wrap(fact, _LONGEST)):
            card.row(line)
        for path, digest in sorted(node.made.items()):
            self._to[run.run_id, path] = card.row(f"made {path}", "code", right=text.short(digest))
        for key in self._lanes:
            if key[0] == run.run_id:  # a search to whose trial this chain leads has made nothing that is named so
                self._to.setdefault(key, card.top + _LINE)
        for link in node.links:
            kind, mark = ("code bad", "✗ ") if link.problem else ("code", "")
            height = card.row(f"{mark}reads {link.path}", kind, right=text.short(link.digest))
            if link.maker is not None:
                self._from.setdefault((link.maker.run.run_id, link.path), []).append(height)
        self._add(card, is_broken=any(link.problem for link in node.links))

    def _raw(self, link: chain.Link) -> None:
        card = _Card(self.height)
        card.row("raw files", "stage", right=text.short(link.digest))
        card.row("hash of their listing: the chain ends here", "faint")
        self._add(card, is_broken=False)

    def _add(self, card: "_Card", is_broken: bool) -> None:
        self._parts.append(card.drawn("card broken" if is_broken else "card"))
        self.height = card.bottom + _GAP


class _Card:
    """Lines of text in a frame."""

    def __init__(self, top: float) -> None:
        self.top = top
        self._base = top + _PAD - 5  # of the last line
        self._rows: list[str] = []

    @property
    def bottom(self) -> float:
        return self._base + _PAD + 1

    def row(self, content: str, kind: str = "", right: str = "") -> float:
        """A line, with something at its right end; returns its middle."""
        self._base += _LINE
        room = _LONGEST - len(right) - 2 if right else _LONGEST
        shown = html.escape(_cut(content, room))
        title = f"<title>{html.escape(content)}</title>" if len(content) > room else ""
        self._rows.append(f'<text class="{kind}" x="{_LEFT + _PAD}" y="{self._base}">{title}{shown}</text>')
        if right:
            x = _LEFT + _CARD - _PAD
            self._rows.append(
                f'<text class="code faint" text-anchor="end" x="{x}" y="{self._base}">{html.escape(right)}</text>'
            )
        return self._base - 4

    def drawn(self, kind: str) -> str:
        height = self.bottom - self.top
        frame = f'<rect class="{kind}" x="{_LEFT}" y="{self.top}" width="{_CARD}" height="{height}" rx="9"/>'
        return "\n".join([frame, *self._rows])


def _commit(run: Recorded) -> str:
    found = run.tags.get("retrace.commit")
    if found is None:
        return "no commit"
    return f"commit {found[:10]}{' with uncommitted changes' if text.has_changes(run) else ''}"


def _cut(shown: str, length: int) -> str:
    """Cut in the middle: both ends of a path tell something."""
    if len(shown) <= length:
        return shown
    half = (length - 1) // 2
    return f"{shown[:half]}…{shown[len(shown) - half :]}"


def _details(node: chain.Node) -> str:
    """All hashes of a run, whole."""
    run = node.run
    names = ("commit", "dirty", "diff", "untracked", "fingerprint", "seed", "environment", "torch", "threads",
             "capability", "machine")  # fmt: skip
    rows = [("run id", run.run_id), ("key", run.tags.get("retrace.key", "-"))]
    rows += [(name, run.tags[f"retrace.{name}"]) for name in names if f"retrace.{name}" in run.tags]
    rows += [(f"made {path}", digest) for path, digest in sorted(node.made.items())]
    rows += [(f"read {link.path}", link.digest) for link in node.links if link.digest]
    rows += [(f"code {path}", digest) for path, digest in sorted(node.code.items())]
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows)
    summary = f"<summary>{html.escape(run.stage)} <code>{html.escape(run.name)}</code></summary>"
    return f"<details>{summary}<table>{cells}</table></details>"
