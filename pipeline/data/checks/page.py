"""A page of pictures that shows what the checks found."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks.findings import KINDS, Finding
from pipeline.pictures import Exhibit, exhibition

_MOST_A_KIND = 24  # pictures or pairs

Pixels = Callable[[Sequence[int]], NDArray[np.uint8]]  # images by number: (n, H, W, C)


def page(leaking: Sequence[Finding], findings: Sequence[Finding], names: Sequence[str], pixels: Pixels) -> bytes:
    """A PNG; leaking: pairs across splits, which come first. Of many findings of a kind, some, evenly chosen."""
    sections = [("In two splits: tested or chosen on, and trained on", leaking)]
    sections += [(title, [one for one in findings if one.kind == kind]) for kind, title in KINDS.items()]
    shown = []
    for title, found in sections:
        if not found:
            continue
        chosen = [
            found[i] for i in np.unique(np.linspace(0, len(found) - 1, min(len(found), _MOST_A_KIND)).astype(int))
        ]
        more = f": {len(found)}" if len(found) == len(chosen) else f": {len(found)}, of which {len(chosen)}"
        shown.append((title + more, [_exhibit(finding, names, pixels) for finding in chosen]))
    return exhibition(shown or [("Nothing found: no copies, no conflicts, no blank or odd images.", [])])


def _exhibit(finding: Finding, names: Sequence[str], pixels: Pixels) -> Exhibit:
    numbers = [finding.image] if finding.other is None else [finding.image, finding.other]
    score = "" if finding.similarity is None else f"similarity {finding.similarity:.2f}"
    about = ", ".join(part for part in (score, finding.detail) if part)
    return Exhibit(pixels(numbers), (*(names[number] for number in numbers), about))
