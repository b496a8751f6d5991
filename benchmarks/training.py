"""Training through the whole stack against less: what Lightning, tracking and data work cost.

    python benchmarks/training.py FOLDER [--rounds 5] [--steps 40]

FOLDER is a folder of 32x32 pictures as data.path may be (CIFAR-10 as files, say). In every round the ways are timed in
turn, so that a slow minute of the machine hits all of them; the table gives medians, the spread, and the ratios round
by round. Four tables: one batch's data work; images a second of the stack against the same network's bare
forward-backward-step; against a usual script (a Dataset of files, a DataLoader of two workers, float32); and what the
stack adds to a step of a tiny model.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from models.build import build_network
from pipeline import augment, params, paths, prepare, source
from pipeline.data.augmentation import render
from pipeline.data.loader import Batches
from pipeline.params import Params
from pipeline.tracking import open_run
from pipeline.training.fit import TrainingData, assembled, fit
from pipeline.training.network import initialised_network
from pipeline.training.recorder import Epoch

ROOT = Path(__file__).parents[1]
BATCH = 256
NETWORK = {  # 0.29 million parameters
    "model": {"name": "convnet", "convnet": {"width": 32, "stages": 3, "first_depth": 2, "depth": 2}},
    "augment": {"crop_padding": 4, "horizontal_flip": True, "rotation_degrees": 0.0},
    "regularization": {"l1": 0.0, "l2": 0.0, "dropout": 0.0},
    "schedule": {"name": "constant"},
    "train": {"batch_size": BATCH, "precision": "bf16-mixed", "channels_last": True, "threads": 2},
    "tracking": {"log_every_steps": 1},
}


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spread(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def rates(key: str) -> list[float]:
    """Images a second of each epoch of a run, as its recorder measured them between the first step and validation."""
    name = "measured/train/images_per_second"
    records = [json.loads(line) for line in (paths.state() / "runs" / key / "events.jsonl").read_text().splitlines()]
    return [record["values"][name] for record in records if name in record.get("values", {})]


# --- one batch --------------------------------------------------------------------------------------------------------


def batch_work(data: TrainingData, chosen: Params, rounds: int) -> None:
    """Gather, crop, flip and normalise one batch, as the training loop does it."""
    batches = Batches(data.train, data.policy(chosen), BATCH, training=True, seed=0, limit=50)
    host, whole = [], []
    for epoch in range(rounds):
        batches.set_epoch(epoch)
        host.append(seconds(lambda: [batch.images for batch in batches]) / 50 * 1e3)
        whole.append(seconds(lambda: [render(batch.images, batch.maps) for batch in batches]) / 50 * 1e3)
    print(f"one batch of {BATCH}, crop and flip, bytes        {spread(host)} ms")
    print(f"the same, normalised to float32               {spread(whole)} ms")


# --- throughput -------------------------------------------------------------------------------------------------------


class Files(Dataset[tuple[Tensor, int]]):
    """What a usual script has: one file, opened, cropped and flipped at a time."""

    def __init__(self, folder: Path) -> None:
        root = folder / "train" if (folder / "train").is_dir() else folder
        classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        self._items = [(file, label) for label, name in enumerate(classes) for file in sorted((root / name).iterdir())]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, label = self._items[index]
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        top, left = np.random.randint(0, 9, 2)
        pixels = np.pad(pixels, ((4, 4), (4, 4), (0, 0)))[top : top + 32, left : left + 32]
        if np.random.rand() < 0.5:
            pixels = pixels[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float().div_(255).sub_(0.5), label


class BareLoop:
    """Forward, backward and step of the same network; nothing else."""

    def __init__(self, chosen: Params, data: TrainingData, bf16: bool) -> None:
        self.network: nn.Module = initialised_network(chosen, data.seen(chosen)).train()
        if bf16:
            self.network.to(memory_format=torch.channels_last)
        self._bf16 = bf16
        self._optimizer = torch.optim.SGD(
            self.network.parameters(), chosen.optimizer.lr, momentum=0.9, nesterov=True, fused=True
        )

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            scores = self.network(images)
        loss = nn.functional.cross_entropy(scores.float(), labels)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


def throughput(data: TrainingData, chosen: Params, folder: Path, rounds: int, steps: int) -> None:
    """Images a second: the stack, the bare loop on one resident batch, the usual script; in turn, round by round."""
    bare, script = BareLoop(chosen, data, bf16=True), BareLoop(chosen, data, bf16=False)
    raw = next(iter(Batches(data.train, data.policy(chosen), BATCH, training=True)))
    images, labels = render(raw.images, raw.maps), raw.targets
    loader = DataLoader(Files(folder), BATCH, shuffle=True, num_workers=2, persistent_workers=True, drop_last=True)
    usual: Iterator[tuple[Tensor, Tensor]] = iter(loader)
    ways: dict[str, list[float]] = {"bare": [], "usual": []}

    def others(epoch: Epoch) -> None:
        """Runs between two epochs of the stack: the other ways' turn."""
        nonlocal usual
        ways["bare"].append(BATCH * steps / seconds(lambda: [bare(images, labels) for _ in range(steps)]))
        few = max(4, steps // 2)  # of which the workers have four ready when the turn comes
        started, done = time.perf_counter(), 0
        while done < few:
            batch = next(usual, None)
            if batch is None:
                usual = iter(loader)
                continue
            script(*batch)
            done += 1
        ways["usual"].append(BATCH * few / (time.perf_counter() - started))

    chosen = chosen.overlaid({"train": {"epochs": rounds + 1, "limit_batches": steps}})
    with open_run("train", chosen, inputs=[]) as run:
        fit(chosen, data, run=run, on_epoch=others, progress=True)
        key = run.key
    stack = rates(key)
    # The first round warms up: threads, the sender's imports, the loader's processes.
    stack, bare_rates, usual_rates = stack[1:], ways["bare"][1:], ways["usual"][1:]
    print(f"whole stack, bf16, channels-last              {spread(stack, 0)} images/s")
    print(f"bare forward-backward-step, the same network  {spread(bare_rates, 0)} images/s")
    print(f"usual script, float32, 2 workers              {spread(usual_rates, 0)} images/s")
    print(f"stack against bare                            {spread(_ratios(stack, bare_rates), 3)}")
    print(f"stack against the usual script                {spread(_ratios(stack, usual_rates))}")


def _ratios(first: list[float], second: list[float]) -> list[float]:
    return [a / b for a, b in zip(first, second, strict=True)]


# --- a tiny model -----------------------------------------------------------------------------------------------------


def step_overhead(data: TrainingData, chosen: Params, rounds: int) -> None:
    """Milliseconds a step that Lightning, our logger at every step and the progress bar add to a linear model.

    The first half of the rounds is left out: so short a training would be measured against the sender's imports.
    """
    steps, rounds = 300, 8 * rounds
    chosen = chosen.overlaid(
        {
            "model": {"name": "linear"},
            "train": {"batch_size": 64, "precision": "32-true", "epochs": rounds, "limit_batches": steps},
        }
    )
    batches = Batches(data.train, data.policy(chosen), 64, training=True, limit=steps)
    module = assembled(chosen, build_network("linear", chosen.model.settings, data.seen(chosen), 0.0), steps)
    optimizer = torch.optim.SGD(module.parameters(), 0.001, momentum=0.9, nesterov=True, fused=True)
    bare: list[float] = []

    def bare_epoch() -> None:
        for raw in batches:
            images = render(raw.images, raw.maps)
            loss = module.training_step((images, raw.targets), 0)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with open_run("train", chosen, inputs=[]) as run:
        fit(chosen, data, run=run, on_epoch=lambda epoch: bare.append(seconds(bare_epoch)), progress=True)
        key = run.key
    stack = [64 * steps / rate for rate in rates(key)]
    half = len(stack) // 2
    added = [(a - b) / steps * 1e3 for a, b in zip(stack[half:], bare[half:], strict=True)]
    print(f"added to a step of a tiny model               {spread(added)} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    shipped = params.load(ROOT / "params.yaml")
    chosen = shipped.overlaid(NETWORK).overlaid({"data": {"source": "folder", "path": str(folder)}})
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        (Path(scratch) / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        source.run(chosen)
        prepare.run(chosen)
        augment.run(chosen)
        data = TrainingData.open()
        batch_work(data, chosen, arguments.rounds)
        throughput(data, chosen, folder, arguments.rounds, arguments.steps)
        step_overhead(data, chosen, arguments.rounds)


if __name__ == "__main__":
    main()
