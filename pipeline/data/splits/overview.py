"""What prepare says and shows of a set: the report, the sheet of pictures, the remarks."""

import csv
import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks.summary import numbers, sentence
from pipeline.data.packing.decoding import Packed
from pipeline.data.raw.base import SPLITS, TEST, TRAIN, VALIDATION
from pipeline.data.splits.arrangement import DROPPED, Checked, Prepared, groups_cut
from pipeline.data.text import shown
from pipeline.pictures import OUTLINE, contact_sheet, spread
from pipeline.plane import are_points

_SHEET_CLASSES = 40
_SHEET_IMAGES = 12
_SHEET_POINTS = 500  # of the plane, where images are that
_LINES_A_SIDE = 64  # how thick a box's edge is drawn: the images' side over this


def report(prepared: Prepared, checked: Checked, image_size: int, channels: int) -> dict[str, object]:
    """What `dvc metrics` shows (the numbers) and what a person wants to know besides (the lists)."""
    classes = prepared.listing.classes
    counts = {split: prepared.counts(split) for split in SPLITS}
    dropped = np.flatnonzero(prepared.splits == DROPPED).tolist()
    examined = checked.examined
    return {
        "images": {split: sum(counts[split]) for split in SPLITS},
        "files": {
            "listed": len(prepared.listing.items),
            "quarantined": len(prepared.quarantined),
            "ignored": len(prepared.listing.ignored),
        },
        "split": {
            "lent": len(prepared.lent),
            "dropped": int((prepared.splits == DROPPED).sum()),
            "groups_cut": groups_cut(prepared),
        },
        "checks": numbers(examined, checked.findings, checked.leaks),
        **({"unchecked": examined.in_general} if examined.descriptors is None else {}),
        "classes": len(classes),
        "imbalance": round(max(counts[TRAIN]) / max(1, min(counts[TRAIN])), 3),
        "image_size": image_size,
        "channels": channels,
        "strategy": prepared.strategy,
        "per_class": [
            {"class": label, **{split: counts[split][index] for split in SPLITS}} for index, label in enumerate(classes)
        ],
        "per_target": _ranges(prepared),
        "quarantined": [{"path": shown(path), "reason": why} for path, why in prepared.quarantined],
        "lent": [shown(prepared.images.names[index]) for index in prepared.lent],
        "dropped": [shown(prepared.images.names[index]) for index in dropped],
        "ignored": [{"path": shown(path), "reason": why} for path, why in prepared.listing.ignored],
    }


def sheet(packed: Packed, prepared: Prepared) -> bytes:
    """A PNG with some training images of each class; of many classes, some; with their boxes, where they have any.

    Of a set without classes, for each target some images from the lowest to the highest.
    """
    train = prepared.of(TRAIN)
    most = _SHEET_POINTS if are_points(packed.images) else _SHEET_IMAGES
    rows: list[tuple[str, NDArray[np.int64]]] = []
    if classes := prepared.listing.classes:
        for label in spread(len(classes), _SHEET_CLASSES).tolist():
            rows.append((classes[label], train[prepared.labels[train] == label][:most]))
    else:
        for name, values in zip(prepared.listing.targets, _targets(prepared, train).T, strict=True):
            ascending = np.argsort(values, kind="stable")[spread(len(values), _SHEET_IMAGES)]
            rows.append((f"{name}: {values.min():.4g} to {values.max():.4g}", train[ascending]))
    return contact_sheet([(caption, _pictures(packed, prepared.rows[members])) for caption, members in rows])


def _pictures(packed: Packed, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    pixels = np.array(packed.images[rows])
    return pixels if packed.boxes is None else outlined(pixels, packed.boxes[rows])


def outlined(images: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Images (B, H, W, C) in colour, with the edges of their boxes (B, 4) drawn."""
    height, width, channels = images.shape[1:]
    result = np.repeat(images, 3, axis=3) if channels == 1 else images.copy()
    line = max(1, height // _LINES_A_SIDE)
    for image, box in zip(result, np.rint(boxes).astype(np.int64), strict=True):
        left, top, right, bottom = np.clip(box, 0, [width, height, width, height])
        inside = image[top + line : bottom - line, left + line : right - line].copy()
        image[top:bottom, left:right] = OUTLINE
        image[top + line : bottom - line, left + line : right - line] = inside
    return result


def _targets(prepared: Prepared, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """The numbers to predict of some of the readable images: (n, T)."""
    items = prepared.listing.items
    return np.array([items[row].target for row in prepared.rows[chosen].tolist()], dtype=np.float64)


def _ranges(prepared: Prepared) -> list[dict[str, object]]:
    """Of each target, what its training values are."""
    if not (names := prepared.listing.targets):
        return []
    values = _targets(prepared, prepared.of(TRAIN))
    columns = values.min(0), values.mean(0), values.std(0), values.max(0)
    return [
        {"target": name, "least": least, "mean": mean, "deviation": deviation, "most": most}
        for name, least, mean, deviation, most in zip(names, *(column.tolist() for column in columns), strict=True)
    ]


def class_counts(prepared: Prepared) -> str:
    """CSV for `dvc plots`: a line a class (one line in all, where there are none), a column a split."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["class", *SPLITS])
    columns = [prepared.counts(split) for split in SPLITS]
    writer.writerows(zip(prepared.listing.classes or ("all",), *columns, strict=True))
    return stream.getvalue()


def remarks(prepared: Prepared, checked: Checked) -> Iterator[str]:
    """What a person should know of the splits and the images, a line each."""
    if prepared.lent:
        yield (
            f"{len(prepared.lent)} images of small classes stand in another split than their hash says, so that each"
            " split has each class; as these classes grow, they may move back (report.json names them)"
        )
    if dropped := int((prepared.splits == DROPPED).sum()):
        yield f"{dropped} copies left out (data.on_leak: drop; data/splits.csv)"
    if cut := groups_cut(prepared):
        yield f"{cut} groups lie in several splits, which flatters the model; data.split: grouped keeps them whole"
    tested, validated = (len(prepared.of(split)) for split in (TEST, VALIDATION))
    yield f"{sentence(checked.examined, checked.findings, checked.leaks, tested, validated)} (data/prepared/checks.png)"
