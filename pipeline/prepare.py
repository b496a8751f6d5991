"""The stage `prepare`: decodes every listed image once, splits them, and packs each split into arrays with an index.

What cannot be read is quarantined: left out, and named with the reason in report.json.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import paths, stage
from pipeline.data import listing as listings
from pipeline.data import store
from pipeline.data.checks.page import page
from pipeline.data.checks.summary import table
from pipeline.data.packing.decoding import Packed, pack
from pipeline.data.raw.base import SPLITS, TEST
from pipeline.data.sources import open_source
from pipeline.data.splits.arrangement import (
    PLACES,
    Checked,
    Prepared,
    arrange,
    check,
    in_folds,
    settle,
    split_table,
)
from pipeline.data.splits.overview import class_counts, remarks, report, sheet
from pipeline.data.text import shown
from pipeline.errors import Mistake
from pipeline.machine import memory_bytes
from pipeline.params import Params
from pipeline.tracking import open_run

_NAMED_BAD_FILES = 10


def _write(folder: Path, test_folder: Path, packed: Packed, prepared: Prepared, facts: object) -> None:
    listing = prepared.listing
    for split in SPLITS:
        chosen = prepared.of(split)
        rows = prepared.rows[chosen]
        items = [listing.items[row] for row in rows.tolist()]
        store.write_split(
            test_folder if split == TEST else folder / split,
            packed.images,
            labels=prepared.labels[chosen],
            paths=[shown(item.path) for item in items],
            classes=listing.classes,
            sha256=[item.sha256 or "" for item in items],
            rows=rows,
            targets=np.array([item.target for item in items]) if listing.targets else None,
            boxes=None if packed.boxes is None else packed.boxes[rows],
        )
    _write_names(folder / store.CLASSES, listing.classes)
    if listing.targets:
        _write_names(folder / f"{store.TARGETS}.json", listing.targets)
    (folder / "report.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (folder / "class_counts.csv").write_text(class_counts(prepared), encoding="utf-8")
    (folder / "contact_sheet.png").write_bytes(sheet(packed, prepared))


def _write_names(file: Path, names: Sequence[str]) -> None:
    file.write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")


def _write_checks(folder: Path, images: store.Rows, prepared: Prepared, checked: Checked) -> None:
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
    source = open_source(params.data.source, params.data.path, paths.root(), params.data.settings.model_dump())
    pixel_bytes = len(listing.items) * size * size * channels
    pictures = params.data.settings.pictures  # of vectors of numbers JPEG would make others
    encoded = pixel_bytes > params.data.max_packed_bytes and pictures
    kept = ", kept as JPEG" if encoded else ""
    print(f"prepare: {len(listing.items)} files to {size} x {size} x {channels}{kept}", flush=True)
    with (
        open_run(
            "prepare", params, inputs=[paths.SOURCE], outputs=[paths.PREPARED, paths.TEST, paths.SPLITS]
        ) as tracked,
        paths.replacing(paths.PREPARED, paths.TEST) as (folder, test_folder),
    ):
        # beside the run's own state: a killed run goes on from there
        packed = pack(listing, source, tracked.work.folder / "images", size, channels, encoded=encoded)
        if packed.changed:
            changed = [shown(listing.items[index].path) for index in packed.changed[:_NAMED_BAD_FILES]]
            raise Mistake(*(f"{source.place}: {name}: changed since it was listed; run again" for name in changed))
        prepared = arrange(listing, packed.bad, params)
        if pictures:
            print("prepare: looking for copies", flush=True)  # the longest part where all images look alike
        checked = check(prepared, packed.descriptors if pictures else None, packed.sizes, size)
        prepared = in_folds(settle(prepared, checked, params.data.on_leak), params.data.folds, params.seed)
        facts = report(prepared, checked, size, channels)
        _write(folder, test_folder, packed, prepared, facts)
        _write_checks(folder, packed.images, prepared, checked)
        tracked.log_metrics(dict(_metrics(prepared)), step=0)
        for name in ("report.json", "class_counts.csv", "contact_sheet.png", "checks.png", "findings.csv"):
            tracked.log_artifact(folder / name)
        paths.write_atomically(paths.SPLITS, split_table(prepared).encode("utf-8"))
    parts = ", ".join(f"{sum(prepared.counts(split))} {split}" for split in SPLITS)
    print(f"prepare: {parts}; {len(prepared.quarantined)} quarantined (data/prepared/report.json)")
    for line in remarks(prepared, checked):
        print(f"prepare: {line}")
    if not encoded and pixel_bytes > memory_bytes():
        print(
            f"prepare: the pixels take {pixel_bytes / 1e9:.1f} GB, more than this machine's memory"
            f" ({memory_bytes() / 1e9:.1f} GB), so training waits for the disk; with a lower data.max_packed_bytes"
            " images are kept as JPEG"
        )


def _metrics(prepared: Prepared) -> Iterator[tuple[str, float]]:
    for split in SPLITS:
        yield f"images/{split}", float(len(prepared.of(split)))
    yield "files/quarantined", float(len(prepared.quarantined))
    yield "files/ignored", float(len(prepared.listing.ignored))


if __name__ == "__main__":
    sys.exit(stage.main(run))
