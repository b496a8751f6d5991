"""A page of pictures that shows what the checks found."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks.findings import KINDS, NOTHING, Finding
from pipeline.pictures import Exhibit, exhibition, spread

_MOST_A_KIND = 24  # pictures or pairs

Pixels = Callable[[Sequence[int]], NDArray[np.uint8]]  # images by number: (n, H, W, C)


def page(
    leaking: Sequence[Finding],
    leaks: int,
    findings: Sequence[Finding],
    names: Sequence[str],
    pixels: Pixels,
    otherwise: str = NOTHING,
) -> bytes:
    """A PNG. leaking: some of the `leaks` pairs across splits, which come first. Of many findings of a kind, some,
    evenly chosen. names has one entry an image. otherwise: what the page says where there are none."""
    sections = [("In two splits: tested or chosen on, and trained on", list(leaking), leaks)]
    for kind, title in KINDS.items():
        found = [finding for finding in findings if finding.kind == kind]
        chosen = spread(len(found), _MOST_A_KIND).tolist()
        sections.append((title, [found[place] for place in chosen], len(found)))
    drawn = [
        (
            f"{title}: {count}" + (f", of which {len(chosen)}" if len(chosen) < count else ""),
            [_exhibit(finding, names, pixels) for finding in chosen],
        )
        for title, chosen, count in sections
        if chosen
    ]
    return exhibition(drawn or [(otherwise, [])])


def _exhibit(finding: Finding, names: Sequence[str], pixels: Pixels) -> Exhibit:
    numbers = [finding.image] if finding.other is None else [finding.image, finding.other]
    score = "" if finding.similarity is None else f"similarity {finding.similarity:.2f}"
    about = ", ".join(part for part in (score, finding.detail) if part)
    return Exhibit(pixels(numbers), (*(names[number] for number in numbers), about))
