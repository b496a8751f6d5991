"""Whole batches from the packed arrays: no per-sample Python, no worker processes."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytorch_lightning as lightning
import torch
from numpy.typing import NDArray

from models.catalogue import Task
from models.losses import Located, Mixture, Targets, on
from pipeline import seeding
from pipeline.data.augmentation import Maps, Policy, render
from pipeline.data.augmentation.targets import moved_boxes
from pipeline.data.mixing import Masks, Mixing, mixed
from pipeline.data.store import Rows, Split, reading_ahead
from pipeline.errors import Mistake

if TYPE_CHECKING:
    from torch import Tensor


class RawBatch:
    """What crosses to the device: bytes, targets, and what is to be done to them there.

    Not a tuple: in one, Lightning would round the maps to the network's precision, and eight bits place no pixel.
    """

    def __init__(
        self, images: "Tensor", targets: "Tensor | Located", maps: Maps, mix: "tuple[RawBatch, Masks] | None" = None
    ) -> None:
        self.images = images  # B, H, W, C uint8
        self.targets = targets  # labels (B int64), numbers (B, T float32), or labels and boxes
        self.maps = maps
        self.mix = mix  # what is mixed into each image, and how

    def rendered(self) -> "tuple[Tensor, Targets]":
        """The network's float32 inputs (B, C, H, W) and targets, computed on the device where this batch is."""
        images = render(self.images, self.maps)
        if self.mix is None:
            return images, self.targets
        partners, masks = self.mix
        assert not isinstance(self.targets, Located)  # answers.require_learnable: nothing is mixed there
        assert not isinstance(partners.targets, Located)
        return mixed(images, render(partners.images, partners.maps), masks), Mixture(
            self.targets, partners.targets, masks.shares
        )

    def to(self, device: torch.device) -> "RawBatch":
        """This batch on `device`; Lightning calls it."""
        mix = (self.mix[0].to(device), self.mix[1].to(device)) if self.mix is not None else None
        return RawBatch(self.images.to(device), on(self.targets, device), self.maps.to(device), mix)


def _labels(split: Split, samples: NDArray[np.int64], maps: Maps) -> "Tensor":
    return torch.from_numpy(split.labels[samples])


def _numbers(split: Split, samples: NDArray[np.int64], maps: Maps) -> "Tensor":
    """Numbers stay as they are, whatever moves the pixels."""
    assert split.targets is not None
    return torch.from_numpy(split.targets[samples]).float()


def _located(split: Split, samples: NDArray[np.int64], maps: Maps) -> Located:
    """Boxes move along with the pixels, and are clipped to what is seen.

    One that is moved out of sight is a line or a corner at the edge beyond which it lies: an image always has its box.
    """
    assert split.boxes is not None
    stored = split.images.shape[1]
    edges = moved_boxes(split.boxes[samples].astype(np.float64), maps, stored).edges / (maps.side or stored)
    return Located(torch.from_numpy(split.labels[samples]), torch.from_numpy(edges).float())


TARGETS: "dict[Task, Callable[[Split, NDArray[np.int64], Maps], Tensor | Located]]" = {
    "classification": _labels,
    "binary": _labels,
    "regression": _numbers,
    "localisation": _located,
}


class Batches:
    """The batches of one split, in an order and with an augmentation that are functions of (seed, epoch).

    With several devices, each takes every `world`-th image of each batch: together they see what one would.
    """

    batch_sampler = None  # Lightning asks every loader that has a `sampler` for one

    def __init__(
        self,
        split: Split,
        policy: Policy,
        batch_size: int,
        *,
        training: bool,
        mixing: Mixing | None = None,
        seed: int = 0,
        limit: int | None = None,
        rank: int = 0,
        world: int = 1,
        task: Task = "classification",
    ) -> None:
        """mixing: of the images in training. limit: at most that many batches an epoch. task: whose targets come along.

        Raises Mistake where a device would get no image.
        """
        if len(split) < world:
            raise Mistake(f"params.yaml: train.devices: {world}, but {split.folder} has {len(split)} images; use fewer")
        if batch_size < world:
            raise Mistake(f"params.yaml: train.batch_size: {batch_size} is less than train.devices, {world}; raise it")
        self._split = split
        self._policy = policy
        self._batch_size = batch_size
        self._training = training
        self._mixing = mixing if training else None
        self._seed = seed
        self._rank, self._world = rank, world
        self._targets = TARGETS[task]
        whole, rest = divmod(len(split), batch_size)
        # In training every device needs a share of every batch (they wait for one another), and batch normalization
        # more than one image: a smaller rest joins the batch before it. In validation a device without a share of the
        # rest has one batch less.
        self._whole_epoch = max(1, whole + (rest >= max(2, world))) if training else whole + (rest > rank)
        self._batches = self._whole_epoch if limit is None else min(self._whole_epoch, limit)
        self.epoch = 0
        self._taken = 0  # batches of this epoch that were handed out
        self._resumed = (-1, 0)  # epoch, and how many of its batches to pass over

    @property
    def sampler(self) -> "Batches":
        """Lightning tells the epoch to a loader's `sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """How far this epoch is; Lightning puts it into a checkpoint."""
        return {"epoch": self.epoch, "taken": self._taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on within the epoch that `state` tells of; any other epoch is whole."""
        self._resumed = (state["epoch"], state["taken"])

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[RawBatch]:
        epoch = self.epoch
        self._taken = self._resumed[1] if self._resumed[0] == epoch else 0
        batches = self._samples(epoch)[self._taken :]
        with reading_ahead(self._split.images, self._requests(epoch, batches)) as images:
            for samples in batches:
                self._taken += 1
                yield self._batch(images, epoch, samples)

    def _samples(self, epoch: int) -> list[NDArray[np.int64]]:
        """The images of each batch of an epoch, this device's share."""
        size = len(self._split)
        order = seeding.permutation(self._seed, "order", epoch, size) if self._training else np.arange(size)
        batches = []
        for index in range(self._batches):
            ends = self._training and index == self._whole_epoch - 1
            stop = size if ends else (index + 1) * self._batch_size
            samples = order[index * self._batch_size : stop]
            shared = len(samples) - len(samples) % self._world if self._training else len(samples)
            batches.append(samples[self._rank : shared : self._world])
        return batches

    def _requests(self, epoch: int, batches: list[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """What `_batch` will ask for."""
        for samples in batches:
            yield samples
            if self._mixing is not None:
                yield self._mixing.partners(epoch, samples)

    def _batch(self, images: Rows, epoch: int, samples: NDArray[np.int64]) -> RawBatch:
        batch = self._gathered(images, epoch, samples)
        if self._mixing is not None:
            partners, masks = self._mixing.draw(epoch, samples)
            batch.mix = self._gathered(images, epoch, partners), masks
        return batch

    def _gathered(self, images: Rows, epoch: int, samples: NDArray[np.int64]) -> RawBatch:
        if self._training:
            pixels, maps = self._policy.augmented(images, epoch, samples)
        else:
            pixels, maps = self._policy.plain(images, samples)
        return RawBatch(torch.from_numpy(pixels), self._targets(self._split, samples, maps), maps)


class Images(lightning.LightningDataModule):
    """Training and validation batches, rendered on the device they are trained on."""

    def __init__(
        self,
        train: Split,
        validation: Split,
        policy: Policy,
        batch_size: int,
        seed: int,
        limit: int | None,
        channels_last: bool,
        devices: int = 1,
        mixing: Mixing | None = None,
        train_policy: Policy | None = None,
        task: Task = "classification",
    ) -> None:
        """train_policy: of the training images, where `policy` is of the validation images alone."""
        super().__init__()
        self._train, self._validation = train, validation
        self._policy, self._train_policy = policy, train_policy or policy
        self._batch_size = batch_size
        self._seed = seed
        self._limit = limit
        self._devices = devices
        self._mixing = mixing
        self._task = task
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def train_dataloader(self) -> Batches:
        return self._batches(self._train, self._batch_size, training=True)

    def val_dataloader(self) -> Batches:
        # No gradients are kept, so larger batches fit; the size does not change what is computed for an image.
        return self._batches(self._validation, max(self._batch_size, 256), training=False)

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> "tuple[Tensor, Targets]":
        images, targets = batch.rendered()
        if self.trainer is not None:
            images = self.trainer.precision_plugin.convert_input(images)  # as Lightning does to inputs it knows
        return images.contiguous(memory_format=self._memory_format), targets

    def _batches(self, split: Split, batch_size: int, training: bool) -> Batches:
        rank = self.trainer.global_rank if self.trainer is not None else 0
        return Batches(
            split,
            self._train_policy if training else self._policy,
            batch_size,
            training=training,
            mixing=self._mixing,
            seed=self._seed,
            limit=self._limit,
            rank=rank,
            world=self._devices,
            task=self._task,
        )
