"""The exact search for nearest neighbours against faiss, on CIFAR-10: time, memory, and how good the classifier is.

    pip install faiss-cpu                      # what it is compared with; nothing else here needs it
    python benchmarks/neighbours.py ARCHIVE [--rounds 3] [--threads 2] [--share 1]

ARCHIVE: CIFAR-10's images in a tar file, train/CLASS/NAME and test/CLASS/NAME. Ours and faiss's flat indices, which
compare with every image too, answer the same queries in turn, in one process; the table has medians, the least and the
greatest, and the median of the ratios of the rounds. Ours reads bytes; faiss has its float32 copy made before its time
begins. The peak of memory is that of a process of its own, with the images in it, that has done both of our searches.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.nearest import Distance
from models.nearest.search import nearest
from models.networks.neighbours import votes_to_scores
from pipeline.data.images import decode

Bytes = NDArray[np.uint8]
QUERIES: dict[Distance, int] = {"l2": 10_000, "l1": 1_000}
KS = (1, 5, 7)
CHECKED = 100  # answers


def read(archive: Path) -> dict[str, NDArray[Any]]:
    """Images (N, 3072) and labels (N) of both splits, by the order of their names."""
    found: dict[str, list[tuple[str, Bytes]]] = {"train": [], "test": []}
    with tarfile.open(archive) as content:
        for member in content:
            stream = content.extractfile(member)
            if stream is not None:
                split, name = member.name.split("/", 1)
                found[split].append((name, decode(stream.read(), 32, 3).pixels.reshape(-1)))
    result: dict[str, NDArray[Any]] = {}
    for split, images in found.items():
        images.sort(key=lambda item: item[0])
        classes = sorted({name.split("/")[0] for name, _ in images})
        result[split] = np.stack([pixels for _, pixels in images])
        result[f"{split}_labels"] = np.array([classes.index(name.split("/")[0]) for name, _ in images])
    return result


def queries(images: Bytes, count: int) -> Bytes:
    """Evenly over all: the images are sorted by class."""
    return np.ascontiguousarray(images[:: len(images) // count][:count])


def by_faiss(memory: Bytes, distance: Distance, threads: int) -> Callable[[NDArray[np.float32]], NDArray[np.int64]]:
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlat(memory.shape[1], faiss.METRIC_L2 if distance == "l2" else faiss.METRIC_L1)
    index.add(memory.astype(np.float32))
    return lambda asked: index.search(asked, 1)[1]


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """On the clock, and of the processor."""
    begun, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - used


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):7.2f} ({min(values):.2f} to {max(values):.2f})"


def compare(data: dict[str, NDArray[Any]], distance: Distance, rounds: int, threads: int, share: float) -> None:
    asked = queries(data["test"], round(QUERIES[distance] * share))
    as_floats, search = asked.astype(np.float32), by_faiss(data["train"], distance, threads)
    same = (nearest(asked[:CHECKED], data["train"], 1, distance)[1] == search(as_floats[:CHECKED])).mean()  # and warm
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(lambda: nearest(asked, data["train"], 1, distance, threads)))
        theirs.append(seconds(lambda: search(as_floats)))
    print(f"{distance}, {len(asked):,} queries of {len(data['train']):,} images, {threads} threads:")
    for place, what in enumerate(("on the clock", "of the processor")):
        own, other = ([taken[place] for taken in way] for way in (ours, theirs))
        ratios = [a / b for a, b in zip(own, other, strict=True)]
        print(f"    {what:16} ours {spread(own)} s, faiss {spread(other)} s, ours over faiss {spread(ratios)}")
    print(f"    of the first {len(as_floats[:CHECKED])} answers {100 * same:.1f} % are the same", flush=True)


def accuracies(data: dict[str, NDArray[Any]], distance: Distance) -> None:
    """On the test set, by the rule of models/networks/neighbours.py; and where ties go by the label alone."""
    distances, indices = nearest(data["test"], data["train"], max(KS), distance)
    far = torch.from_numpy(distances).double()
    labels = torch.from_numpy(data["train_labels"][indices])
    right = torch.from_numpy(data["test_labels"])
    for k in KS:
        scores = votes_to_scores(labels[:, :k], (far if distance == "l1" else far.sqrt())[:, :k], 10)
        by_label = torch.nn.functional.one_hot(labels[:, :k], 10).sum(1).argmax(1)
        ours, theirs = (100 * (answers == right).double().mean() for answers in (scores.argmax(1), by_label))
        print(f"{distance}, k = {k}: {ours:.2f} % right; {theirs:.2f} % if a tied vote went to the smaller label")


def peak(folder: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    train, test = (np.load(folder / f"{split}.npy") for split in ("train", "test"))
    for distance, count in QUERIES.items():
        nearest(queries(test, count), train, max(KS), distance, threads)
    print(f"peak memory of both searches: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="of the queries, timed alone: for a quick look")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        peak(arguments.archive, arguments.threads)
        return
    torch.set_num_threads(arguments.threads)
    data = read(arguments.archive)
    with tempfile.TemporaryDirectory() as scratch:
        for split in ("train", "test"):
            np.save(Path(scratch, f"{split}.npy"), data[split])
        subprocess.run([sys.executable, __file__, "--peak", scratch, "--threads", str(arguments.threads)], check=True)
    for distance in QUERIES if arguments.share == 1 else ():
        accuracies(data, distance)
    for distance in QUERIES:
        compare(data, distance, arguments.rounds, arguments.threads, arguments.share)


if __name__ == "__main__":
    main()
