"""Batches: every image once an epoch, in an order that only seed and epoch decide, on however many devices."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.augmentation import Policy, fit_statistics
from pipeline.data.loader import Batches, Images
from pipeline.data.mixing import mixing
from pipeline.data.store import Split
from pipeline.data.store.encoded import EncodedImages, encode
from pipeline.errors import Mistake
from tests.pipeline.data.test_augmentation import ALL, IMAGES, OFF, STATISTICS

SPLIT = Split(images=IMAGES, labels=np.arange(len(IMAGES)), folder=None)  # the label is the sample's number


def batches(batch_size=8, augment=OFF, seed=0, training=True, **options) -> Batches:
    return Batches(SPLIT, Policy(augment, STATISTICS, 9, seed), batch_size, training=training, seed=seed, **options)


def order(loader: Batches, epoch: int) -> list[int]:
    loader.set_epoch(epoch)
    return torch.cat([batch.targets for batch in loader]).tolist()


@given(batch_size=st.integers(1, 50), epoch=st.integers(0, 1000), seed=st.integers(0, 2**63 - 1))
def test_every_image_once_in_an_order_that_does_not_depend_on_the_batch_size(batch_size, epoch, seed):
    found = order(batches(batch_size, seed=seed), epoch)
    assert sorted(found) == list(range(len(SPLIT)))
    assert found == order(batches(len(SPLIT), seed=seed), epoch)


def test_the_order_differs_by_epoch_and_seed():
    orders = {tuple(order(batches(seed=seed), epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(orders) == 6
    used = Policy(OFF, STATISTICS, 9, 0)
    of_the_module = {
        tuple(order(Images(SPLIT, SPLIT, used, 8, seed, None, False).train_dataloader(), epoch))
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    }
    assert of_the_module == orders


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mixed", [True, False])
def test_images_kept_as_jpeg_make_the_same_batches_as_their_pixels(tmp_path, training, mixed, monkeypatch):
    """Also where an epoch is resumed or left in its middle. All but the batch that was left alone come from ahead."""
    content = [encode(image) for image in IMAGES]
    (tmp_path / "all").write_bytes(b"".join(content))
    lengths = np.array([len(part) for part in content])
    encoded = EncodedImages(tmp_path / "all", np.cumsum(lengths) - lengths, lengths, IMAGES.shape[1:])
    pixels = encoded[:]
    monkeypatch.setattr(EncodedImages, "__getitem__", None)
    mixes = mixing(OFF.model_copy(update={"mixup": 0.4}), 9, len(IMAGES), 0) if mixed else None
    found = []
    for images in (encoded, pixels):
        used = Policy(ALL, STATISTICS, 9, 0)
        loader = Batches(replace(SPLIT, images=images), used, 6, training=training, mixing=mixes)
        loader.set_epoch(2)
        loader.load_state_dict({"epoch": 2, "taken": 3})
        batches_left = list(loader)
        next(iter(loader))
        found.append(torch.cat([batch.rendered()[0] for batch in batches_left]))
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("decoding")]
    assert torch.equal(*found)


def test_validation_keeps_the_order_and_the_pixels():
    loader = batches(7, augment=ALL, training=False)
    assert order(loader, 3) == list(range(len(SPLIT)))
    assert np.array_equal(torch.cat([batch.images for batch in loader]).numpy(), IMAGES)


@pytest.mark.parametrize("world", [2, 3])
def test_devices_together_see_the_batches_of_one(world):
    parts = [batches(12, rank=rank, world=world) for rank in range(world)]
    whole = batches(12)
    assert [len(part) for part in parts] == [len(whole)] * world  # 40 = 3 * 12 + 4
    for together, *shares in zip(whole, *parts, strict=True):
        seen = sorted(torch.cat([share.targets for share in shares]).tolist())
        assert set(seen) <= set(together.targets.tolist())
        assert len(seen) == len(together.targets) - len(together.targets) % world
        assert len({len(share.targets) for share in shares}) == 1


@pytest.mark.parametrize("world", [2, 3])
def test_devices_together_validate_every_image_once(world):
    parts = [batches(13, training=False, rank=rank, world=world) for rank in range(world)]
    seen = [label for part in parts for batch in part for label in batch.targets.tolist()]
    assert sorted(seen) == list(range(len(SPLIT)))
    assert all(len(list(part)) == len(part) for part in parts)


@pytest.mark.parametrize(("world", "batch_size", "lengths"), [(1, 39, [40]), (1, 13, [13, 13, 14]), (3, 19, [19, 21])])
def test_a_rest_too_small_to_share_joins_the_batch_before_it(world, batch_size, lengths):
    parts = [[len(batch.targets) for batch in batches(batch_size, rank=rank, world=world)] for rank in range(world)]
    assert parts == [[length // world for length in lengths]] * world


def test_more_devices_than_images_a_batch_are_refused():
    with pytest.raises(Mistake, match=r"train\.batch_size: 2 is less than train\.devices, 3"):
        batches(2, world=3)
    with pytest.raises(Mistake, match=r"train\.devices: 41, but .* has 40 images"):
        batches(50, world=41)


def test_limit_shortens_an_epoch():
    loader = batches(8, limit=2)
    assert len(loader) == len(list(loader)) == 2
    assert order(loader, 1) == order(batches(8), 1)[:16]


@pytest.mark.parametrize(("channels_last", "memory"), [(True, torch.channels_last), (False, torch.contiguous_format)])
def test_rendering_gives_the_networks_layout(channels_last, memory):
    images = Images(SPLIT, SPLIT, Policy(ALL, fit_statistics(IMAGES), 9, 0), 8, 0, None, channels_last)
    raw = next(iter(images.train_dataloader()))
    rendered, labels = images.on_after_batch_transfer(raw, 0)
    assert rendered.shape == (8, 3, 9, 9)
    assert rendered.dtype == torch.float32
    assert rendered.is_contiguous(memory_format=memory)
    assert torch.equal(labels, raw.targets)
