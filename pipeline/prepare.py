"""The stage `prepare`: decodes every listed image once, splits them, and packs each split into arrays with an index.

What cannot be read is quarantined: left out, and named with the reason in report.json.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import paths, stage
from pipeline.data import listing as listings
from pipeline.data import store
from pipeline.data.decoding import Packed, pack
from pipeline.data.listing import Listing
from pipeline.data.raw.base import SPLITS, TEST
from pipeline.data.sources import open_source
from pipeline.data.split import Fractions, assign
from pipeline.data.text import shown
from pipeline.errors import Mistake
from pipeline.params import Params
from pipeline.pictures import contact_sheet
from pipeline.tracking import open_run

_NAMED_BAD_FILES = 10
_SHEET_CLASSES = 40
_SHEET_IMAGES = 12
_SHEET_POINTS = 500  # where an image is a point of the plane


@dataclass(frozen=True)
class Prepared:
    """Which of the listed images go where."""

    listing: Listing
    rows: NDArray[np.int64]  # of the readable images in the listing, and in the packed array
    splits: NDArray[np.int64]  # of each of those, as an index into SPLITS
    labels: NDArray[np.int64]  # of each of those, as an index into the classes
    quarantined: tuple[tuple[str, str], ...]  # path, why

    def of(self, split: str) -> NDArray[np.int64]:
        """Positions, among the readable images, of those in a split."""
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def counts(self, split: str) -> list[int]:
        """Images of each class in a split."""
        numbers: list[int] = np.bincount(self.labels[self.of(split)], minlength=len(self.listing.classes)).tolist()
        return numbers


def arrange(listing: Listing, bad: Sequence[tuple[int, str]], params: Params) -> Prepared:
    """Leave out the bad images and split the rest.

    bad: (place in the listing, why). Raises Mistake when they are more than data.max_bad_fraction, naming the first
    ten, or when a class has too few images left.
    """
    reasons = dict(bad)
    quarantined = tuple((listing.items[index].path, reasons[index]) for index in sorted(reasons))
    allowed = params.data.max_bad_fraction
    if len(bad) > allowed * len(listing.items):
        named = [f"{shown(path)}: {why}" for path, why in quarantined[:_NAMED_BAD_FILES]]
        if len(bad) > len(named):
            named.append(f"... and {len(bad) - len(named)} more")
        raise Mistake(
            f"{len(bad)} of {len(listing.items)} files cannot be read, more than data.max_bad_fraction ({allowed:g})"
            " allows; mend or remove them, or raise it:",
            *named,
        )
    rows = np.array([index for index in range(len(listing.items)) if index not in reasons], dtype=np.int64)
    items = [listing.items[index] for index in rows.tolist()]
    splits = assign(
        labels=[item.label for item in items],
        hashes=[item.sha256 or "" for item in items],
        names=[item.path for item in items],
        given=[item.split for item in items],
        fractions=Fractions(validation=params.data.validation_fraction, test=params.data.test_fraction),
        seed=params.seed,
        classes=listing.classes,
    )
    number = {label: index for index, label in enumerate(listing.classes)}
    labels = np.array([number[item.label] for item in items], dtype=np.int64)
    return Prepared(listing, rows, splits, labels, quarantined)


def report(prepared: Prepared, image_size: int, channels: int) -> dict[str, object]:
    """What `dvc metrics` shows (the numbers) and what a person wants to know besides (the lists)."""
    classes = prepared.listing.classes
    counts = {split: prepared.counts(split) for split in SPLITS}
    return {
        "images": {split: sum(counts[split]) for split in SPLITS},
        "files": {
            "listed": len(prepared.listing.items),
            "quarantined": len(prepared.quarantined),
            "ignored": len(prepared.listing.ignored),
        },
        "duplicates": _duplicates(prepared),
        "classes": len(classes),
        "image_size": image_size,
        "channels": channels,
        "per_class": [
            {"class": label, **{split: counts[split][index] for split in SPLITS}} for index, label in enumerate(classes)
        ],
        "quarantined": [{"path": shown(path), "reason": why} for path, why in prepared.quarantined],
        "ignored": [{"path": shown(path), "reason": why} for path, why in prepared.listing.ignored],
    }


def _duplicates(prepared: Prepared) -> dict[str, int]:
    """Files whose content is in the set already; and test images that are also trained or chosen on."""
    hashes = [prepared.listing.items[row].sha256 for row in prepared.rows.tolist()]
    test = set(prepared.of(TEST).tolist())
    seen = {digest for index, digest in enumerate(hashes) if index not in test}
    return {
        "all": len(hashes) - len(set(hashes)),
        "test_in_others": sum(hashes[index] in seen for index in test),
    }


def sheet(images: NDArray[np.uint8], prepared: Prepared) -> bytes:
    """A PNG with some training images of each class; of many classes, some."""
    train = prepared.of(SPLITS[0])
    classes = prepared.listing.classes
    chosen = np.unique(np.linspace(0, len(classes) - 1, min(_SHEET_CLASSES, len(classes))).astype(np.int64)).tolist()
    most = _SHEET_POINTS if images.shape[3] == 2 else _SHEET_IMAGES
    rows = []
    for label in chosen:
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


def run(params: Params) -> None:
    listing = listings.read(paths.SOURCE)
    size, channels = params.data.resolved_image_size, params.data.resolved_channels
    if listing.source != params.data.source:
        raise Mistake(f"{paths.SOURCE}: lists {listing.source}, but data.source is {params.data.source}; `dvc repro`")
    source = open_source(params.data.source, params.data.path, paths.root(), params.data.settings.model_dump())
    print(f"prepare: {len(listing.items)} files to {size} x {size} x {channels}", flush=True)
    with (
        open_run("prepare", params, inputs=[paths.SOURCE], outputs=[paths.PREPARED, paths.TEST]) as tracked,
        paths.replacing(paths.PREPARED, paths.TEST) as (folder, test_folder),
    ):
        everything = folder / ".everything.npy"
        packed: Packed = pack(listing, source, everything, size, channels)
        if packed.changed:
            changed = [shown(listing.items[index].path) for index in packed.changed[:_NAMED_BAD_FILES]]
            raise Mistake(*(f"{source.place}: {name}: changed since it was listed; run again" for name in changed))
        prepared = arrange(listing, packed.bad, params)
        facts = report(prepared, size, channels)
        _write(folder, test_folder, packed.images, prepared, facts)
        everything.unlink()
        tracked.log_metrics(dict(_metrics(prepared)), step=0)
        for name in ("report.json", "class_counts.csv", "contact_sheet.png"):
            tracked.log_artifact(folder / name)
    parts = ", ".join(f"{sum(prepared.counts(split))} {split}" for split in SPLITS)
    print(f"prepare: {parts}; {len(prepared.quarantined)} quarantined (data/prepared/report.json)")


def _metrics(prepared: Prepared) -> Iterator[tuple[str, float]]:
    for split in SPLITS:
        yield f"images/{split}", float(len(prepared.of(split)))
    yield "files/quarantined", float(len(prepared.quarantined))
    yield "files/ignored", float(len(prepared.listing.ignored))


if __name__ == "__main__":
    sys.exit(stage.main(run))
