"""CIFAR-100: 50,000 + 10,000 colour images of 32x32 pixels in 100 classes, from the official binary version."""

from pathlib import Path
from typing import Literal

from pipeline.data.raw.base import TEST, TRAIN
from pipeline.data.raw.cifar import CifarImages, Layout
from pipeline.data.raw.download import Remote

# https://www.cs.toronto.edu/~kriz/cifar.html names the md5
REMOTE = Remote("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")


class Images(CifarImages):
    """A record is the coarse label, the fine label, and the pixels. labels: which of the two is learned."""

    def __init__(self, path: Path | None, labels: Literal["fine", "coarse"]) -> None:
        layout = Layout(
            kind="cifar100",
            remote=REMOTE,
            folder="cifar-100-binary",
            batches={TRAIN: ("train.bin",), TEST: ("test.bin",)},
            names=f"{labels}_label_names.txt",
            label_bytes=2,
            label_at=("coarse", "fine").index(labels),
        )
        super().__init__(layout, path)
