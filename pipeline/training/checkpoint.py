"""The crash-safe state of a fit: killed at any moment, it goes on from its newest checkpoint and ends in the same bits.

A checkpoint is one file: a line of JSON (which fit it belongs to, its name, the SHA-256 of the rest), then what
torch.save wrote. It is written beside its place, brought to the disk, and renamed, so that it is whole or absent; two
are kept, so that one that a disk has spoilt costs some minutes and not the training. Loading it runs no code.
"""

import contextlib
import hashlib
import io
import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.io import CheckpointIO
from pytorch_lightning.callbacks import Callback, Checkpoint

from pipeline import paths
from pipeline.training.callbacks import Averaging
from pipeline.training.recorder import Recorder

KEPT = 2
_FORMAT = "retrace checkpoint 1"
_SUFFIX = ".checkpoint"
LARGEST_SHARE = 0.01  # of the time that may go into saving
LEAVE_SECONDS = 2.0  # how long an interrupt waits for the end of a step; then it is taken where the code stands


class Checkpoints(CheckpointIO):
    """The checkpoints of one fit, in a folder of their own. Lightning saves and loads through it.

    identity: what the fit is a function of; a checkpoint of another fit is none of ours, wherever it came from.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity
        folder.mkdir(parents=True, exist_ok=True)

    def place(self, batches: int, phase: str) -> Path:
        """The file for the state after so many batches; the names' order is the order of time."""
        return self._folder / f"{batches:012d}-{phase}{_SUFFIX}"

    def newest(self) -> Path | None:
        """The newest valid checkpoint; says which are not, and drops them."""
        for file in sorted(self._folder.glob(f"*{_SUFFIX}"), reverse=True):
            try:
                self._read(file)
            except PermissionError:
                raise  # the file may be sound
            except (ValueError, OSError) as error:  # OSError: the disk cannot read it
                print(f"{file}: {error}; it is dropped, an older one is taken if there is one", file=sys.stderr)
                file.unlink()
            else:
                return file
        return None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`; the oldest beyond two go. Raises OSError, leaving what was there."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
        target = Path(path)
        head = {"format": _FORMAT, "identity": self._identity, "name": target.name}
        head["sha256"] = hashlib.sha256(content).hexdigest()
        paths.write_atomically(target, json.dumps(head).encode() + b"\n", content)
        for old in sorted(self._folder.glob(f"[!.]*{_SUFFIX}"))[:-KEPT]:
            old.unlink()

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = True) -> Any:
        """What `save_checkpoint` wrote: tensors and plain containers, whatever the file holds. Raises ValueError."""
        content = self._read(Path(path))
        return torch.load(io.BytesIO(content), map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)

    def _read(self, file: Path) -> bytes:
        """The checked content. Raises ValueError saying what is wrong with the file."""
        head, _, content = file.read_bytes().partition(b"\n")
        try:
            said = json.loads(head)
            form, identity, name, digest = (said[key] for key in ("format", "identity", "name", "sha256"))
        except (ValueError, KeyError, TypeError):
            raise ValueError("no checkpoint, or its beginning is damaged") from None
        if form != _FORMAT:
            raise ValueError(f"its format is {form!r}, this version reads {_FORMAT!r}")
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("damaged or cut off: its content is not what was written")
        if (identity, name) != (self._identity, file.name):
            raise ValueError("it was written for another fit or another step")
        return content


class Saver(Checkpoint):
    """Saves between two steps, before validation and after it, `seconds` after the last time; and at the end.

    A subclass of Lightning's Checkpoint, which puts it behind all other callbacks: they are done with a step or an
    epoch when it is saved. Within a window of gradient accumulation nothing is saved: gradients in flight are no state.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        seconds: float,
        recorder: Recorder,
        averaging: Averaging | None,
        before_saving: Callable[[], None],
    ) -> None:
        """seconds: 0 saves at every boundary; otherwise the pause is as long as LARGEST_SHARE asks for, if longer.
        before_saving: brings the run's metrics to the disk, so that no checkpoint is ahead of them.
        """
        self._checkpoints = checkpoints
        self._seconds = seconds
        self._recorder = recorder
        self._averaging = averaging
        self._before_saving = before_saving
        self._saved_at = time.monotonic()
        self._cost_seconds = 0.0  # of the last time

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # After the epoch's last batch comes validation, whose beginning is the next boundary.
        if _is_between_steps(trainer, batch_idx) and batch_idx + 1 < trainer.num_training_batches:
            self._save_if_due(trainer, "step")

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._save_if_due(trainer, "trained")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        ends = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        self._save_if_due(trainer, "validated", anyway=ends)

    def _save_if_due(self, trainer: lightning.Trainer, phase: str, anyway: bool = False) -> None:
        pause = max(self._seconds, self._cost_seconds / LARGEST_SHARE) if self._seconds > 0 else 0.0
        due = anyway or time.monotonic() - self._saved_at >= pause
        if trainer.world_size > 1:  # clocks differ, and all must save together
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due:
            self.save(trainer, phase)

    def save(self, trainer: lightning.Trainer, phase: str) -> None:
        """Write a checkpoint of this moment, which must be a boundary."""
        begun = time.monotonic()
        self._recorder.settle(trainer)
        self._before_saving()
        place = self._checkpoints.place(trainer.fit_loop.total_batch_idx + 1, phase)
        with self._averaging.own_weights() if self._averaging is not None else contextlib.nullcontext():
            state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            if phase == "trained":
                _ask_for_validation(state)
            trainer.strategy.save_checkpoint(state, place)  # within: the state refers to the weights, it is no copy
        trainer.strategy.barrier("checkpoint")
        self._saved_at = time.monotonic()
        self._cost_seconds = self._saved_at - begun


class Stopping(Callback):
    """Takes Ctrl-C and SIGTERM at the next boundary, where a checkpoint can be written; LEAVE_SECONDS later, anywhere.

    Put it behind the callbacks whose state is saved.
    """

    def __init__(self, saver: Saver | None) -> None:
        self._saver = saver
        self.asked = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Here and not earlier: Lightning has set its own handlers now, and puts back at the end what was before."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, self._insist)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            signal.setitimer(signal.ITIMER_REAL, LEAVE_SECONDS)

    def _insist(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # After the epoch's last batch comes validation, whose beginning is the next boundary.
        if _is_between_steps(trainer, batch_idx) and batch_idx + 1 < trainer.num_training_batches:
            self._stop_if_asked(trainer, "step")

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._stop_if_asked(trainer, "trained")

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.world_size == 1:  # several devices may have different numbers of batches, and would wait for ever
            self._stop_if_asked(trainer, "trained")

    def close(self) -> None:
        """Forget an interrupt that has been taken: call it when the fit is over, however it ended."""
        if threading.current_thread() is threading.main_thread():
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _stop_if_asked(self, trainer: lightning.Trainer, phase: str) -> None:
        asked = self.asked
        if trainer.world_size > 1:  # a signal may have reached one process only, and all must save together
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if not asked:
            return
        if self._saver is not None:
            self._saver.save(trainer, phase)
        raise KeyboardInterrupt


def _ask_for_validation(state: dict[str, Any]) -> None:
    """Say in a checkpoint that was taken before validation, or in it, that the whole validation is to be run.

    Lightning runs it again where its counters say that one batch was begun and not ended, and passes over it otherwise.
    """
    counters = state["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    for scope in ("total", "current"):
        counters[scope] |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}


def _is_between_steps(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Whether no gradients are in flight; Lightning also steps after an epoch's last batch."""
    batches = batch_idx + 1
    return batches % trainer.accumulate_grad_batches == 0 or batches == trainer.num_training_batches
