"""Small sets with boxes and with targets, which a small network learns in some epochs."""

import json
from pathlib import Path

import numpy as np

from pipeline import paths
from pipeline.data.augmentation import POLICY, fit_statistics, save_statistics
from pipeline.data.store import write_split
from pipeline.params import Augment

SIDE = 16
CLASSES = ("full", "hollow")
TARGETS = ("across", "down")


def rectangles(count: int, seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bright rectangles on black, full or hollow: images (N, S, S, 1) uint8, labels (N,), boxes (N, 4) float32."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, side, side, 1), dtype=np.uint8)
    labels = np.arange(count) % 2
    width, height = random.integers(5, 10, (2, count))
    left, top = random.integers(0, side - width), random.integers(0, side - height)
    for image, label, x, y, w, h in zip(images, labels, left, top, width, height, strict=True):
        image[y : y + h, x : x + w] = 255
        if label:
            image[y + 1 : y + h - 1, x + 1 : x + w - 1] = 0
    return images, labels.astype(np.int64), np.stack([left, top, left + width, top + height], 1).astype(np.float32)


def prepare(augment: Augment, kind: str, counts: tuple[int, int, int] = (160, 40, 40)) -> None:
    """Write what the stages before search leave in the working directory; kind: boxes, targets or classes."""
    folders = (paths.PREPARED / "train", paths.PREPARED / "validation", paths.TEST)
    for seed, (folder, count) in enumerate(zip(folders, counts, strict=True)):
        images, labels, boxes = rectangles(count, seed)
        centres = (boxes[:, :2] + boxes[:, 2:]).astype(np.float64) / (2 * SIDE)
        write_split(
            folder,
            images,
            np.zeros_like(labels) if kind == "targets" else labels,
            [f"{folder.name}/{index}" for index in range(count)],
            () if kind == "targets" else CLASSES,
            ["0" * 64] * count,
            targets=centres if kind == "targets" else None,
            boxes=boxes if kind == "boxes" else None,
        )
    (paths.PREPARED / "classes.json").write_text(json.dumps([] if kind == "targets" else CLASSES))
    if kind == "targets":
        (paths.PREPARED / "targets.json").write_text(json.dumps(TARGETS))
    paths.AUGMENTED.mkdir()
    save_statistics(paths.AUGMENTED / POLICY, fit_statistics(rectangles(counts[0], 0)[0]), augment)


def write_rest(folder: Path) -> None:
    """What evaluate reads besides: prepare's report and sheet."""
    from PIL import Image

    (folder / "report.json").write_text('{"quarantined": []}')
    Image.new("RGB", (8, 8)).save(folder / "contact_sheet.png")
