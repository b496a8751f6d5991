"""All that the checks find in a data set, as values; what becomes of it is for others to say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks.copies import Pairs, near_copies
from pipeline.data.checks.descriptor import LENGTH, SIDE, Descriptors, unpack

BLANK = 1.5  # standard deviation of brightness up to which an image shows nothing: what JPEG makes of one colour
ENLARGED = 2.0  # times by which a tiny image had to be enlarged
HUGE = 8192  # pixels a side
ODD = 4.0  # longer side over shorter: of more than this, three quarters are cut off


@dataclass(frozen=True)
class Finding:
    """One thing that may be wrong, about one image or two of those that were examined."""

    kind: str  # see KINDS
    image: int
    other: int | None = None
    similarity: float | None = None
    detail: str = ""


KINDS = {
    "exact copy": "The same file twice",
    "near copy": "Almost the same picture",
    "mirrored copy": "Almost the same picture, mirrored",
    "label conflict": "The same picture under two labels",
    "blank": "One colour throughout",
    "tiny": f"Enlarged {ENLARGED:g} times or more",
    "huge": f"A side of {HUGE} pixels or more",
    "odd shape": f"A side {ODD:g} times as long as the other, or more",
}

NOTHING = "Nothing found: no copies, no conflicts, no blank or odd images."
NOT_LOOKED_FOR = "These images are vectors of numbers, not pictures: no copies, blank or odd ones are looked for."


@dataclass(frozen=True)
class Examined:
    """What was found in N images, which are numbered in the order of their names: the listing's order plays no role."""

    contents: NDArray[np.int64]  # N: equal for equal files
    examples: NDArray[np.int64]  # of each content, its first image
    near: Pairs  # of contents
    searched: bool  # whether near copies were looked for
    labels: Sequence[str]
    descriptors: NDArray[np.uint8] | None  # None: the images are no pictures, and nothing was looked for
    sizes: NDArray[np.int32]  # N, 2: height and width in the source
    image_size: int

    @property
    def in_general(self) -> str:
        """What is to be said where there are no findings."""
        return NOTHING if self.descriptors is not None else NOT_LOOKED_FOR

    @property
    def pairs(self) -> NDArray[np.int64]:
        """Contents (P, 2) that are near copies."""
        return np.stack([self.near.first, self.near.second], axis=1)

    def findings(self) -> Iterator[Finding]:
        """Everything, kind by kind in the order of KINDS. A group of n equal files makes n - 1 entries."""
        first = self.examples[self.contents]
        again = np.flatnonzero(first != np.arange(len(first)))
        for image in again.tolist():
            yield Finding("exact copy", int(first[image]), image, 1.0)
        near = [
            Finding("mirrored copy" if mirrored else "near copy", int(self.examples[a]), int(self.examples[b]), score)
            for a, b, score, mirrored in zip(*self.near[:4], strict=True)
        ]
        yield from (finding for finding in near if finding.kind == "near copy")
        yield from (finding for finding in near if finding.kind == "mirrored copy")
        yield from self._conflicts(again, first, near)
        if self.descriptors is not None:
            yield from self._odd_ones(unpack(self.descriptors))

    def _conflicts(
        self, again: NDArray[np.int64], first: NDArray[np.int64], near: Sequence[Finding]
    ) -> Iterator[Finding]:
        for image in again.tolist():
            yield from self._conflict(int(first[image]), image, 1.0)
        for finding in near:
            if finding.other is not None and finding.similarity is not None:
                yield from self._conflict(finding.image, finding.other, finding.similarity)

    def _conflict(self, image: int, other: int, similarity: float) -> Iterator[Finding]:
        one, two = self.labels[image], self.labels[other]
        if one != two:
            yield Finding("label conflict", image, other, similarity, f"{one} or {two}")

    def _odd_ones(self, described: Descriptors) -> Iterator[Finding]:
        if self.image_size > 1:  # one pixel always is of one colour
            for image in np.flatnonzero(described.contrast <= BLANK).tolist():
                yield Finding("blank", image, detail=f"brightness {described.brightness[image]}")
        short, long = self.sizes.min(1), self.sizes.max(1)
        for kind, found in (
            ("tiny", short * ENLARGED <= self.image_size),
            ("huge", long >= HUGE),
            ("odd shape", long >= ODD * np.maximum(short, 1)),
        ):
            for image in np.flatnonzero(found).tolist():
                height, width = self.sizes[image].tolist()
                yield Finding(kind, image, detail=f"{width} x {height}")


def examine(
    hashes: Sequence[str],
    labels: Sequence[str],
    descriptors: NDArray[np.uint8] | None,
    sizes: NDArray[np.int32],
    image_size: int,
) -> Examined:
    """Look through N images, in the order of their names.

    hashes and labels ("" for all of a set without) have one entry an image; descriptors (N, LENGTH) and sizes (N, 2:
    height, width in the source) one row. Near copies are looked for where thumbnails can tell images apart: among
    images of at least 16 pixels a side. descriptors None: images that are no pictures but vectors of numbers; equal
    ones are chance, and nothing is looked for.
    """
    if descriptors is None:
        every = np.arange(len(hashes))
        nothing = near_copies(np.empty((0, LENGTH), dtype=np.uint8))
        return Examined(every, every, nothing, False, labels, None, sizes, image_size)
    _, examples, contents = np.unique(np.array(hashes, dtype=np.str_), return_index=True, return_inverse=True)
    searched = image_size >= SIDE
    rows = examples if searched else examples[:0]
    return Examined(
        contents, examples, near_copies(descriptors[rows]), searched, labels, descriptors, sizes, image_size
    )
