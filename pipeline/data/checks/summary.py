"""What the checks found, as numbers for `dvc metrics`, as a table, and as a sentence for the terminal."""

import csv
import io
from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipeline.data.checks.descriptor import unpack
from pipeline.data.checks.findings import KINDS, Examined, Finding
from pipeline.data.checks.leaks import Leaks

_COLUMNS = ("kind", "image", "split", "other", "other_split", "similarity", "detail")


def numbers(examined: Examined, findings: Sequence[Finding], leaks: Leaks) -> dict[str, object]:
    """Nested counts and statistics, without a list; empty where nothing was looked for."""
    if examined.descriptors is None:
        return {}
    count = Counter(finding.kind for finding in findings)
    facts: dict[str, object] = {
        "found": {kind.replace(" ", "_"): count[kind] for kind in KINDS},
        "leaks": {
            "test_exact": int(leaks.tested_exact.sum()),
            "test_near": int(leaks.tested_near.sum()),
            "validation_exact": int(leaks.chosen_exact.sum()),
            "validation_near": int(leaks.chosen_near.sum()),
        },
    }
    if examined.searched:
        facts["near_threshold"] = round(examined.near.threshold, 4)
    described = unpack(examined.descriptors)
    if len(described.brightness):
        brightness = described.brightness.astype(np.float64)
        facts["brightness"] = {
            "mean": round(float(brightness.mean()), 2),
            "std_between_images": round(float(brightness.std()), 2),
            "darkest": int(brightness.min()),
            "brightest": int(brightness.max()),
            "mean_contrast": round(float(described.contrast.mean()), 2),
        }
        facts["size"] = {
            side: {"least": int(of.min()), "median": float(np.median(of)), "most": int(of.max())}
            for side, of in zip(("height", "width"), examined.sizes.T, strict=True)
        }
    return facts


def table(findings: Sequence[Finding], names: Sequence[str], splits: Sequence[str]) -> str:
    """CSV, one finding a line; names (printable) and splits have one entry an image."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for finding in findings:
        other = ("", "") if finding.other is None else (names[finding.other], splits[finding.other])
        similarity = "" if finding.similarity is None else f"{finding.similarity:.4f}"
        writer.writerow((finding.kind, names[finding.image], splits[finding.image], *other, similarity, finding.detail))
    return stream.getvalue()


def sentence(examined: Examined, findings: Sequence[Finding], leaks: Leaks, tested: int, validated: int) -> str:
    """What matters most, first; tested, validated: how many images these splits have."""
    if examined.descriptors is None:
        return examined.in_general[0].lower() + examined.in_general[1:].removesuffix(".")
    count = Counter(finding.kind for finding in findings)
    copies = "copies" if examined.searched else "exact copies (images under 16 pixels are not compared further)"
    parts = []
    if test := int(leaks.tested.sum()):
        exact = int(leaks.tested_exact.sum())
        parts.append(f"{test} of {tested} test images have a copy in train or validation ({exact} exact)")
    if chosen := int(leaks.chosen.sum()):
        parts.append(f"{chosen} of {validated} validation images have one in train")
    if not parts:
        parts.append(f"no {copies} across splits")
    conflicts = count.pop("label conflict", 0)
    if conflicts:
        parts.append(f"{conflicts} pair{'s' * (conflicts != 1)} of copies under two labels")
    rest = [f"{count[kind]} {_plural(kind, count[kind])}" for kind in KINDS if count[kind]]
    return "; ".join([*parts, *([", ".join(rest)] if rest else [])])


def _plural(kind: str, count: int) -> str:
    if count == 1 or kind in ("blank", "tiny", "huge"):
        return kind
    return kind.replace("copy", "copies").replace("shape", "shapes")
