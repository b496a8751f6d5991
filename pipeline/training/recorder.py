"""What a fit comes to: its figures by step and epoch, when it stops, and the weights of its best epoch."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from models.catalogue import Figure
from models.classifier import StepOutput
from models.schedules import Validation
from pipeline.tracking.run import Run


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training split came to; means over its images, of the loss and of the task's figure."""

    epoch: int  # counted from 1
    step: int  # optimizer steps done at its end
    train_loss: float
    train_figure: float
    val_loss: float
    val_figure: float
    lr: float  # of its last step

    def rank(self, figure: Figure) -> tuple[float, float]:
        """Larger is better: the validation figure, then the validation loss."""
        return figure.rank(self.val_figure, self.val_loss)

    def validation(self, figure: Figure) -> Validation:
        """What schedules look at: of a share of right answers the rest, the error."""
        return Validation(self.val_loss, 1 - self.val_figure if figure.larger_is_better else self.val_figure)


@dataclass(frozen=True)
class Fitted:
    """A network with the weights of its best epoch by validation."""

    network: nn.Module
    history: tuple[Epoch, ...]
    best: Epoch


class DivergedError(Exception):
    """A loss became infinite or not a number. `fitted` is the best so far; None before the first validation."""

    def __init__(self, phase: str, step: int, lr: float, loss: float, fitted: Fitted | None) -> None:
        super().__init__(f"the {phase} loss became {loss} at step {step}, learning rate {lr:.6g}")
        self.step, self.lr, self.loss, self.fitted = step, lr, loss, fitted


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of their own, which the next step leaves alone."""
    return {name: value.detach().clone() for name, value in weights.items()}


class _Sums:
    """Sums over a phase's images, kept on the device until asked for."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Tensor, int]] = []
        self._clear()

    def _clear(self) -> None:
        self._loss = 0.0
        self._figure = 0.0
        self.images = 0

    def add(self, output: StepOutput) -> None:
        self._waiting.append((output["data_loss"], output["figure"], output["images"]))

    def settle(self, trainer: lightning.Trainer | None = None) -> list[tuple[float, float]]:
        """Fetch what was added since the last time, in one transfer: mean loss and figure of each batch.

        With `trainer`, of the whole batch on all devices, whose shares are equal; every device must call it then, and
        sees the same.
        """
        if not self._waiting:
            return []
        losses, totals, images = zip(*self._waiting, strict=True)
        shares = torch.stack([torch.stack(losses), torch.stack(totals).float()])  # 2, batches
        if trainer is not None and trainer.world_size > 1:
            shares = trainer.strategy.reduce(shares, reduce_op="mean")
        figures = shares.tolist()
        self._waiting.clear()
        for loss, total, count in zip(*figures, images, strict=True):
            self._loss += loss * count
            self._figure += total
            self.images += count
        return [(loss, total / count) for loss, total, count in zip(*figures, images, strict=True)]

    def means(self, trainer: lightning.Trainer) -> tuple[float, float]:
        """Mean loss and figure over the phase's images, on all devices."""
        self.settle()
        sums = [self._loss, self._figure, float(self.images)]
        if trainer.world_size > 1:
            total = torch.tensor(sums, dtype=torch.float64, device=trainer.strategy.root_device)
            sums = trainer.strategy.reduce(total, reduce_op="sum").tolist()
        self._clear()
        return sums[0] / sums[2], sums[1] / sums[2]

    def state(self) -> list[float]:
        """Call when nothing waits."""
        return [self._loss, self._figure, self.images]

    def load(self, state: Sequence[float]) -> None:
        self._loss, self._figure, self.images = state[0], state[1], int(state[2])


class Recorder(Callback):
    """Counts, logs, stops early or at a loss that is not finite, and keeps the weights of the best epoch."""

    def __init__(
        self,
        network: nn.Module,
        weights: Callable[[], Mapping[str, Tensor]],
        figure: Figure,
        run: Run | None,
        log_every_steps: int,
        on_epoch: Callable[[Epoch], None] | None,
        early_stopping_epochs: int | None = None,
    ) -> None:
        """weights: those that validation sees, by name, of which the best epoch's are kept. figure: of the task."""
        self._network = network
        self._named = figure
        self._run = run
        self._log_every_steps = log_every_steps
        self._on_epoch = on_epoch
        self._early_stopping_epochs = early_stopping_epochs
        self._weights = weights
        self._train, self._val = _Sums(), _Sums()
        self._places: list[tuple[int, float]] = []  # step and learning rate of each batch that `_train` has not settled
        self._unlogged: list[tuple[int, float, float, float]] = []  # settled batches: step, learning rate, loss, figure
        self._steps_done = self._logged_step = 0
        self._validated: tuple[float, float] = (math.nan, math.nan)
        self.history: list[Epoch] = []
        self._told = 0  # of them, to `on_epoch`
        self._best: Epoch | None = None
        self._best_weights: dict[str, Tensor] = {}
        self._last_lr = math.nan
        self._started = self._validating = 0.0
        self._images_before = 0  # of this epoch, counted before it was resumed

    def fitted(self) -> Fitted:
        """The network with its best weights loaded. Call after at least one epoch."""
        assert self._best is not None
        self._network.load_state_dict(self._best_weights)
        return Fitted(self._network, tuple(self.history), self._best)

    # --- what a checkpoint holds --------------------------------------------------------------------------------------

    def settle(self, trainer: lightning.Trainer) -> None:
        """Fetch the waiting batches' figures. Raises DivergedError at the first loss that is not finite.

        When it is called changes nothing of what is counted or logged, so that a checkpoint may call it at any step.
        """
        for (step, lr), (loss, figure) in zip(self._places, self._train.settle(trainer), strict=True):
            if not math.isfinite(loss):
                raise self._diverged("training", step, lr, loss)
            self._unlogged.append((step, lr, loss, figure))
            self._last_lr = lr
        self._places.clear()

    def state_dict(self) -> dict[str, Any]:
        """All of it in plain containers and tensors; call after `settle`."""
        return {
            "train": self._train.state(),
            "unlogged": [list(figures) for figures in self._unlogged],
            "logged_step": self._logged_step,
            "last_lr": self._last_lr,
            "history": [list(dataclasses.astuple(epoch)) for epoch in self.history],
            "best": None if self._best is None else self._best.epoch,
            "best_weights": self._best_weights,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._train.load(state_dict["train"])
        self._images_before = self._train.images
        self._unlogged = [(step, lr, loss, figure) for step, lr, loss, figure in state_dict["unlogged"]]
        self._logged_step = state_dict["logged_step"]
        self._last_lr = state_dict["last_lr"]
        self.history = [Epoch(*figures) for figures in state_dict["history"]]
        self._best = None if state_dict["best"] is None else self.history[state_dict["best"] - 1]
        self._best_weights = dict(state_dict["best_weights"])

    # --- hooks --------------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._started = time.perf_counter()  # an epoch that is resumed does not start again
        self._steps_done = trainer.global_step
        pl_module.validations[:] = [epoch.validation(self._named) for epoch in self.history]
        self.tell()  # whoever follows the epochs starts anew too
        trainer.should_stop = trainer.should_stop or self._is_stopping()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._started = time.perf_counter()
        self._images_before = 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        stepped = step > self._steps_done  # otherwise gradients are being accumulated for the step to come
        self._train.add(outputs)
        self._places.append((step if stepped else step + 1, float(trainer.optimizers[0].param_groups[0]["lr"])))
        if stepped:
            self._steps_done = step
            if step - self._logged_step >= self._log_every_steps:
                self._log(trainer)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._val.add(outputs)

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._validating = time.perf_counter()
        self._log(trainer)  # a loss that is not finite is reported as training's, at its step

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._validated = self._val.means(trainer)
        if not math.isfinite(self._validated[0]):  # the last step spoilt the weights; no later one will say so
            raise self._diverged("validation", trainer.global_step, self._last_lr, self._validated[0])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        images = self._train.images - self._images_before  # of this device, since the epoch was started or resumed
        train_loss, train_figure = self._train.means(trainer)
        epoch = Epoch(
            epoch=trainer.current_epoch + 1,
            step=trainer.global_step,
            train_loss=train_loss,
            train_figure=train_figure,
            val_loss=self._validated[0],
            val_figure=self._validated[1],
            lr=self._last_lr,
        )
        self.history.append(epoch)
        pl_module.validations.append(epoch.validation(self._named))
        if self._best is None or epoch.rank(self._named) > self._best.rank(self._named):
            self._best = epoch
            self._best_weights = copied(self._weights())
        if trainer.logger is not None:
            trainer.logger.log_metrics(
                {
                    "epoch": epoch.epoch,
                    "train/loss": epoch.train_loss,
                    f"train/{self._named.name}": epoch.train_figure,
                    "val/loss": epoch.val_loss,
                    f"val/{self._named.name}": epoch.val_figure,
                },
                step=epoch.step,
            )
        if self._run is not None and images:
            rate = images / (self._validating - self._started)
            self._run.log_measurements({"train/images_per_second": rate}, step=epoch.step)
        self.tell()
        trainer.should_stop = trainer.should_stop or self._is_stopping()

    def tell(self) -> None:
        """Tell `on_epoch` of the epochs that it has not been told of."""
        while self._told < len(self.history):
            self._told += 1
            if self._on_epoch is not None:
                self._on_epoch(self.history[self._told - 1])

    def _is_stopping(self) -> bool:
        """Whether `early_stopping_epochs` epochs have brought no better validation loss."""
        if self._early_stopping_epochs is None or not self.history:
            return False
        lowest = min(self.history, key=lambda epoch: epoch.val_loss)
        return self.history[-1].epoch - lowest.epoch >= self._early_stopping_epochs

    def _diverged(self, phase: str, step: int, lr: float, loss: float) -> DivergedError:
        return DivergedError(phase, step, lr, loss, self.fitted() if self._best is not None else None)

    def _log(self, trainer: lightning.Trainer) -> None:
        """Log the last step's figures: the mean over its batches, of which gradient accumulation makes several."""
        self.settle(trainer)
        if not self._unlogged:
            return
        step, lr, _, _ = self._unlogged[-1]
        batches = [figures for figures in self._unlogged if figures[0] == step]
        self._unlogged.clear()
        self._logged_step = step
        if trainer.logger is not None:
            loss, figure = (sum(figures[i] for figures in batches) / len(batches) for i in (2, 3))
            named = {"train/loss_step": loss, f"train/{self._named.name}_step": figure, "lr": lr}
            trainer.logger.log_metrics(named, step=step)
