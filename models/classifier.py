"""The Lightning module: network + objective + optimizer, one step for the three phases."""

from collections.abc import Callable
from typing import Literal, TypedDict

import pytorch_lightning as lightning
from torch import Tensor, nn, optim

from models.catalogue import Regularization
from models.losses import Loss, Targets, data_loss
from models.regularizers import matrices, penalized, penalty, project
from models.schedules import Schedule, Validation
from models.tasks import Task

Phase = Literal["train", "val", "test"]
Batch = tuple[Tensor, Targets]


class StepOutput(TypedDict):
    """What callbacks read from a step: scalars on the batch's device, all but `loss` detached."""

    loss: Tensor  # the whole objective
    data_loss: Tensor  # mean over the batch, without the penalty
    figure: Tensor  # the task's figure, summed over the batch: of classification, how many are right
    images: int


class Classifier(lightning.LightningModule):
    """Learns outputs, such as scores (N, classes), from normalised images (N, C, H, W) and the task's targets."""

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        loss: Loss,
        regularization: Regularization,
        optimizer: Callable[[nn.Module], optim.Optimizer],
        schedule: Schedule,
        clip_norm: float | None,
    ) -> None:
        """schedule: maps the number of optimizer steps done, and `validations`, to the factor on the learning rate.
        clip_norm: the largest norm of a step's whole gradient; None: any.
        """
        super().__init__()
        self.network = network
        self._task = task
        self._loss = loss
        self._regularization = regularization
        self._optimizer = optimizer
        self._schedule = schedule
        self._clip_norm = clip_norm
        self._penalized = penalized(network, regularization)
        self.validations: list[Validation] = []  # of the epochs done: whoever validates appends to it

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)  # type: ignore[no-any-return]

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Set the learning rate: a function of the step, it needs no scheduler whose state might be lost."""
        factor = self._schedule(self.trainer.global_step, self.validations)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * factor

    def training_step(self, batch: Batch, batch_index: int) -> StepOutput:
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, batch_index: int) -> StepOutput:
        return self._step(batch, "val")

    def test_step(self, batch: Batch, batch_index: int) -> StepOutput:
        return self._step(batch, "test")

    def _step(self, batch: Batch, phase: Phase) -> StepOutput:
        images, targets = batch
        outputs = self.network(images)
        loss = data_loss(self._loss, outputs.float(), targets).mean()  # float32 also under bf16: sums of exponentials
        penalty_ = penalty(self._penalized, self._regularization) if phase == "train" else None
        return {
            "loss": loss if penalty_ is None else loss + penalty_,
            "data_loss": loss.detach(),
            "figure": self._task.total(outputs.detach(), targets),
            "images": len(images),
        }

    def configure_optimizers(self) -> optim.Optimizer:
        optimizer = self._optimizer(self.network)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        if (radius := self._regularization.max_norm) is not None:
            held = matrices(self.network)
            optimizer.register_step_post_hook(lambda *_: project(held, radius))
        return optimizer

    def configure_gradient_clipping(
        self,
        optimizer: optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Scale the gradient of the whole objective, as it is before the step, down to `clip_norm` (Pascanu 2013).

        Of accumulated batches that is the mean of their gradients. Lightning calls it, and would itself refuse fused
        optimizers even where nothing scales the loss.
        """
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._clip_norm)
