"""The learning-rate schedules and their settings; the code is models/schedules.py."""

from typing import Literal

from models.catalogue.settings import Settings, setting


class Constant(Settings):
    """The rate stays where it is."""


class Step(Settings):
    """The rate is multiplied by `factor` after every `every_epochs` epochs."""

    every_epochs: int = setting("epochs between two drops", ge=1)
    factor: float = setting("what the rate is multiplied by", gt=0, le=1, search=(0.1, 0.9))


class Cosine(Settings):
    """Half a cosine from the rate down to `final_fraction` of it (Loshchilov & Hutter 2017, without restarts)."""

    final_fraction: float = setting("the last rate as a fraction of optimizer.lr", ge=0, le=1)


class OneCycle(Settings):
    """Up from `initial_fraction` to the rate, then down to `final_fraction`, both linearly (Smith & Topin 2018)."""

    rise: float = setting("share of all steps spent rising", gt=0, lt=1, search=(0.1, 0.5))
    initial_fraction: float = setting("the first rate as a fraction of optimizer.lr", ge=0, le=1)
    final_fraction: float = setting("the last rate as a fraction of optimizer.lr", ge=0, le=1)


class Plateau(Settings):
    """The rate is multiplied by `factor` when the validation loss, or error, has stopped falling."""

    monitor: Literal["loss", "error"] = setting("which figure of validation; error: the share of wrong answers")
    patience_epochs: int = setting("epochs without a lower figure before a drop", ge=0, search=(1, 10))
    factor: float = setting("what the rate is multiplied by", gt=0, lt=1, search=(0.1, 0.9))


SCHEDULES: dict[str, type[Settings]] = {
    "constant": Constant,
    "step": Step,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "plateau": Plateau,
}
