"""Each transform alone at low, middle and high strength: for the preview sheet, and for tests that hold for all."""

from typing import Any, NamedTuple

from pipeline.params import Augment

_STRENGTHS: dict[str, tuple[float, ...]] = {
    "crop_padding": (1 / 16, 1 / 8, 1 / 4),
    "resized_crop": (0.3, 0.6, 0.9),
    "horizontal_flip": (True,),
    "alternating_flip": (True,),
    "vertical_flip": (True,),
    "rotation_degrees": (10.0, 30.0, 90.0),
    "scale": (0.1, 0.3, 0.6),
    "shear_degrees": (5.0, 15.0, 30.0),
    "translation": (0.05, 0.15, 0.3),
    "perspective": (0.05, 0.12, 0.24),
    "elastic": (0.02, 0.04, 0.08),
    "brightness": (0.1, 0.2, 0.4),
    "contrast": (0.2, 0.5, 0.9),
    "saturation": (0.2, 0.5, 1.0),
    "hue_degrees": (15.0, 45.0, 120.0),
    "pca_shift": (0.1, 0.5, 2.0),
    "blur": (1 / 96, 1 / 48, 1 / 24),
    "noise": (0.05, 0.1, 0.2),
    "distractors": (1, 3, 6),
    "border": (0.08, 0.16, 0.3),
    "cutout_size": (1 / 8, 1 / 4, 1 / 2),
    "erasing": (0.1, 0.25, 0.5),
}
_SHARES_OF_THE_SIDE = ("crop_padding", "cutout_size", "blur")  # whose keys are in pixels
_COLOUR_ONLY = ("saturation", "hue_degrees", "pca_shift")
_OF_ONE_PIXEL = ("brightness", "contrast", "noise", *_COLOUR_ONLY)  # what changes an image of one pixel and leaves it
_MAGNITUDES = (0.25, 0.5, 1.0)
_ALPHAS = {"mixup": (0.1, 0.4, 2.0), "cutmix": (0.1, 0.4, 2.0)}


class Example(NamedTuple):
    """A change of `augment` that switches on one transform."""

    strength: str  # in words
    changes: dict[str, Any]


def examples(side: int, channels: int) -> dict[str, list[Example]]:
    """By name of the transform: its strengths for images of `side` pixels, rising; what has no effect is left out."""
    found: dict[str, list[Example]] = {}
    for key, strengths in _STRENGTHS.items():
        if (channels == 3 or key not in _COLOUR_ONLY) and (side > 1 or key in _OF_ONE_PIXEL):
            values = dict.fromkeys(_value(key, strength, side) for strength in strengths)  # no two alike
            found[key] = [Example("on" if value is True else f"{value:.3g}", {key: value}) for value in values]
    if side == 1:
        return found
    found["erasing_fill: noise"] = [
        Example(example.strength, {**example.changes, "erasing_fill": "noise"}) for example in found["erasing"]
    ]
    for kind in ("trivial", "rand"):
        found[f"automatic: {kind}"] = [
            Example(f"{share:g}", {"automatic": kind, "automatic_magnitude": share}) for share in _MAGNITUDES
        ]
    return found


def mixing_examples() -> dict[str, list[Example]]:
    """By name of what mixes two images: its strengths, rising."""
    return {key: [Example(f"{alpha:g}", {key: alpha}) for alpha in alphas] for key, alphas in _ALPHAS.items()}


def _value(key: str, strength: float, side: int) -> Any:
    """The key's value, of the key's own type."""
    if key not in _SHARES_OF_THE_SIDE:
        return strength
    pixels = strength * side
    return max(1, round(pixels)) if Augment.model_fields[key].annotation is int else pixels
