"""Copies of one picture in two splits: what is trained on must not be tested or chosen on."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.raw.base import SPLITS, TEST, TRAIN, VALIDATION

_TRAIN, _VALIDATION, _TEST = (SPLITS.index(split) for split in (TRAIN, VALIDATION, TEST))


class Leaks(NamedTuple):
    """Of N images, those with a copy in another split; a near copy counts where there is no exact one."""

    tested_exact: NDArray[np.bool_]  # N: test images with a copy in train or validation
    tested_near: NDArray[np.bool_]
    chosen_exact: NDArray[np.bool_]  # N: validation images with a copy in train
    chosen_near: NDArray[np.bool_]
    surplus: NDArray[np.bool_]  # N: those without which there would be no leak; never a test image

    @property
    def total(self) -> int:
        """Test and validation images with a copy in a split before theirs."""
        return int(self.tested.sum() + self.chosen.sum())

    def __bool__(self) -> bool:
        return bool(self.surplus.any())

    @property
    def tested(self) -> NDArray[np.bool_]:
        return self.tested_exact | self.tested_near

    @property
    def chosen(self) -> NDArray[np.bool_]:
        return self.chosen_exact | self.chosen_near


def find_leaks(splits: NDArray[np.int64], contents: NDArray[np.int64], pairs: NDArray[np.int64]) -> Leaks:
    """splits: of N images, as indices into SPLITS; contents: N numbers, equal for equal files; pairs (P, 2): contents
    that are near copies of one another."""
    held = np.zeros((int(contents.max(initial=-1)) + 1, len(SPLITS)), dtype=bool)  # which splits have which content
    held[contents, splits] = True
    near = np.zeros_like(held)  # which splits have a near copy of it
    np.logical_or.at(near, pairs[:, 0], held[pairs[:, 1]])
    np.logical_or.at(near, pairs[:, 1], held[pairs[:, 0]])
    exact_here, near_here = held[contents], near[contents]
    test, validation, train = (splits == split for split in (_TEST, _VALIDATION, _TRAIN))

    def leaking(where: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        tested = test & (where[:, _TRAIN] | where[:, _VALIDATION])
        chosen = validation & where[:, _TRAIN]
        return tested, chosen, (train & (where[:, _VALIDATION] | where[:, _TEST])) | (validation & where[:, _TEST])

    tested_exact, chosen_exact, surplus_exact = leaking(exact_here)
    tested, chosen, surplus_near = leaking(near_here)
    return Leaks(
        tested_exact, tested & ~tested_exact, chosen_exact, chosen & ~chosen_exact, surplus_exact | surplus_near
    )


def copied_from(
    image: int, splits: NDArray[np.int64], contents: NDArray[np.int64], pairs: NDArray[np.int64]
) -> tuple[int, bool]:
    """For an image that leaks, the first that it is a copy of in a split before its own, and whether exactly."""
    content = contents[image]
    before = splits < splits[image]
    exact = np.flatnonzero(before & (contents == content))
    if len(exact):
        return int(exact[0]), True
    near = np.concatenate([pairs[pairs[:, 0] == content, 1], pairs[pairs[:, 1] == content, 0]])
    return int(np.flatnonzero(before & np.isin(contents, near))[0]), False
