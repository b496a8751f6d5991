"""The stages source and prepare on many photographs: how long they take, and the most memory of all their processes.

    python benchmarks/prepare.py [--counts 50000 100000 200000] [--folder FOLDER]
    python benchmarks/prepare.py --archive FILE [--image-size 32] [--rounds 3]

The first form makes that many JPEG files of 256 x 256 (see photographs.py), one set after another, in FOLDER or a
temporary folder, which needs 60 kB a photograph; 10 classes, all different, so that the search for copies has its
whole work and finds nothing. JPEG is kept, however few they are: of this size more than 20,000 are by default. The
second prepares an archive of images in class folders. Each is done in a project of its own, tracked there. The table:
seconds of the two stages, from start to exit of a process each; of prepare, its decoding, its checks (copies above
all) and what is left, writing above all; images a second through both stages; the most memory of all processes, looked
at ten times a second, and how much of that belongs to no file; seconds of processors, which a busy machine changes
less; time and processor time an image against those of the first row: 1 where they grow as the images do.
"""

import argparse
import json
import os
import re
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import memory
import photographs

ROOT = Path(__file__).parents[1]
SIDE, CLASSES = 256, 10
PARTS = {
    "decoding": ("pipeline.data.packing.decoding", "pack"),
    "checks": ("pipeline.data.splits.arrangement", "check"),
}


class Measured(NamedTuple):
    """One set, through both stages."""

    name: str
    images: int
    source: float  # seconds
    prepare: float
    parts: dict[str, float]  # of prepare
    processor: float  # seconds of all processes of both
    most: memory.Taken

    def ratios(self, first: "Measured") -> tuple[float, float]:
        """Time and processor time an image, against those of another set."""
        one, other = ((of.source + of.prepare) / of.images for of in (self, first))
        return one / other, self.processor / self.images / (first.processor / first.images)


def project(folder: Path, data: dict[str, object]) -> None:
    """Make `folder` a project of the shipped parameters, of which those of `data` are changed."""
    folder.mkdir()
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for key, value in data.items():
        text, found = re.subn(rf"^  {key}: \S+", f"  {key}: {json.dumps(value)}", text, count=1, flags=re.MULTILINE)
        if not found:
            raise ValueError(f"params.yaml: data.{key} is not there")
    (folder / "params.yaml").write_text(text, encoding="utf-8")


def timed(folder: Path, *arguments: str) -> tuple[float, float, memory.Taken]:
    """Run Python in a project: seconds, seconds of processors, and the most memory of its processes."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DVC_ROOT", "DVC_STAGE", "MLFLOW_TRACKING_URI")
    }
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=kept)
    with memory.Watch(process.pid) as watch:
        _, status, usage = os.wait4(process.pid, 0)  # with those that it has waited for
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments}: exit status {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, watch.most


def measure(name: str, folder: Path, data: dict[str, object]) -> Measured:
    """Both stages on one set. folder: the project, which must not exist and is removed at the end."""
    project(folder, data)
    try:
        listing = timed(folder, "-m", "pipeline.source")
        preparing = timed(folder, str(Path(__file__).resolve()), "--child", "parts.json")
        parts = json.loads((folder / "parts.json").read_text())
        facts = json.loads((folder / "data" / "prepared" / "report.json").read_text())
        images = sum(facts["images"].values())
        processor = listing[1] + preparing[1]
        return Measured(name, images, listing[0], preparing[0], parts, processor, max(listing[2], preparing[2]))
    finally:
        shutil.rmtree(folder)


def prepare_with_clocks(file: Path) -> None:
    """`python -m pipeline.prepare` in this process, which writes into `file` how long its parts took."""
    seconds: dict[str, float] = {}

    def clocked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed_work(*arguments: Any, **more: Any) -> Any:
            started = time.perf_counter()
            try:
                return work(*arguments, **more)
            finally:
                seconds[name] = time.perf_counter() - started

        return timed_work

    for name, (module, function) in PARTS.items():
        __import__(module)
        setattr(sys.modules[module], function, clocked(name, getattr(sys.modules[module], function)))
    try:
        runpy.run_module("pipeline.prepare", run_name="__main__", alter_sys=True)
    finally:
        file.write_text(json.dumps(seconds))


def row(measured: Measured, first: Measured) -> str:
    rest = measured.prepare - sum(measured.parts.values())
    both = measured.source + measured.prepare
    return (
        f"{measured.name:>16} {measured.source:9.1f} {measured.prepare:9.1f}"
        f" {measured.parts['decoding']:9.1f} {measured.parts['checks']:9.1f} {rest:9.1f}"
        f" {measured.images / both:10,.0f} {measured.most.whole / 1e9:7.2f} {measured.most.own / 1e9:7.2f}"
        f" {measured.processor:11.1f} {' '.join(f'{ratio:9.2f}' for ratio in measured.ratios(first))}"
    )


def head() -> str:
    return (
        f"memory is {memory.KIND}\n"
        f"{'':16} {'source s':>9} {'prepare s':>9} {'decoding':>9} {'checks':>9} {'rest':>9}"
        f" {'images/s':>10} {'GB':>7} {'no file':>7} {'processor s':>11} {'an image':>9} {'processor':>9}"
    )


def of_photographs(counts: list[int], scratch: Path) -> list[Measured]:
    found = []
    for count in counts:
        raw = scratch / "photographs"
        try:
            started = time.perf_counter()
            size = photographs.write(raw, count, SIDE, CLASSES)
            print(
                f"{count} photographs of {size / count / 1e3:.1f} kB made in {time.perf_counter() - started:.0f} s",
                flush=True,
            )
            data = {"source": "folder", "path": str(raw), "image_size": SIDE, "max_packed_bytes": 0}
            found.append(measure(f"{count:,}", scratch / "project", data))
        finally:
            shutil.rmtree(raw, ignore_errors=True)
        shown(found[-1], found[0])
    return found


def shown(measured: Measured, first: Measured) -> None:
    """The row at once: the next set takes minutes."""
    print(f"{head()}\n{row(measured, first)}")
    parts = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in measured.most.processes)
    print(f"{'':16} at its most: {parts}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[50_000, 100_000, 200_000])
    parser.add_argument("--folder", type=Path, help="where there is room; a folder in it is made, and removed")
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--image-size", type=int, default=32, help="of the archive's images")
    parser.add_argument("--rounds", type=int, default=3, help="times that the archive is prepared")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        prepare_with_clocks(arguments.child)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        if arguments.archive is None:
            found = of_photographs(arguments.counts, Path(scratch))
        else:
            found = []
            archive = str(arguments.archive.resolve())
            data = {"source": "archive", "path": archive, "image_size": arguments.image_size}
            for number in range(arguments.rounds):
                found.append(measure(f"round {number + 1}", Path(scratch) / "project", data))
                shown(found[-1], found[0])
    print("\n" + head())
    for measured in found:
        print(row(measured, found[0]))
    if arguments.archive is not None:
        packing = [measured.source + measured.prepare - measured.parts["checks"] for measured in found]
        checks = [measured.parts["checks"] for measured in found]
        print(
            f"without the checks {statistics.median(packing):.1f} s ({min(packing):.1f} to {max(packing):.1f}),"
            f" the checks {statistics.median(checks):.1f} s ({min(checks):.1f} to {max(checks):.1f})"
        )


if __name__ == "__main__":
    main()
