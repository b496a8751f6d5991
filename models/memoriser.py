"""The Lightning module of a network that memorises: one pass over the training images, no loss and no optimizer."""

from typing import Any, cast

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.classifier import StepOutput
from models.schedules import Validation


class Memoriser(lightning.LightningModule):
    """Hands raw images (N, C, H, W) and labels (N,) to the network's `memorise`, batch by batch, in their order."""

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        """batch_size: of all batches but the last, so that a batch's number says where it belongs."""
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self._batch_size = batch_size
        self.validations: list[Validation] = []  # of the epoch, once it is done

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network(images))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        images, labels = batch
        cast(Any, self.network).memorise(images, labels, batch_index * self._batch_size)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> StepOutput:
        """The loss is the cross-entropy of the network's log-probabilities."""
        images, labels = batch
        scores = self.network(images)
        loss = functional.nll_loss(scores, labels)
        correct = (scores.argmax(1) == labels).sum()
        return {"loss": loss, "data_loss": loss, "figure": correct, "images": len(images)}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return []
