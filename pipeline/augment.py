"""The stage `augment`: fits what augmentation needs on the training split alone, and shows what it will do."""

import sys

import numpy as np
from numpy.typing import NDArray

from pipeline import paths, stage
from pipeline.data.augmentation import POLICY, Policy, Statistics, fit_statistics, of_split, save_statistics
from pipeline.data.augmentation.examples import examples, mixing_examples
from pipeline.data.copies import pictures, write_copies
from pipeline.data.mixing import mixing
from pipeline.data.store import Split, open_split, read_classes
from pipeline.params import Augment, Params
from pipeline.pictures import Cell, contact_sheet, grid_sheet, spread
from pipeline.plane import are_points
from pipeline.tracking import open_run

PREVIEW_IMAGES = 12
PREVIEW_POINTS = 300  # of the plane, where images are that
PREVIEW_EPOCHS = 4
TRANSFORMS_IMAGES = 4
TRANSFORMS_EPOCHS = 6  # of which the most telling is shown


def preview(split: Split, policy: Policy, params: Params) -> bytes:
    """A PNG: some training images, and below each what the first epochs will make of it, or its first copies.

    Points of the plane lie in one picture, and what becomes of them beside it.
    """
    copies = params.augment.copies
    mixer = mixing(params.augment, policy.seen, len(split), params.seed) if copies == 0 else None
    names = [f"{'copy' if copies else 'epoch'} {number + 1}" for number in range(min(PREVIEW_EPOCHS, copies or 99))]
    samples = spread(len(split), PREVIEW_POINTS if are_points(split.images) else PREVIEW_IMAGES)
    shown = [np.asarray(split.images[samples])]
    shown += [pictures(split.images, policy, epoch, samples, mixer) for epoch in range(len(names))]
    if are_points(split.images):
        cells = [Cell("", images, split.labels[samples]) for images in shown]
        return grid_sheet(("originals", *names), [(f"{len(samples)} points", cells)])
    return contact_sheet(list(zip(("originals", *names), shown, strict=True)))


def transforms_preview(split: Split, statistics: Statistics, params: Params) -> bytes:
    """A PNG: what each transform alone makes of some training images, at low, middle and high strength."""
    side, channels = split.images.shape[2:]
    samples = spread(len(split), PREVIEW_POINTS if are_points(split.images) else TRANSFORMS_IMAGES)
    labels = split.labels[samples]
    rows = [("as stored", [Cell("", np.asarray(split.images[samples]), labels)])]
    for name, strengths in {**examples(side, channels), **mixing_examples()}.items():
        cells = []
        for strength, changes in strengths:
            settings = params.augment.off().with_changes(changes)
            cells.append(Cell(strength, _telling(split, statistics, settings, samples, params.seed), labels))
        rows.append((name, cells))
    return grid_sheet(("low", "middle", "high"), rows)


def _telling(
    split: Split, statistics: Statistics, settings: Augment, samples: NDArray[np.int64], seed: int
) -> NDArray[np.uint8]:
    """Of some epochs, the one that changes an image most: (B, H, W, C).

    A strength is what a transform reaches, not what it always does. It is not what mixing reaches, which always is one
    half of each image, but how near to it most come: of mixed images, the one of the most usual share.
    """
    side = split.images.shape[2]
    policy = Policy(settings, statistics, side, seed)
    mixer = mixing(settings, side, len(split), seed)
    epochs = range(TRANSFORMS_EPOCHS)
    drawn = np.stack([pictures(split.images, policy, epoch, samples, mixer) for epoch in epochs])
    if mixer is None:
        change = np.abs(drawn - split.images[samples].astype(np.int16)).mean((2, 3, 4))  # epochs, images
    else:
        shares = np.stack([mixer.draw(epoch, samples).masks.shares.numpy() for epoch in epochs])
        usual = np.maximum(shares, 1 - shares).mean()
        change = -np.abs(shares - usual)
    chosen: NDArray[np.uint8] = drawn[change.argmax(0), np.arange(len(samples))]
    return chosen


def run(params: Params) -> None:
    split = open_split(paths.PREPARED / "train")
    classes = read_classes(paths.PREPARED)
    own = of_split(params.augment, split, classes)
    params.augment.seen(split.images.shape[1])
    print(f"augment: measuring {len(split)} training images", flush=True)
    with open_run("augment", params, inputs=[paths.PREPARED], outputs=[paths.AUGMENTED]) as tracked:
        statistics = fit_statistics(split.images)
        policy = Policy(params.augment, statistics, split.images.shape[1], params.seed, own)
        with paths.replacing(paths.AUGMENTED) as (folder,):
            save_statistics(folder / POLICY, statistics, params.augment)
            (folder / "preview.png").write_bytes(preview(split, policy, params))
            (folder / "preview_transforms.png").write_bytes(transforms_preview(split, statistics, params))
            if params.augment.copies > 0:
                print(f"augment: writing {params.augment.copies} copies of each", flush=True)
                write_copies(folder / paths.COPIES.name, split, policy, params.augment.copies, classes)
        for file in sorted(paths.AUGMENTED.iterdir()):
            if file.is_file():  # of the copies MLflow gets the hash alone: they are as large as the data
                tracked.log_artifact(file)
    print(f"augment: mean {_rounded(statistics.mean)}, standard deviation {_rounded(statistics.std)} by channel")


def _rounded(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


if __name__ == "__main__":
    sys.exit(stage.main(run))
