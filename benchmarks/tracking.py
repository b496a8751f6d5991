"""What a tracking server that fails costs the training.

    python benchmarks/tracking.py [--rounds 6] [--steps 90] [--threads 1] [--faults hang slow ...]

Trains a small convolutional network on the embedded digits through the whole stack (fit, logger, spool, sender), with
three metrics at every step, against a real `mlflow server` behind a proxy, in a process of its own, that goes wrong on
purpose; for the full disk, against sqlite on a small file system (needs root). One training a fault, of blocks of
equally many steps, without and with the fault in turn, so that a slow minute of the machine hits both; a round is such
a pair, in changing order. The first of all blocks comes 8 s after the sender's start and is left out.

The table has, over the rounds: seconds of a block without and with the fault, their ratio, the ratio of the fastest
block of each (what else the machine does can only add), the ratio of the training process's own processor time, and the
share of one core that the sender took meanwhile. `none` is the fault that is none: its ratios are the machine's noise.
The bound is 2 % slower.
"""

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pipeline import augment, params, prepare, source
from pipeline.params import Params
from pipeline.tracking import open_run
from pipeline.training.fit import Epoch, TrainingData, fit

ROOT = Path(__file__).parents[1]
START_SECONDS = 8.0
STEPS_PER_EPOCH = 18
BOUND = 0.02
FAULTS = ("none", "down", "hang", "500", "429", "slow", "lost", "cut")
FULL = "full disk"


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread(values: list[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


@dataclass
class Clock:
    """Reads the clocks at each block's end and sets what is wrong in the next one."""

    epochs_per_block: int
    order: list[bool]  # of each block but the first: whether the fault is on
    switch: Callable[[bool], None]
    readings: list[tuple[float, float, float]] = field(default_factory=list)

    def __call__(self, epoch: Epoch) -> None:
        if epoch.epoch % self.epochs_per_block:
            return
        done = len(self.readings)
        self.readings.append(self._read())
        if done < len(self.order):
            self.switch(self.order[done])
            self.readings[-1] = self._read()  # what switching took is nobody's

    @staticmethod
    def _read() -> tuple[float, float, float]:
        senders = [child for child in psutil.Process().children() if "pipeline.tracking.sender" in child.cmdline()]
        return time.perf_counter(), time.process_time(), sum(sum(child.cpu_times()[:2]) for child in senders)

    def blocks(self, faulty: bool) -> list[tuple[float, float, float]]:
        """Seconds, processor seconds and the sender's processor seconds of the blocks with or without the fault."""
        pairs = zip(self.readings, self.readings[1:], strict=False)
        deltas = [(b[0] - a[0], b[1] - a[1], b[2] - a[2]) for a, b in pairs]
        return [delta for delta, is_on in zip(deltas, self.order, strict=True) if is_on == faulty]


def measure(
    name: str, chosen: Params, data: TrainingData, steps: int, rounds: int, switch: Callable[[bool], None]
) -> str:
    """One training with the fault on and off in turn; a row of the table."""
    epochs_per_block = max(1, round(steps / STEPS_PER_EPOCH))
    order = [is_on for number in range(rounds) for is_on in ((False, True) if number % 2 else (True, False))]
    epochs = epochs_per_block * (1 + len(order))
    chosen = chosen.overlaid({"train": {"epochs": epochs, "limit_batches": STEPS_PER_EPOCH}})
    clock = Clock(epochs_per_block, order, switch)
    switch(False)
    with contextlib.redirect_stderr(io.StringIO()), open_run("fit", chosen, [], name=name) as run:
        time.sleep(START_SECONDS)
        fit(chosen, data, run=run, on_epoch=clock)
    well, ill = clock.blocks(False), clock.blocks(True)
    wall = [b[0] / a[0] for a, b in zip(well, ill, strict=True)]
    processor = [b[1] / a[1] for a, b in zip(well, ill, strict=True)]
    sender = 100 * sum(block[2] for block in ill) / sum(block[0] for block in ill)
    fastest = min(block[0] for block in ill) / min(block[0] for block in well)
    slower = 100 * (median(wall) - 1)
    return (
        f"{name:10} {median([block[0] for block in well]):7.2f} {median([block[0] for block in ill]):7.2f}"
        f"   {spread(wall)}   {fastest:.3f}     {spread(processor)}   {sender:4.1f} %   {slower:+.1f} %"
        f"{'' if slower <= 100 * BOUND else '  over the bound'}"
    )


@contextlib.contextmanager
def proxied(folder: Path):  # type: ignore[no-untyped-def]
    """A server and the proxy before it; yields the proxy's address and what sets its fault."""
    sys.path.insert(0, str(ROOT))  # tests/ is no installed package
    from tests.pipeline.tracking.proxy import Server, running

    with running(Server(folder)) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.pipeline.tracking.proxy", str(server.port)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def put(fault: str) -> None:
            process.stdin.write(f"{fault} 1.0\n")
            process.stdin.flush()
            process.stdout.readline()

        try:
            yield process.stdout.readline().strip(), put
        finally:
            process.stdin.close()
            process.wait()


@contextlib.contextmanager
def filling(folder: Path):  # type: ignore[no-untyped-def]
    """A small file system and what fills it or makes room; None where none can be mounted."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        yield None
        return

    def fill(full: bool) -> None:
        ballast = folder / "ballast"
        ballast.unlink(missing_ok=True)
        if full:
            state = os.statvfs(folder)
            with contextlib.suppress(OSError):  # the sender took some of it meanwhile: it is full all the same
                ballast.write_bytes(bytes(state.f_bavail * state.f_frsize))

    try:
        yield fill
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=90, help="of a block")
    parser.add_argument("--threads", type=int, default=1, help="torch's")
    parser.add_argument("--faults", nargs="*", default=[*FAULTS, FULL], choices=[*FAULTS, FULL])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as other:
        folder = Path(scratch)
        os.chdir(folder)
        (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        chosen = params.load().overlaid(
            {"train": {"threads": arguments.threads}, "tracking": {"drain_seconds": 0.0, "log_every_steps": 1}}
        )
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            source.run(chosen)
            prepare.run(chosen)
            augment.run(chosen)
        data = TrainingData.open()
        print(f"{arguments.rounds} rounds, blocks of {arguments.steps} steps, {arguments.threads} thread(s), load"
              f" {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; median (least to most)")  # fmt: skip
        print("fault      without    with   ratio                   fastest   processor time          sender   slower")
        with proxied(Path(other)) as (address, put):
            for fault in arguments.faults:
                if fault == FULL:
                    continue
                there = chosen.overlaid({"tracking": {"uri": address, "experiment": fault}})

                def switch(is_on: bool, fault: str = fault) -> None:
                    put(fault if is_on else "none")

                print(measure(fault, there, data, arguments.steps, arguments.rounds, switch), flush=True)
        if FULL in arguments.faults:
            place = folder / "small"
            place.mkdir()
            with filling(place) as fill:
                if fill is None:
                    print(f"{FULL}: no small file system can be mounted here")
                else:
                    there = chosen.overlaid({"tracking": {"uri": f"sqlite:///{place}/mlflow.db"}})
                    print(measure(FULL, there, data, arguments.steps, arguments.rounds, fill))


if __name__ == "__main__":
    main()
