"""The stage `prepare`: decodes every listed image once, splits them, and packs each split into arrays with an index.

What cannot be read is quarantined: left out, and named with the reason in report.json.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import paths, stage
from pipeline.data import listing as listings
from pipeline.data import store
from pipeline.data.arrangement import (
    DROPPED,
    PLACES,
    Checked,
    Prepared,
    arrange,
    check,
    groups_cut,
    in_folds,
    settle,
    split_table,
)
from pipeline.data.checks.descriptor import describe
from pipeline.data.checks.page import page
from pipeline.data.checks.summary import numbers, sentence, table
from pipeline.data.decoding import Packed, pack
from pipeline.data.raw.base import SPLITS, TEST, TRAIN, VALIDATION
from pipeline.data.sources import open_source
from pipeline.data.text import shown
from pipeline.errors import Mistake
from pipeline.params import Params
from pipeline.pictures import contact_sheet, spread
from pipeline.plane import are_points
from pipeline.tracking import open_run

_NAMED_BAD_FILES = 10
_SHEET_CLASSES = 40
_SHEET_IMAGES = 12
_SHEET_POINTS = 500  # of the plane, where images are that


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
        "quarantined": [{"path": shown(path), "reason": why} for path, why in prepared.quarantined],
        "lent": [shown(prepared.images.names[index]) for index in prepared.lent],
        "dropped": [shown(prepared.images.names[index]) for index in dropped],
        "ignored": [{"path": shown(path), "reason": why} for path, why in prepared.listing.ignored],
    }


def sheet(images: NDArray[np.uint8], prepared: Prepared) -> bytes:
    """A PNG with some training images of each class; of many classes, some."""
    train = prepared.of(SPLITS[0])
    classes = prepared.listing.classes
    most = _SHEET_POINTS if are_points(images) else _SHEET_IMAGES
    rows = []
    for label in spread(len(classes), _SHEET_CLASSES).tolist():
        members = train[prepared.labels[train] == label][:most]
        rows.append((classes[label], np.asarray(images[prepared.rows[members]])))
    return contact_sheet(rows)


def class_counts(prepared: Prepared) -> str:
    """CSV for `dvc plots`: a line a class, a column a split."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["class", *SPLITS])
    columns = [prepared.counts(split) for split in SPLITS]
    writer.writerows(zip(prepared.listing.classes, *columns, strict=True))
    return stream.getvalue()


def _write(folder: Path, test_folder: Path, images: NDArray[np.uint8], prepared: Prepared, facts: object) -> None:
    for split in SPLITS:
        chosen = prepared.of(split)
        items = [prepared.listing.items[row] for row in prepared.rows[chosen].tolist()]
        store.write_split(
            test_folder if split == TEST else folder / split,
            images,
            labels=prepared.labels[chosen],
            paths=[shown(item.path) for item in items],
            classes=prepared.listing.classes,
            sha256=[item.sha256 or "" for item in items],
            rows=prepared.rows[chosen],
        )
    (folder / store.CLASSES).write_text(json.dumps(prepared.listing.classes, indent=1) + "\n", encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "class_counts.csv").write_text(class_counts(prepared), encoding="utf-8")
    (folder / "contact_sheet.png").write_bytes(sheet(images, prepared))


def described(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The descriptors of packed images (N, H, W, C), block by block."""
    step = store.rows_a_block(images.shape[1:])
    parts = [describe(np.asarray(images[start : start + step])) for start in range(0, len(images), step)]
    return np.concatenate(parts)


def _write_checks(folder: Path, images: NDArray[np.uint8], prepared: Prepared, checked: Checked) -> None:
    names = [shown(prepared.images.names[index]) for index in checked.order.tolist()]
    splits = [PLACES[place] for place in prepared.splits[checked.order].tolist()]
    (folder / "findings.csv").write_text(table(checked.findings, names, splits), encoding="utf-8")

    def pixels(chosen: Sequence[int]) -> NDArray[np.uint8]:
        return np.asarray(images[prepared.rows[checked.order[list(chosen)]]])

    places = [f"{split}: {name}" for name, split in zip(names, splits, strict=True)]
    otherwise = checked.examined.in_general
    drawn = page(checked.leaking, checked.leaks.total, checked.findings, places, pixels, otherwise)
    (folder / "checks.png").write_bytes(drawn)


def run(params: Params) -> None:
    listing = listings.read(paths.SOURCE)
    size, channels = params.data.resolved_image_size, params.data.resolved_channels
    if listing.source != params.data.source:
        raise Mistake(f"{paths.SOURCE}: lists {listing.source}, but data.source is {params.data.source}; `dvc repro`")
    store.require_classes(listing.classes)
    source = open_source(params.data.source, params.data.path, paths.root(), params.data.settings.model_dump())
    print(f"prepare: {len(listing.items)} files to {size} x {size} x {channels}", flush=True)
    with (
        open_run(
            "prepare", params, inputs=[paths.SOURCE], outputs=[paths.PREPARED, paths.TEST, paths.SPLITS]
        ) as tracked,
        paths.replacing(paths.PREPARED, paths.TEST) as (folder, test_folder),
    ):
        everything = folder / ".everything.npy"
        packed: Packed = pack(listing, source, everything, size, channels)
        if packed.changed:
            changed = [shown(listing.items[index].path) for index in packed.changed[:_NAMED_BAD_FILES]]
            raise Mistake(*(f"{source.place}: {name}: changed since it was listed; run again" for name in changed))
        prepared = arrange(listing, packed.bad, params)
        pictures = params.data.settings.pictures
        checked = check(prepared, described(packed.images) if pictures else None, packed.sizes, size)
        prepared = in_folds(settle(prepared, checked, params.data.on_leak), params.data.folds, params.seed)
        facts = report(prepared, checked, size, channels)
        _write(folder, test_folder, packed.images, prepared, facts)
        _write_checks(folder, packed.images, prepared, checked)
        everything.unlink()
        tracked.log_metrics(dict(_metrics(prepared)), step=0)
        for name in ("report.json", "class_counts.csv", "contact_sheet.png", "checks.png", "findings.csv"):
            tracked.log_artifact(folder / name)
        paths.write_atomically(paths.SPLITS, split_table(prepared).encode("utf-8"))
    parts = ", ".join(f"{sum(prepared.counts(split))} {split}" for split in SPLITS)
    print(f"prepare: {parts}; {len(prepared.quarantined)} quarantined (data/prepared/report.json)")
    for line in remarks(prepared, checked):
        print(f"prepare: {line}")


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


def _metrics(prepared: Prepared) -> Iterator[tuple[str, float]]:
    for split in SPLITS:
        yield f"images/{split}", float(len(prepared.of(split)))
    yield "files/quarantined", float(len(prepared.quarantined))
    yield "files/ignored", float(len(prepared.listing.ignored))


if __name__ == "__main__":
    sys.exit(stage.main(run))
