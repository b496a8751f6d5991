"""Figures of the training pixels, by channel: what normalisation and AlexNet's colour shift are made of."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.store import Rows, reading_ahead, rows_a_block
from pipeline.params import Augment

POLICY = "policy.json"


@dataclass(frozen=True)
class Statistics:
    """Figures of the training pixels, scaled to [0, 1], by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    eigenvalues: tuple[float, ...]  # of the channels' covariance, descending
    eigenvectors: tuple[tuple[float, ...], ...]  # in the columns, as in AlexNet's [p1 p2 p3]


def fit_statistics(images: Rows, chunk: int | None = None) -> Statistics:
    """Mean, standard deviation and covariance eigenvectors over all pixels of images (N, H, W, C).

    Sums are taken over integers, so the figures do not depend on `chunk`: how many images are in memory at a time.
    """
    chunk = chunk or rows_a_block(images.shape[1:])
    channels = images.shape[-1]
    count = 0
    total = np.zeros(channels, dtype=np.int64)
    products = np.zeros((channels, channels), dtype=np.int64)
    parts = [slice(start, start + chunk) for start in range(0, images.shape[0], chunk)]
    with reading_ahead(images, parts) as ahead:
        for part in parts:
            # Products of float64 whole numbers are exact below 2**53 and run on BLAS; integer ones do not.
            pixels = ahead[part].reshape(-1, channels).astype(np.float64)
            count += len(pixels)
            total += pixels.sum(0).astype(np.int64)
            products += (pixels.T @ pixels).astype(np.int64)
    mean = total / count
    covariance = (products / count - np.outer(mean, mean)) / 255.0**2
    values, vectors = np.linalg.eigh(covariance)
    vectors = vectors[:, ::-1]
    vectors = vectors * np.where(np.take_along_axis(vectors, abs(vectors).argmax(0)[None], 0) < 0, -1.0, 1.0)
    return Statistics(
        mean=tuple((mean / 255.0).tolist()),
        std=tuple(np.sqrt(np.maximum(np.diag(covariance), 0.0)).tolist()),
        eigenvalues=tuple(np.maximum(values[::-1], 0.0).tolist()),
        eigenvectors=tuple(tuple(row) for row in vectors.tolist()),
    )


def save_statistics(path: Path, statistics: Statistics, settings: Augment) -> None:
    """Write policy.json: what was fitted, beside the settings it will serve."""
    content = {"settings": settings.model_dump(), "statistics": statistics.__dict__}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load_statistics(path: Path) -> Statistics:
    """What `save_statistics` wrote."""
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["statistics"]
    return Statistics(
        mean=tuple(raw["mean"]),
        std=tuple(raw["std"]),
        eigenvalues=tuple(raw["eigenvalues"]),
        eigenvectors=tuple(tuple(row) for row in raw["eigenvectors"]),
    )
