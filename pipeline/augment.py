"""The stage `augment`: fits what augmentation needs on the training split alone, and shows what it will do."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import paths, stage
from pipeline.data.augmentation import (
    POLICY,
    Policy,
    Statistics,
    Variants,
    fit_statistics,
    of_split,
    render,
    save_statistics,
)
from pipeline.data.augmentation.examples import examples
from pipeline.data.store import Split, open_split, read_classes
from pipeline.params import Params
from pipeline.pictures import Cell, contact_sheet, grid_sheet, spread
from pipeline.plane import are_points
from pipeline.tracking import open_run

PREVIEW_IMAGES = 12
PREVIEW_POINTS = 300  # of the plane, where images are that
PREVIEW_EPOCHS = 4
TRANSFORMS_IMAGES = 4
TRANSFORMS_EPOCHS = 6  # of which the strongest is shown


def preview(split: Split, statistics: Statistics, params: Params, own: Variants) -> bytes:
    """A PNG: some training images, and below each what the first epochs will make of it; of points, beside them."""
    if are_points(split.images):
        return _preview_of_points(split, statistics, params, own)
    samples = spread(len(split), PREVIEW_IMAGES)
    policy = Policy(params.augment, statistics, split.images.shape[1], params.seed, own)
    rows = [("originals", np.asarray(split.images[samples]))]
    rows += [(f"epoch {epoch + 1}", _pixels(split, policy, epoch, samples)) for epoch in range(PREVIEW_EPOCHS)]
    return contact_sheet(rows)


def _preview_of_points(split: Split, statistics: Statistics, params: Params, own: Variants) -> bytes:
    samples = spread(len(split), PREVIEW_POINTS)
    policy = Policy(params.augment, statistics, split.images.shape[1], params.seed, own)
    labels = split.labels[samples]
    cells = [Cell("", np.asarray(split.images[samples]), labels)]
    cells += [Cell("", _pixels(split, policy, epoch, samples), labels) for epoch in range(PREVIEW_EPOCHS)]
    headings = ["originals", *(f"epoch {epoch + 1}" for epoch in range(PREVIEW_EPOCHS))]
    return grid_sheet(headings, [(f"{len(samples)} points", cells)])


def transforms_preview(split: Split, statistics: Statistics, params: Params) -> bytes:
    """A PNG: what each transform alone makes of some training images, at low, middle and high strength.

    Of some epochs, the one that changes an image most: a strength is what a transform reaches, not what it always does.
    """
    side, channels = split.images.shape[2:]
    samples = spread(len(split), PREVIEW_POINTS if are_points(split.images) else TRANSFORMS_IMAGES)
    originals, labels = np.asarray(split.images[samples]), split.labels[samples]
    rows = [("as stored", [Cell("", originals, labels)])]
    for name, strengths in examples(side, channels).items():
        cells = []
        for strength, changes in strengths:
            policy = Policy(params.augment.off().with_changes(changes), statistics, side, params.seed)
            drawn = np.stack([_pixels(split, policy, epoch, samples) for epoch in range(TRANSFORMS_EPOCHS)])
            change = np.abs(drawn - originals.astype(np.int16)).mean((2, 3, 4))  # epochs, images
            cells.append(Cell(strength, drawn[change.argmax(0), np.arange(len(samples))], labels))
        rows.append((name, cells))
    return grid_sheet(("low", "middle", "high"), rows)


def _pixels(split: Split, policy: Policy, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Augmented images as a person sees them: the normalisation undone, clipped to bytes (B, H, W, C)."""
    import torch

    batch, maps = policy.augmented(split.images, epoch, samples)
    inputs = render(torch.from_numpy(batch), maps).permute(0, 2, 3, 1).numpy()
    return np.clip(np.rint((inputs * policy.std + policy.mean) * 255), 0, 255).astype(np.uint8)


def run(params: Params) -> None:
    split = open_split(paths.PREPARED / "train")
    own = of_split(params.augment, split, read_classes(paths.PREPARED))
    params.augment.seen(split.images.shape[1])
    print(f"augment: measuring {len(split)} training images", flush=True)
    with open_run("augment", params, inputs=[paths.PREPARED], outputs=[paths.AUGMENTED]) as tracked:
        statistics = fit_statistics(split.images)
        with paths.replacing(paths.AUGMENTED) as (folder,):
            save_statistics(folder / POLICY, statistics, params.augment)
            (folder / "preview.png").write_bytes(preview(split, statistics, params, own))
            (folder / "preview_transforms.png").write_bytes(transforms_preview(split, statistics, params))
        for file in sorted(Path(paths.AUGMENTED).iterdir()):
            tracked.log_artifact(file)
    print(f"augment: mean {_rounded(statistics.mean)}, standard deviation {_rounded(statistics.std)} by channel")


def _rounded(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


if __name__ == "__main__":
    sys.exit(stage.main(run))
