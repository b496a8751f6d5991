"""Augmentation's own time: one batch from packed bytes to float32 inputs, host and device parts apart.

    python benchmarks/augmentation.py [--rounds 3] [--each] [--against COMMIT]

--each: every transform alone, at the preview's highest strength, too. --against: the same batches by the code of
another commit, in turn with this one's, each time in a process of its own; policies that it does not know are left out.
The table gives medians over all batches of all rounds, with the lowest and highest median of a round in brackets. With
a GPU there, its line times copying the batch and its maps there and rendering.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
TREE = Path(os.environ.get("BENCHMARK_TREE", ROOT))  # whose code is timed
sys.path.insert(0, str(TREE))

from pipeline import params  # noqa: E402
from pipeline.data.augmentation import Policy, Statistics, fit_statistics, render  # noqa: E402

CROP = {"crop_padding": 4, "horizontal_flip": True, "rotation_degrees": 0.0}
COLOUR = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2}
FULL = {**CROP, **COLOUR, "pca_shift": 0.1, "cutout_size": 8}
IMAGENET = {
    "crop_padding": 0, "rotation_degrees": 0.0, "crop_size": 224, "resized_crop": 0.92, "horizontal_flip": True,
    "brightness": 0.4, "contrast": 0.4, "saturation": 0.4,
}  # fmt: skip
# Name: batch, side and channels of the stored images, changes of params.yaml's `augment`.
POLICIES: dict[str, tuple[int, int, int, dict[str, Any]]] = {
    "64 of 8x8, params.yaml's own": (64, 8, 1, {}),
    "256 of 32x32, crop and flip": (256, 32, 3, CROP),
    "256 of 32x32, crop, flip, colour, PCA, cutout": (256, 32, 3, FULL),
    "the same with hue": (256, 32, 3, {**FULL, "hue_degrees": 20.0}),
    "the same, rotated": (256, 32, 3, {**FULL, "rotation_degrees": 15.0}),
    "256 of 32x32, crop, flip, TrivialAugment": (256, 32, 3, {**CROP, "automatic": "trivial"}),
    "crop, flip, colour, PCA, cutout, MixUp": (256, 32, 3, {**FULL, "mixup": 0.4}),
    "64 of 256x256 to 224, resized crop, flip, colour": (64, 256, 3, IMAGENET),
}
BATCHES = 30  # a round


def each() -> dict[str, tuple[int, int, int, dict[str, Any]]]:
    """Every transform alone."""
    from pipeline.data.augmentation.examples import examples

    off = {"crop_padding": 0, "rotation_degrees": 0.0}
    found = {name: strengths[-1].changes for name, strengths in examples(32, 3).items()}
    return {f"256 of 32x32, {name}": (256, 32, 3, {**off, **changes}) for name, changes in found.items()}


def measure(policies: dict[str, tuple[int, int, int, dict[str, Any]]]) -> dict[str, list[tuple[float, float, float]]]:
    """By policy: milliseconds of each batch on the host, then on this CPU, then from the host to a GPU's result."""
    torch.set_num_threads(2)
    shipped = params.load(TREE / "params.yaml").augment
    result = {}
    fitted: dict[tuple[int, int], tuple[np.ndarray[Any, Any], Statistics]] = {}
    for name, (batch, side, channels, changes) in policies.items():
        if not set(changes) <= set(type(shipped).model_fields):
            continue
        if (side, channels) not in fitted:
            images = np.random.default_rng(0).integers(0, 256, (max(256, 2048 * 32 // side), side, side, channels))
            images = images.astype(np.uint8)
            fitted[side, channels] = images, fit_statistics(images)
        images, figures = fitted[side, channels]
        settings = shipped.model_copy(update=changes)
        policy = Policy(settings, figures, side, 0)
        mixer = mixer_of(settings, policy, len(images)) if "mixup" in changes else None
        result[name] = [timed(policy, images, number, batch, mixer) for number in range(BATCHES + 3)][3:]
    return result


def mixer_of(settings: Any, policy: Policy, images: int) -> Any:
    from pipeline.data.mixing import mixing  # not in every commit's code

    return mixing(settings, policy.seen, images, 0)


def timed(
    policy: Policy, images: "np.ndarray[Any, Any]", number: int, batch: int, mixer: Any
) -> tuple[float, float, float]:
    samples = np.random.default_rng(number).permutation(len(images))[:batch]
    started = time.perf_counter()
    pixels, maps = policy.augmented(images, number, samples)
    partners, masks = mixer.draw(number, samples) if mixer is not None else (None, None)
    others = policy.augmented(images, number, partners) if mixer is not None else None
    drawn = time.perf_counter()

    def on(device: torch.device) -> None:
        inputs = render(torch.from_numpy(pixels).to(device), maps.to(device))
        if others is not None:
            from pipeline.data.mixing import mixed

            mixed(inputs, render(torch.from_numpy(others[0]).to(device), others[1].to(device)), masks.to(device))

    on(torch.device("cpu"))
    rendered = time.perf_counter()
    on_gpu = float("nan")
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        begun = time.perf_counter()
        on(torch.device("cuda"))
        torch.cuda.synchronize()
        on_gpu = time.perf_counter() - begun
    return (drawn - started) * 1e3, (rendered - drawn) * 1e3, on_gpu * 1e3


def in_a_process(tree: Path, every: bool) -> dict[str, list[list[float]]]:
    command = [sys.executable, __file__, "--child", *(["--each"] if every else [])]
    environment = {**os.environ, "BENCHMARK_TREE": str(tree), "PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, list[list[float]]] = json.loads(done.stdout)
    return found


def exported(commit: str, folder: Path) -> Path:
    """The code of another commit."""
    archive = folder / "code.tar"
    subprocess.run(["git", "archive", "-o", str(archive), commit], cwd=ROOT, check=True)
    with tarfile.open(archive) as content:
        content.extractall(folder / "code", filter="data")
    return folder / "code"


def line(name: str, rounds: list[list[list[float]]]) -> str:
    def median(column: slice) -> str:
        of_rounds = [statistics.median(sum(batch[column]) for batch in one) for one in rounds]
        over_all = statistics.median(sum(batch[column]) for one in rounds for batch in one)
        return f"{over_all:6.2f} ({min(of_rounds):.2f} to {max(of_rounds):.2f})"

    gpu = "" if np.isnan(rounds[0][0][2]) else f"   GPU {median(slice(2, 3))}"
    return f"{name:52s} {median(slice(0, 2)):24s} host {median(slice(0, 1)):22s}{gpu}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(POLICIES | (each() if arguments.each else {}))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        trees = {"": ROOT}
        if arguments.against:
            trees[arguments.against] = exported(arguments.against, Path(scratch))
        found: dict[str, dict[str, list[list[list[float]]]]] = {name: {} for name in trees}
        for _ in range(arguments.rounds):
            for name, tree in trees.items():
                for policy, batches in in_a_process(tree, arguments.each and tree == ROOT).items():
                    found[name].setdefault(policy, []).append(batches)
    print("milliseconds a batch: the whole, and the host's part of it")
    for policy in found[""]:
        for name in trees:
            if policy in found[name]:
                print(line(f"{policy}{f', {name}' if name else ''}", found[name][policy]))


if __name__ == "__main__":
    main()
