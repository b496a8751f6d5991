"""One fit: parameters + data -> a trained network and its history. Search and train both call it."""

import logging
import math
import os
import signal
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as lightning
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from models.build import Description
from models.classifier import Classifier
from models.losses import LOSSES, balanced_weights
from models.memoriser import Memoriser
from models.networks.shape import Shape
from models.optimizers import OPTIMIZERS
from models.schedules import SCHEDULES, Horizon, with_warmup
from models.tasks import TASKS
from pipeline import paths
from pipeline.data.answers import Answers, require_learnable
from pipeline.data.augmentation import POLICY, Policy, load_statistics, of_split
from pipeline.data.loader import Images
from pipeline.data.mixing import mixing
from pipeline.data.store import Split, open_split, read_classes, read_targets
from pipeline.errors import Mistake
from pipeline.params import Params
from pipeline.tracking.logger import SpoolLogger
from pipeline.tracking.run import Run
from pipeline.training.callbacks import Averaging, Progress, Repeatable
from pipeline.training.checkpoint import Checkpoints, Saver, Stopping
from pipeline.training.memorising import raw_pixels, require_enough, settled
from pipeline.training.network import initialised_network, started
from pipeline.training.recorder import Epoch, Fitted, Recorder


@dataclass(frozen=True)
class TrainingData:
    """What a fit reads of the earlier stages' outputs: never the test split."""

    train: Split
    validation: Split
    classes: tuple[str, ...]  # none where there are targets
    statistics: Path
    targets: tuple[str, ...] = ()  # their names
    initial: Path = paths.INITIAL  # weights to start from

    @classmethod
    def open(cls, folder: Path = Path()) -> "TrainingData":
        """What the stages prepare and augment left in `folder`. Raises Mistake where it is missing."""
        prepared = folder / paths.PREPARED
        return cls(
            train=open_split(prepared / "train"),
            validation=open_split(prepared / "validation"),
            classes=read_classes(prepared),
            statistics=folder / paths.AUGMENTED / POLICY,
            targets=read_targets(prepared),
        )

    @property
    def answers(self) -> Answers:
        """What there is to learn."""
        return Answers(self.classes, self.targets, self.train.boxes is not None)

    @property
    def shape(self) -> Shape:
        """Of the images as they are stored, with an output for each class or target."""
        _, size, _, channels = self.train.images.shape
        return Shape(channels, size, len(self.classes) or len(self.targets))

    def seen(self, params: Params) -> Shape:
        """Of the images as the network sees them, with the outputs that the loss's task asks for."""
        outputs = TASKS[params.task].outputs(len(self.classes), len(self.targets))
        return self.shape._replace(image_size=params.augment.seen(self.shape.image_size), outputs=outputs)

    def policy(self, params: Params) -> Policy:
        """Raises Mistake where augment does not fit these images."""
        statistics = load_statistics(self.statistics)
        if params.model.settings.memorises:
            return raw_pixels(params, statistics, self.shape.image_size)
        own = of_split(params.augment, self.train, self.classes)
        return Policy(params.augment, statistics, self.shape.image_size, params.seed, own)

    def learned(self, params: Params) -> Split:
        """What an epoch goes through: the training images, or what augment.copies has made of them.

        Raises Mistake where the stage augment made another number of copies.
        """
        copies = params.augment.copies
        if copies == 0:
            return self.train
        split = open_split(paths.COPIES) if paths.COPIES.is_dir() else None
        if split is None or len(split) != (1 + copies) * len(self.train):
            there = "not found" if split is None else f"{len(split)} images"
            raise Mistake(
                f"{paths.COPIES}: {there}, but augment.copies: {copies} of {len(self.train)} images make"
                f" {(1 + copies) * len(self.train)}; `dvc repro augment` writes them"
            )
        return split


def describe(params: Params, data: TrainingData) -> Description:
    """What model.yaml says of the model that `params` train on `data`."""
    params = settled(params, data.shape)
    policy = data.policy(params)
    return Description(
        network=params.model.name,
        network_settings=params.model.settings.model_dump(),
        dropout=params.dropout,
        loss=params.loss.name,
        loss_settings=params.loss.settings.model_dump(),
        classes=list(data.classes),
        targets=list(data.targets),
        image_size=data.shape.image_size,
        crop_size=params.augment.crop_size,
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
    checkpoints: Checkpoints | None = None,
) -> Fitted:
    """Train and keep the weights of the best epoch by validation.

    run: where metrics go; None: nowhere.
    on_epoch: called with each epoch's figures; what it raises ends the training and is passed on.
    checkpoints: where the fit's state is kept every train.checkpoint_seconds. If there is one, the fit goes on from the
    newest, tells `on_epoch` of the epochs before it, and ends in the bits of a fit that was never interrupted.
    Raises DivergedError, KeyboardInterrupt (Ctrl-C and SIGTERM, once the state is kept), and Mistake where the
    parameters cannot be used on these images or this machine.
    """
    require_learnable(params, data.answers)
    params, memorises = settled(params, data.shape), params.model.settings.memorises
    train, policy, learned = params.train, data.policy(params), data.learned(params)
    images = Images(
        learned,
        data.validation,
        policy,
        train.batch_size or len(learned),
        params.seed,
        train.limit_batches,
        train.channels_last,
        train.devices,
        mixing(params.augment, policy.seen, len(learned), params.seed),
        policy.after_it() if params.augment.copies > 0 else policy,
        params.task,
        as_they_lie=memorises,
    )
    network = initialised_network(params, data.seen(params))
    still = started(network, params, data.initial)
    if train.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    averaging = Averaging(network, train.ema_decay) if train.ema_decay is not None else None
    recorder = Recorder(
        network,
        averaging.weights if averaging is not None else network.state_dict,
        params.figure,
        run,
        params.tracking.log_every_steps,
        on_epoch,
        train.early_stopping_epochs,
    )
    saver = None
    if checkpoints is not None:
        flush = run.flush if run is not None else lambda: None
        saver = Saver(checkpoints, train.checkpoint_seconds, recorder, averaging, flush)
    weights = None
    if params.loss.class_weights == "balanced":
        weights = balanced_weights(torch.as_tensor(data.train.labels).long(), len(data.classes))
    stopping = Stopping(saver)
    batches_per_epoch = len(images.train_dataloader())
    if memorises:
        require_enough(params, len(learned))
        network.reserve(len(learned))  # type: ignore[operator]
        module: LightningModule = Memoriser(network, train.batch_size or len(learned))
    else:
        steps_per_epoch = math.ceil(batches_per_epoch / train.accumulate_batches)
        module = assembled(params, network, steps_per_epoch, weights)
    repeatable = Repeatable(params.seed, train.threads, still)
    callbacks: list[Callback | None] = [repeatable, averaging, recorder, stopping, saver]
    with ExitStack() as cleanup:
        cleanup.callback(stopping.close)
        if progress:
            bar = Progress(recorder, params.figure, train.epochs, batches_per_epoch)
            cleanup.callback(bar.close)
            callbacks.append(bar)
        trainer = _trainer(
            params,
            SpoolLogger(run) if run is not None else None,
            [callback for callback in callbacks if callback is not None],
            checkpoints,
        )
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(
                module,
                datamodule=images,
                ckpt_path=checkpoints.newest() if checkpoints is not None else None,
            )
            recorder.tell()  # Lightning starts nothing where a finished fit is taken up
        except SystemExit:  # what Lightning makes of an interrupt, after which it ignores further ones
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
        except Exception:  # whatever ended the fit first: an interrupt is never lost
            if stopping.asked:
                raise KeyboardInterrupt from None
            raise
        if stopping.asked:  # after the last boundary
            raise KeyboardInterrupt
    return recorder.fitted()


def assembled(
    params: Params, network: nn.Module, steps_per_epoch: int, class_weights: Tensor | None = None
) -> Classifier:
    """The Lightning module: the network with the loss, penalty, optimizer and schedule that `params` name."""
    optimizer = params.optimizer
    horizon = Horizon(params.train.epochs * steps_per_epoch, steps_per_epoch)
    schedule = with_warmup(
        SCHEDULES[params.schedule.name](params.schedule.settings, horizon),
        params.schedule.warmup_epochs * steps_per_epoch,
    )
    return Classifier(
        network,
        TASKS[params.task],
        LOSSES[params.loss.name](params.loss.settings),
        params.regularization,
        lambda module: OPTIMIZERS[optimizer.name](
            [parameter for parameter in module.parameters() if parameter.requires_grad],  # frozen ones are left alone
            optimizer.settings,
            optimizer.lr,
            optimizer.effective_momentum,
        ),
        schedule,
        params.train.clip_norm,
        class_weights,
    )


def _trainer(
    params: Params, logger: Logger | None, callbacks: list[Callback], checkpoints: Checkpoints | None
) -> lightning.Trainer:
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
            accumulate_grad_batches=train.accumulate_batches,
            logger=logger if logger is not None else False,
            callbacks=callbacks,
            plugins=checkpoints,
            deterministic=True,
            enable_checkpointing=checkpoints is not None,
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
