"""The stage `augment`: fits what augmentation needs on the training split alone, and shows what it will do."""

import sys

import numpy as np

from pipeline import paths, stage
from pipeline.data.augmentation import POLICY, Policy, Statistics, fit_statistics, save_statistics
from pipeline.data.copies import pictures, write_copies
from pipeline.data.mixing import mixing
from pipeline.data.store import Split, open_split, read_classes
from pipeline.params import Params
from pipeline.pictures import contact_sheet
from pipeline.tracking import open_run

PREVIEW_IMAGES = 12
PREVIEW_EPOCHS = 4


def preview(split: Split, statistics: Statistics, params: Params) -> bytes:
    """A PNG: some training images, and below each what the first epochs will make of it."""
    samples = np.unique(np.linspace(0, len(split) - 1, PREVIEW_IMAGES).astype(np.int64))
    policy = Policy(params.augment, statistics, split.images.shape[1], params.seed)
    mixer = mixing(params.augment, policy.seen, len(split), params.seed)
    rows = [("originals", np.asarray(split.images[samples]))]
    rows += [
        (f"epoch {epoch + 1}", pictures(split.images, policy, epoch, samples, mixer)) for epoch in range(PREVIEW_EPOCHS)
    ]
    return contact_sheet(rows)


def run(params: Params) -> None:
    split = open_split(paths.PREPARED / "train")
    print(f"augment: measuring {len(split)} training images", flush=True)
    with open_run("augment", params, inputs=[paths.PREPARED], outputs=[paths.AUGMENTED]) as tracked:
        statistics = fit_statistics(split.images)
        with paths.replacing(paths.AUGMENTED) as (folder,):
            save_statistics(folder / POLICY, statistics, params.augment)
            (folder / "preview.png").write_bytes(preview(split, statistics, params))
            if params.augment.copies > 0:
                print(f"augment: writing {params.augment.copies} copies of each", flush=True)
                policy = Policy(params.augment, statistics, split.images.shape[1], params.seed)
                classes = read_classes(paths.PREPARED)
                write_copies(folder / paths.COPIES.name, split, policy, params.augment.copies, classes)
        for file in sorted(paths.AUGMENTED.iterdir()):
            if file.is_file():  # of the copies MLflow gets the hash alone: they are as large as the data
                tracked.log_artifact(file)
    print(f"augment: mean {_rounded(statistics.mean)}, standard deviation {_rounded(statistics.std)} by channel")


def _rounded(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


if __name__ == "__main__":
    sys.exit(stage.main(run))
