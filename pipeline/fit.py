"""One fit: parameters + data -> a trained network and its history. Search and train both call it."""

import logging
import math
import os
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from tqdm import tqdm

from models.build import Description, build_network
from models.classifier import Classifier, StepOutput
from models.losses import LOSSES
from models.networks.shape import ImageTooSmallError, Shape
from models.optimizers import OPTIMIZERS
from models.schedules import SCHEDULES, Horizon, with_warmup
from pipeline import paths, seeding
from pipeline.data.augmentation import POLICY, Policy, load_statistics
from pipeline.data.loader import Images
from pipeline.data.store import Split, open_split, read_classes
from pipeline.errors import Mistake
from pipeline.params import Params
from pipeline.tracking.logger import SpoolLogger
from pipeline.tracking.run import Run


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training split came to; means over its images."""

    epoch: int  # counted from 1
    step: int  # optimizer steps done at its end
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float  # of its last step

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: validation accuracy, then validation loss."""
        return self.val_accuracy, -self.val_loss


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


@dataclass(frozen=True)
class TrainingData:
    """What a fit reads of the earlier stages' outputs: never the test split."""

    train: Split
    validation: Split
    classes: tuple[str, ...]
    statistics: Path

    @classmethod
    def open(cls) -> "TrainingData":
        return cls(
            train=open_split(paths.PREPARED / "train"),
            validation=open_split(paths.PREPARED / "validation"),
            classes=read_classes(paths.PREPARED),
            statistics=paths.AUGMENTED / POLICY,
        )

    @property
    def shape(self) -> Shape:
        _, size, _, channels = self.train.images.shape
        return Shape(channels, size, len(self.classes))

    def policy(self, params: Params) -> Policy:
        return Policy(params.augment, load_statistics(self.statistics), self.shape.image_size, params.seed)


def describe(params: Params, data: TrainingData) -> Description:
    """What model.yaml says of the model that `params` train on `data`."""
    policy = data.policy(params)
    return Description(
        network=params.model.name,
        network_settings=params.model.settings.model_dump(),
        dropout=params.regularization.dropout,
        loss=params.loss.name,
        loss_settings=params.loss.settings.model_dump(),
        classes=list(data.classes),
        image_size=data.shape.image_size,
        channels=data.shape.channels,
        mean=policy.mean.tolist(),
        std=policy.std.tolist(),
    )


def fit(
    params: Params,
    data: TrainingData,
    *,
    run: Run | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: bool = False,
) -> Fitted:
    """Train and keep the weights of the best epoch by validation.

    run: where metrics go; None: nowhere.
    on_epoch: called with each epoch's figures; what it raises ends the training and is passed on.
    Raises DivergedError, and Mistake where the parameters cannot be used on these images or this machine.
    """
    images = Images(
        data.train,
        data.validation,
        data.policy(params),
        params.train.batch_size,
        params.seed,
        params.train.limit_batches,
        params.train.channels_last,
        params.train.devices,
    )
    network = initialised_network(params, data.shape)
    if params.train.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    recorder = Recorder(network, run, params.tracking.log_every_steps, on_epoch)
    callbacks: list[Callback] = [Repeatable(params.seed, params.train.threads), recorder]
    if params.train.early_stopping_epochs is not None:
        callbacks.append(EarlyStopping("val/loss", patience=params.train.early_stopping_epochs, check_finite=False))
    steps_per_epoch = len(images.train_dataloader())
    with ExitStack() as cleanup:
        if progress:
            bar = Progress(recorder, params.train.epochs, steps_per_epoch)
            cleanup.callback(bar.close)
            callbacks.append(bar)
        trainer = _trainer(params, SpoolLogger(run) if run is not None else None, callbacks)
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(assembled(params, network, steps_per_epoch), datamodule=images)
        except SystemExit:  # what Lightning makes of Ctrl-C and SIGTERM, after which it ignores further ones
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
    return recorder.fitted()


def initialised_network(params: Params, shape: Shape) -> nn.Module:
    """The network before its first step: a function of the seed. Raises Mistake where it does not fit the images."""
    torch.manual_seed(seeding.number(params.seed, "initialisation"))
    try:
        network = build_network(params.model.name, params.model.settings, shape, params.regularization.dropout)
    except ImageTooSmallError as error:
        raise Mistake(f"params.yaml: model.{params.model.name}: {error} (data.image_size)") from None
    train = params.train
    if train.batch_size < 2 * train.devices and any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        raise Mistake(
            f"params.yaml: train.batch_size: {train.batch_size} is one image a device, and {params.model.name}'s batch"
            " normalization needs two; raise it, or use linear or mlp"
        )
    return network


def assembled(params: Params, network: nn.Module, steps_per_epoch: int) -> Classifier:
    """The Lightning module: the network with the loss, penalty, optimizer and schedule that `params` name."""
    optimizer = params.optimizer
    horizon = Horizon(params.train.epochs * steps_per_epoch, steps_per_epoch)
    schedule = with_warmup(
        SCHEDULES[params.schedule.name](params.schedule.settings, horizon),
        params.schedule.warmup_epochs * steps_per_epoch,
    )
    return Classifier(
        network,
        LOSSES[params.loss.name](params.loss.settings),
        params.regularization,
        lambda module: OPTIMIZERS[optimizer.name](
            module.parameters(), optimizer.settings, optimizer.lr, optimizer.effective_momentum
        ),
        schedule,
    )


def _trainer(params: Params, logger: Logger | None, callbacks: list[Callback]) -> lightning.Trainer:
    for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # `retrace doctor` tells what hardware is used
    # Lightning's own use of what torch has renamed: nothing a user could mend.
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    warnings.filterwarnings("ignore", r"You passed .* but AMP with fp16 is not supported on CPU")  # refused below
    train = params.train
    try:
        trainer = lightning.Trainer(
            accelerator=train.accelerator,
            devices=train.devices,
            strategy=train.strategy,
            precision=train.precision,
            max_epochs=train.epochs,
            logger=logger if logger is not None else False,
            callbacks=callbacks,
            deterministic=True,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,  # the recorder decides itself; Lightning would warn of short epochs
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise Mistake(
            f"params.yaml: train: accelerator {train.accelerator}, devices {train.devices}, strategy {train.strategy},"
            f" precision {train.precision} cannot be used together on this machine: {error}",
            "`retrace doctor` lists what this machine has.",
        ) from None
    if trainer.precision != train.precision:  # Lightning takes bf16-mixed for 16-mixed on a CPU
        raise Mistake(
            f"params.yaml: train.precision: {train.precision} cannot be had here; use {trainer.precision} or 32-true"
        )
    return trainer


def is_helper() -> bool:
    """Whether Lightning started this process, beside the stage's own, for another device: it must only fit."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


class Repeatable(Callback):
    """Dropout's numbers as a function of (seed, step): what was drawn before does not matter; torch's threads."""

    def __init__(self, seed: int, threads: int) -> None:
        self._seed = seed
        self._threads = threads

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        torch.set_num_threads(self._threads)  # here: where there may be several processes, Lightning sets its own

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(seeding.number(self._seed, "step", trainer.global_step, trainer.global_rank))


class _Sums:
    """Sums over a phase's images, kept on the device until asked for."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Tensor, int]] = []
        self._clear()

    def _clear(self) -> None:
        self._loss = 0.0
        self._correct = 0.0
        self.images = 0

    def add(self, output: StepOutput) -> None:
        self._waiting.append((output["data_loss"], output["correct"], output["images"]))

    def settle(self, trainer: lightning.Trainer | None = None) -> list[tuple[float, float]]:
        """Fetch what was added since the last time, in one transfer: mean loss and accuracy of each batch.

        With `trainer`, of the whole batch on all devices, whose shares are equal; every device must call it then, and
        sees the same.
        """
        if not self._waiting:
            return []
        losses, corrects, images = zip(*self._waiting, strict=True)
        shares = torch.stack([torch.stack(losses), torch.stack(corrects).float()])  # 2, batches
        if trainer is not None and trainer.world_size > 1:
            shares = trainer.strategy.reduce(shares, reduce_op="mean")
        figures = shares.tolist()
        self._waiting.clear()
        for loss, correct, count in zip(*figures, images, strict=True):
            self._loss += loss * count
            self._correct += correct
            self.images += count
        return [(loss, correct / count) for loss, correct, count in zip(*figures, images, strict=True)]

    def means(self, trainer: lightning.Trainer) -> tuple[float, float]:
        """Mean loss and accuracy over the phase's images, on all devices."""
        self.settle()
        sums = [self._loss, self._correct, float(self.images)]
        if trainer.world_size > 1:
            total = torch.tensor(sums, dtype=torch.float64, device=trainer.strategy.root_device)
            sums = trainer.strategy.reduce(total, reduce_op="sum").tolist()
        self._clear()
        return sums[0] / sums[2], sums[1] / sums[2]


class Recorder(Callback):
    """Counts, logs, stops at a loss that is not finite, and keeps the weights of the best epoch."""

    def __init__(
        self, network: nn.Module, run: Run | None, log_every_steps: int, on_epoch: Callable[[Epoch], None] | None
    ) -> None:
        self._network = network
        self._run = run
        self._log_every_steps = log_every_steps
        self._on_epoch = on_epoch
        self._train, self._val = _Sums(), _Sums()
        self._rates: list[tuple[int, float]] = []  # step and learning rate of what `_train` has not settled
        self._validated: tuple[float, float] = (math.nan, math.nan)
        self.history: list[Epoch] = []
        self._best: Epoch | None = None
        self._best_weights: dict[str, Tensor] = {}
        self._last_lr = math.nan
        self._started = self._validating = 0.0

    def fitted(self) -> Fitted:
        """The network with its best weights loaded. Call after at least one epoch."""
        assert self._best is not None
        self._network.load_state_dict(self._best_weights)
        return Fitted(self._network, tuple(self.history), self._best)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self._rates.append((trainer.global_step + 1, float(optimizer.param_groups[0]["lr"])))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._train.add(outputs)
        if len(self._rates) >= self._log_every_steps:
            self._settle(trainer)

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
        self._settle(trainer)  # a loss that is not finite is reported as training's, at its step

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._validated = self._val.means(trainer)
        if not math.isfinite(self._validated[0]):  # the last step spoilt the weights; no later one will say so
            raise self._diverged("validation", trainer.global_step, self._last_lr, self._validated[0])
        pl_module.log("val/loss", self._validated[0], logger=False, sync_dist=True)  # what EarlyStopping reads

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        images = self._train.images  # of this device
        train_loss, train_accuracy = self._train.means(trainer)
        epoch = Epoch(
            epoch=trainer.current_epoch + 1,
            step=trainer.global_step,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=self._validated[0],
            val_accuracy=self._validated[1],
            lr=self._last_lr,
        )
        self.history.append(epoch)
        if self._best is None or epoch.rank > self._best.rank:
            self._best = epoch
            self._best_weights = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        if trainer.logger is not None:
            trainer.logger.log_metrics(
                {
                    "epoch": epoch.epoch,
                    "train/loss": epoch.train_loss,
                    "train/accuracy": epoch.train_accuracy,
                    "val/loss": epoch.val_loss,
                    "val/accuracy": epoch.val_accuracy,
                },
                step=epoch.step,
            )
        if self._run is not None:
            rate = images / (self._validating - self._started)
            self._run.log_measurements({"train/images_per_second": rate}, step=epoch.step)
        if self._on_epoch is not None:
            self._on_epoch(epoch)

    def _diverged(self, phase: str, step: int, lr: float, loss: float) -> DivergedError:
        return DivergedError(phase, step, lr, loss, self.fitted() if self._best is not None else None)

    def _settle(self, trainer: lightning.Trainer) -> None:
        """Fetch the waiting steps' figures, log the last, and stop at the first that is not finite."""
        figures = self._train.settle(trainer)
        for (step, lr), (loss, _) in zip(self._rates, figures, strict=True):
            if not math.isfinite(loss):
                raise self._diverged("training", step, lr, loss)
        if not figures:
            return
        (step, lr), (loss, accuracy) = self._rates[-1], figures[-1]
        self._rates.clear()
        self._last_lr = lr
        if trainer.logger is not None:
            trainer.logger.log_metrics({"train/loss_step": loss, "train/accuracy_step": accuracy, "lr": lr}, step=step)


class Progress(Callback):
    """One bar for the whole fit: Lightning's own draws two for every epoch. Silent where stderr is no terminal."""

    def __init__(self, recorder: Recorder, epochs: int, steps_per_epoch: int) -> None:
        self._recorder = recorder
        self._epochs = epochs
        self._bar = tqdm(total=epochs * steps_per_epoch, desc="train", unit="step", disable=None, mininterval=0.2)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._bar.update()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        epoch = self._recorder.history[-1]
        self._bar.set_postfix_str(
            f"epoch {epoch.epoch}/{self._epochs}, loss {epoch.train_loss:.4f},"
            f" validation accuracy {epoch.val_accuracy:.4f}",
            refresh=False,
        )

    def close(self) -> None:
        """Leave the bar as it stands and give the line back."""
        self._bar.close()
