"""What goes on around the steps of a fit, as Lightning's callbacks: what repeats, what is averaged, what is shown."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from models.catalogue import Figure
from pipeline import seeding
from pipeline.training.recorder import Recorder, copied

_SIGN_OF_LIFE_SECONDS = 30.0  # where there is no terminal, and so no bar


class Repeatable(Callback):
    """Dropout's numbers as a function of (seed, batch): what was drawn before does not matter; torch's threads."""

    def __init__(self, seed: int, threads: int) -> None:
        self._seed = seed
        self._threads = threads

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        torch.set_num_threads(self._threads)  # here: where there may be several processes, Lightning sets its own

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        batches_done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx
        number = seeding.number(self._seed, "step", batches_done, trainer.global_rank)
        # Not torch.manual_seed: for each kind of device that is not in use it keeps the call and a formatted traceback
        # for later, which costs a step 0.5 ms and memory without end.
        torch.default_generator.manual_seed(number)
        device = trainer.strategy.root_device.type
        if device == "cuda":
            torch.cuda.manual_seed(number)
        elif device == "mps":
            torch.mps.manual_seed(number)


class Averaging(Callback):
    """The exponential moving average of the weights, which takes their place in validation and is what is kept.

    After step t the average moves by 1 - min(decay, (1 + t) / (10 + t)) towards the weights: the bound lets a young
    average forget the first weights (TensorFlow's ExponentialMovingAverage). Running statistics are averaged likewise.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network = network
        self._decay = decay
        self._average: dict[str, Tensor] = {}
        self._swapped = False
        self._steps_done = 0

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, by name, as the network's state_dict has them."""
        return self._average

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not self._average:
            self._average = copied(self._network.state_dict())
        for name, value in self._network.state_dict().items():
            self._average[name] = self._average[name].to(value.device)
        self._steps_done = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._steps_done:  # gradients are being accumulated
            return
        self._steps_done = step = trainer.global_step
        weights = self._network.state_dict()
        moving = [name for name, value in weights.items() if value.is_floating_point()]
        decay = min(self._decay, (1 + step) / (10 + step))
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move([self._average[name] for name in moving], [weights[name] for name in moving], step)
        for name in weights.keys() - set(moving):
            self._average[name].copy_(weights[name])

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._swap()

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._swap()

    @contextmanager
    def own_weights(self) -> Iterator[None]:
        """The network with its own weights, also within validation."""
        swapped = self._swapped
        if swapped:
            self._swap()
        yield
        if swapped:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._average = dict(state_dict["average"])

    def _swap(self) -> None:
        with torch.no_grad():
            for name, value in self._network.state_dict().items():
                own = value.clone()
                value.copy_(self._average[name])
                self._average[name].copy_(own)
        self._swapped = not self._swapped


class Progress(Callback):
    """One bar for the whole fit: Lightning's own draws two for every epoch. A line now and then without a terminal."""

    def __init__(self, recorder: Recorder, figure: Figure, epochs: int, batches_per_epoch: int) -> None:
        self._recorder = recorder
        self._figure = figure
        self._epochs = epochs
        self._said_at = time.monotonic()
        self._bar = tqdm(total=epochs * batches_per_epoch, desc="train", unit="batch", disable=None, mininterval=0.2)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        done = trainer.fit_loop.total_batch_idx + 1  # more than none in a fit that is resumed
        if done > 0:
            print(f"train: goes on at step {trainer.global_step}", flush=True)
        self._bar.initial = self._bar.n = self._bar.last_print_n = done

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._bar.update()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        epoch = self._recorder.history[-1]
        text = (
            f"epoch {epoch.epoch}/{self._epochs}, loss {epoch.train_loss:.4f},"
            f" validation {self._figure.title} {epoch.val_figure:.4f}"
        )
        self._bar.set_postfix_str(text, refresh=False)
        if self._bar.disable and time.monotonic() - self._said_at >= _SIGN_OF_LIFE_SECONDS:
            self._said_at = time.monotonic()
            print(f"train: {text}", flush=True)

    def close(self) -> None:
        """Leave the bar as it stands and give the line back."""
        self._bar.close()
