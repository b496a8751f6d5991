"""What a network that memorises makes of the parameters, and of their pixels."""

import dataclasses

from models.networks.shape import Shape
from pipeline.data.augmentation import Policy, Statistics
from pipeline.data.store import rows_a_block
from pipeline.errors import Mistake
from pipeline.params import Params

_MOST = 8192  # images in a batch


def settled(params: Params, shape: Shape) -> Params:
    """`params` with what such a network needs in the place of what has no meaning for it; others as they are.

    One pass on one device, in batches that memory has room for. The loss by which it is judged is the cross-entropy.
    shape: of the stored images.
    """
    if not params.model.settings.memorises:
        return params
    train = {
        "epochs": 1,
        "batch_size": min(_MOST, rows_a_block((shape.image_size, shape.image_size, shape.channels))),
        "accumulate_batches": 1,
        "limit_batches": None,
        "early_stopping_epochs": None,
        "ema_decay": None,
        "devices": 1,
        "strategy": "auto",
        "precision": "32-true",
        "channels_last": False,
    }
    return params.overlaid(
        {
            "train": train,
            "loss": {"name": "softmax", "softmax": {"label_smoothing": 0.0}},
            "regularization": {"dropout": 0.0},
        }
    )


def raw_pixels(params: Params, statistics: Statistics, image_size: int) -> Policy:
    """Of images whose network sees the bytes themselves: the centre of augment.crop_size, and nothing else."""
    settings = params.augment.off().model_copy(
        update={"normalization": "channel", "crop_size": params.augment.crop_size}
    )
    channels = len(statistics.mean)
    bytes_ = dataclasses.replace(statistics, mean=(0.0,) * channels, std=(1 / 255,) * channels)
    return Policy(settings, bytes_, image_size, params.seed)


def require_enough(params: Params, images: int) -> None:
    """Raise Mistake where neighbours are asked for that so many training images do not have."""
    if params.model.settings.memorises and params.model.settings.k > images:
        name, k = params.model.name, params.model.settings.k
        raise Mistake(
            f"params.yaml: model.{name}.k: {k} neighbours of {images} training images; lower it to at most {images}"
        )
