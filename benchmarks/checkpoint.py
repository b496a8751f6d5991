"""What checkpoints cost a training, at the default interval and at every step.

    python benchmarks/checkpoint.py FOLDER [--rounds 5]

FOLDER is a folder of 32x32 pictures as data.path may be (CIFAR-10 as files, say). The cost of one checkpoint is
measured for a small and a large network, in turn with training steps, and shown as a share of the training's time at
the interval that train.checkpoint_seconds has in params.yaml.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from pipeline import augment, params, prepare, source
from pipeline.params import Params
from pipeline.training.checkpoint import LARGEST_SHARE, Checkpoints, Saver
from pipeline.training.fit import TrainingData, fit

ROOT = Path(__file__).parents[1]
NETWORKS = {
    "convnet": {"model": {"name": "convnet", "convnet": {"width": 32, "stages": 3, "first_depth": 2, "depth": 2}}},
    "resnet": {"model": {"name": "preresnet", "preresnet": {"width": 64, "stages": 4, "depth": 2}}},
}


def measured(name: str, chosen: Params, data: TrainingData, rounds: int, folder: Path) -> None:
    """Save at every boundary of a short training and print what one save took, beside the steps around it."""
    saves: list[float] = []
    sizes: list[int] = []
    save = Saver.save

    def timed(self: Saver, *arguments: object) -> None:
        begun = time.perf_counter()
        save(self, *arguments)  # type: ignore[arg-type]
        saves.append(time.perf_counter() - begun)
        sizes.extend(file.stat().st_size for file in folder.glob(f"{name}/*.checkpoint"))

    Saver.save = timed  # type: ignore[method-assign]
    try:
        begun = time.perf_counter()
        fit(chosen, data, checkpoints=Checkpoints(folder / name, "benchmark"))
        whole = time.perf_counter() - begun
    finally:
        Saver.save = save  # type: ignore[method-assign]
    others = saves[1:]  # the first one warms up
    interval = params.load(ROOT / "params.yaml").train.checkpoint_seconds
    middle = statistics.median(others)
    pause = max(interval, middle / LARGEST_SHARE)
    print(
        f"{name:8} {sizes[-1] / 2**20:7.1f} MiB  {middle * 1e3:7.1f} ms ({min(others) * 1e3:.1f} to"
        f" {max(others) * 1e3:.1f}), {len(others)} saves; every {pause:.0f} s: {100 * middle / (pause + middle):.3f} %"
        f" (at every step: {100 * sum(others) / whole:.0f} %)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    picture_folder = {"data": {"source": "folder", "path": str(arguments.folder.resolve())}}
    every = {"epochs": arguments.rounds, "limit_batches": 8, "batch_size": 64, "checkpoint_seconds": 0.0, "threads": 2}
    shipped = params.load(ROOT / "params.yaml").overlaid(picture_folder).overlaid({"train": every})
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        (Path(scratch) / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        source.run(shipped)
        prepare.run(shipped)
        augment.run(shipped)
        data = TrainingData.open()
        for name, network in NETWORKS.items():
            measured(name, shipped.overlaid(network), data, arguments.rounds, Path(scratch))


if __name__ == "__main__":
    main()
