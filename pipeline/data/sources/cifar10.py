"""CIFAR-10: 50,000 + 10,000 colour images of 32x32 pixels in 10 classes, from the official binary version."""

from pathlib import Path

from pipeline.data.raw.base import TEST, TRAIN
from pipeline.data.raw.cifar import CifarImages, Layout
from pipeline.data.raw.download import Remote

LAYOUT = Layout(
    kind="cifar10",
    # https://www.cs.toronto.edu/~kriz/cifar.html names the md5
    remote=Remote("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    folder="cifar-10-batches-bin",
    batches={TRAIN: tuple(f"data_batch_{number}.bin" for number in range(1, 6)), TEST: ("test_batch.bin",)},
    names="batches.meta.txt",
    label_bytes=1,
    label_at=0,
)


class Images(CifarImages):
    """A record is one label byte and the pixels."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(LAYOUT, path)
