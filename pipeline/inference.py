"""A model over a whole split."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import Split, reading_ahead
from pipeline.data.views import PLAIN, Averaged

if TYPE_CHECKING:
    from models.build import Predictor

_PIXELS_A_BATCH = 2**21  # of one channel: 2,048 images of 32 x 32, but never fewer than 16 images


def predict(
    model: "Predictor", split: Split, device: str, description: str, views: Averaged = PLAIN
) -> NDArray[np.float32]:
    """What the model says of a whole split, (N, any), read batch by batch through the memory map.

    Batches have a fixed size, because the bits of a result depend on it. description: of the progress bar.
    views: of each image, whose answers are averaged.
    """
    import torch
    from tqdm import tqdm

    count, height, width, _ = split.images.shape
    batch = max(16, _PIXELS_A_BATCH // (height * width))
    results = []
    model = model.to(device)
    parts = [slice(start, start + batch) for start in range(0, count, batch)]
    with torch.inference_mode(), reading_ahead(split.images, parts) as ahead:
        for part in tqdm(parts, desc=description, unit="batch", leave=False, disable=None):
            images = np.array(ahead[part])  # N, H, W, C: a copy, writable
            total = np.float64(0)  # float64: the mean of equal numbers is that number
            for view in views.of(images, model.seen):
                total = total + model(torch.from_numpy(view).to(device)).float().cpu().numpy()
            results.append((total / views.count).astype(np.float32))
    return np.concatenate(results)
