"""One training step of the large published networks through the whole stack, against the same layers in a bare loop.

    python benchmarks/networks.py [NAME ...] [--rounds 5] [--steps 2]

Noise of 224x224 pixels in memory, 1,000 classes, the usual precision of params.yaml. Ours: `fit`, with Lightning's
loop, the loader, all callbacks, a run and the progress bar; a step is all from the batch's pixels on. Bare: forward,
backward and SGD's step of the same network on one resident batch. They take turns, round by round, in one process a
network, whose peak memory (with both networks in it, and the best weights kept) is told too.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline import params, paths
from pipeline.data.augmentation import POLICY, fit_statistics, save_statistics
from pipeline.data.store import Split
from pipeline.params import Params
from pipeline.tracking import open_run
from pipeline.training.fit import TrainingData, fit
from pipeline.training.network import initialised_network
from pipeline.training.recorder import Epoch
from training import rates, spread  # beside this file

ROOT = Path(__file__).parents[1]
CLASSES, SIDE = 1000, 224
NETWORKS = {  # batch, settings
    "alexnet": (128, {"version": "two_towers_2012", "form": "imagenet"}),
    "resnet": (32, {"depth": 18, "form": "imagenet"}),
    "vgg": (8, {"depth": 16, "form": "imagenet", "batch_norm": False}),
}


def noise(count: int, seed: int) -> Split:
    """Images and labels in memory."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    return Split(images, generator.integers(0, CLASSES, count), Path("noise"))


def compare(name: str, rounds: int, steps: int) -> None:
    """Print both medians, the ratio round by round, and the peak memory. Writes into the working directory."""
    batch, settings = NETWORKS[name]
    chosen: Params = params.load(ROOT / "params.yaml").overlaid(
        {
            "model": {"name": name, name: settings},
            "augment": {"horizontal_flip": True},
            "regularization": {"l2": 0.0},
            "optimizer": {"lr": 0.001},
            "schedule": {"name": "constant"},
            "train": {"batch_size": batch, "epochs": rounds + 1, "limit_batches": steps},
        }
    )
    train = noise(batch * (steps + 1), 0)
    paths.AUGMENTED.mkdir(parents=True)
    save_statistics(paths.AUGMENTED / POLICY, fit_statistics(train.images), chosen.augment)
    data = TrainingData(train, noise(2, 1), tuple(map(str, range(CLASSES))), paths.AUGMENTED / POLICY)
    network = initialised_network(chosen, data.seen(chosen)).train()
    layout = torch.channels_last if chosen.train.channels_last else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs lack this form
    optimizer = torch.optim.SGD(network.parameters(), 0.001, momentum=0.9, nesterov=True, fused=True)
    images = torch.randn(batch, 3, SIDE, SIDE).contiguous(memory_format=layout)
    labels = torch.from_numpy(train.labels[:batch])
    bare: list[float] = []

    def bare_round(epoch: Epoch) -> None:
        started = time.perf_counter()
        for _ in range(steps):
            loss = nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        bare.append((time.perf_counter() - started) / steps)

    with open_run("train", chosen, inputs=[]) as run:
        fit(chosen, data, run=run, on_epoch=bare_round, progress=True)
        key = run.key
    ours = [batch / rate for rate in rates(key)][1:]  # the first round warms up both
    ratios = [a / b for a, b in zip(ours, bare[1:], strict=True)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name}, batch {batch}: ours {spread(ours)} s a step, bare {spread(bare[1:])} s,")
    print(f"  ratio of the medians {statistics.median(ours) / statistics.median(bare[1:]):.3f},", end=" ")
    print(f"round by round {spread(ratios, 3)}; peak {peak:.1f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NETWORKS, []])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of an epoch, whose beginning they share")
    arguments = parser.parse_args()
    names = arguments.names or list(NETWORKS)
    if len(names) > 1:
        for name in names:  # each in a process of its own: its peak is its own
            command = [sys.executable, __file__, name, f"--rounds={arguments.rounds}", f"--steps={arguments.steps}"]
            subprocess.run(command, check=True)
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        compare(names[0], arguments.rounds, arguments.steps)


if __name__ == "__main__":
    main()
