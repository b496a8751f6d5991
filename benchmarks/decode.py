"""Images decoded a second: retrace's packing, which describes them for the checks as well, against PIL in a plain loop.

    python benchmarks/decode.py FOLDER [--rounds 5]

FOLDER is what data.path may be. Rounds are interleaved, so that a slow minute of the machine hits all of them; the
table gives the median and the spread. The pixels of the two are compared first.
"""

import argparse
import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from pipeline.data.listing import Item, Listing
from pipeline.data.packing.decoding import pack
from pipeline.data.sources.folder import Images as Folder

SIZE, CHANNELS = 32, 3


def by_pil(folder: Path, listing: Listing) -> np.ndarray:
    """What a plain script does, to the same pixels: open, convert, resize the centre square, stack."""
    images = np.empty((len(listing.items), SIZE, SIZE, CHANNELS), np.uint8)
    for index, item in enumerate(listing.items):
        with Image.open(folder / item.path) as image:
            rgb = image.convert("RGB")
            side = min(rgb.size)
            left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
            square = rgb.crop((left, top, left + side, top + side))
            images[index] = np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    source = Folder(arguments.folder)
    scan = source.scan()
    items = [
        Item(found.path, found.stamp.size, hashlib.sha256(source.read(found.path)).hexdigest(), found.label, None)
        for found in scan.found
    ]
    listing = Listing("folder", scan.classes, tuple(items), ())
    with tempfile.TemporaryDirectory() as scratch:

        def ours(workers: int | None = None) -> np.ndarray:
            """In a new folder: what lies in one already is not done again."""
            folder = tempfile.mkdtemp(dir=scratch)
            images = pack(listing, source, Path(folder), SIZE, CHANNELS, workers=workers).images
            shutil.rmtree(folder)
            return cast(np.ndarray, images)

        same = np.array_equal(ours(), by_pil(arguments.folder, listing))
        print(f"{len(items)} images, pixels {'identical' if same else 'DIFFERENT'}")
        ways: dict[str, Callable[[], object]] = {
            "PIL, plain loop": lambda: by_pil(arguments.folder, listing),
            "retrace, one process": lambda: ours(workers=1),
            "retrace": ours,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - start)
    print(f"{'':22} {'images/s':>10} {'lowest':>10} {'highest':>10} {'seconds':>9} {'times PIL':>10}")
    slow = seconds["PIL, plain loop"]
    for name, taken in seconds.items():
        rates = sorted(len(items) / value for value in taken)
        ratio = statistics.median(before / after for before, after in zip(slow, taken, strict=True))
        middle = statistics.median(rates)
        spread = f"{middle:10,.0f} {rates[0]:10,.0f} {rates[-1]:10,.0f}"
        print(f"{name:22} {spread} {len(items) / middle:9.2f} {ratio:10.1f}")


if __name__ == "__main__":
    main()
