"""What a data set says of its images, and whether that is what the chosen loss learns from."""

from collections.abc import Iterator
from dataclasses import dataclass

from models import catalogue
from pipeline.errors import Mistake
from pipeline.params import Augment, Params
from pipeline.paths import PARAMS

_MOVING = (
    "crop_size", "crop_padding", "resized_crop", "horizontal_flip", "alternating_flip", "vertical_flip",
    "rotation_degrees", "scale", "shear_degrees", "translation", "perspective", "elastic",
)  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """What there is to learn of each image."""

    classes: tuple[str, ...]
    targets: tuple[str, ...] = ()  # names of numbers; a set has these or classes
    boxes: bool = False


def require_learnable(params: Params, answers: Answers) -> None:
    """Raise Mistake, naming reason and remedy, where loss or network do not fit the data, or augmentation not both."""
    mistakes = list(_unfit_loss(params, answers))
    mistakes = mistakes or [*_unfit_mixing(params), *_unfit_views(params)]
    if mistakes:
        raise Mistake(*(f"{PARAMS}: {text}" for text in mistakes))


def _unfit_loss(params: Params, answers: Answers) -> Iterator[str]:
    loss, source = params.loss.name, f"data.source {params.data.source}"
    task = params.task
    if params.model.settings.memorises:  # the loss rests
        if not answers.classes:
            names = ", ".join(answers.targets)
            yield (
                f"model.name: {params.model.name} votes for classes, but {source} has targets ({names}), which are"
                f" numbers; use another network with loss.name {_losses('regression')}"
            )
    elif task == "regression":
        if not answers.targets:
            yield (
                f"loss.name: {loss} learns numbers, but {source} has {len(answers.classes)} classes and no targets; use"
                f" {_losses('classification')}, or name a table's columns of numbers (data.table.targets)"
            )
    elif not answers.classes:
        names = ", ".join(answers.targets)
        yield (
            f"loss.name: {loss} needs classes, but {source} has targets ({names}), which are numbers; use"
            f" {_losses('regression')}"
        )
    elif task == "localisation" and not answers.boxes:
        yield (
            f"loss.name: {loss} needs a box in each image, but {source} has none; use {_losses('classification')}, or"
            " name a table's columns of them (data.table.box)"
        )
    elif task == "binary" and len(answers.classes) != 2:
        yield (
            f"loss.name: {loss} tells two classes apart by one score, but {source} has {len(answers.classes)}; use"
            f" {_losses('classification')}"
        )


def _losses(task: catalogue.Task) -> str:
    names = [name for name, settings in catalogue.LOSSES.items() if settings.task == task]
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _unfit_mixing(params: Params) -> Iterator[str]:
    task = params.task
    why = {"localisation": "a mixed image has two objects, and the model finds one"}
    for key, on in (("mixup", params.augment.mixup > 0), ("cutmix", params.augment.cutmix > 0)):
        reason = why.get(task)
        if key == "cutmix" and task == "regression":
            reason = "which part of an image its numbers come from is not known; mixup can be used"
        if reason is None:
            continue
        if on:
            yield f"augment.{key}: not with loss {params.loss.name}: {reason}; set it to 0"
        if any(dimension.name == f"augment.{key}" for dimension in params.space):
            yield f"search.space.augment.{key}: not with loss {params.loss.name}: {reason}; take it out"


def _unfit_views(params: Params) -> Iterator[str]:
    if params.task == "localisation" and params.evaluate.tta != "none":
        yield (
            f"evaluate.tta: {params.evaluate.tta} averages over moved views, in each of which the box lies elsewhere;"
            f" set it to none with loss {params.loss.name}"
        )


def notice(params: Params) -> str | None:
    """What moves the pixels under targets that stay: valid, but it may surprise."""
    if params.task != "regression":
        return None
    moving = [f"augment.{key}" for key in _moving(params.augment)]
    if params.evaluate.tta != "none":
        moving.append("evaluate.tta")
    if not moving:
        return None
    verb = "moves" if len(moving) == 1 else "move"
    return (
        f"{', '.join(moving)}: {verb} the pixels, but the targets stay as they are; where a target tells where"
        " something is or how it is turned, switch this off"
    )


def _moving(augment: Augment) -> Iterator[str]:
    """The keys in force that change where pixels are."""
    off = augment.off()
    yield from (key for key in _MOVING if getattr(augment, key) != getattr(off, key))
    if augment.automatic != "none":
        yield "automatic"
