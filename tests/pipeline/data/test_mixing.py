"""MixUp and CutMix are pure functions of (seed, epoch, sample), and what their papers' formulas say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses import Mixture
from pipeline import seeding
from pipeline.data.augmentation import Policy, render
from pipeline.data.loader import Batches, Images
from pipeline.data.mixing import Masks, Mixing, mixed, mixing
from pipeline.data.store import Split
from tests.pipeline.data.test_augmentation import ALL, IMAGES, OFF, STATISTICS, pixels, policy

COUNT, SIZE = IMAGES.shape[:2]
SPLIT = Split(images=IMAGES, labels=np.arange(COUNT), folder=None)  # the label is the sample's number
KINDS = {"mixup": {"mixup": 0.4}, "cutmix": {"cutmix": 1.0}, "both": {"mixup": 0.4, "cutmix": 1.0}}


def mixing_of(kind: str, seed: int = 0, **settings: float) -> Mixing:
    found = mixing(OFF.model_copy(update=settings or KINDS[kind]), SIZE, COUNT, seed)
    assert found is not None
    return found


def batches(kind: str, batch_size: int, seed: int, augment=ALL, **options) -> Batches:
    used = Policy(augment, STATISTICS, SIZE, seed)
    return Batches(
        SPLIT, used, batch_size, training=True, seed=seed, mixing=mixing_of(kind, seed), **options
    )  # fmt: skip


def by_sample(loader: Batches, epoch: int) -> dict[int, tuple[bytes, int, float]]:
    """What the network gets for each sample: picture, other label, own share."""
    loader.set_epoch(epoch)
    found = {}
    for batch in loader:
        images, targets = batch.rendered()
        for image, own, other, share in zip(images, *targets, strict=True):
            found[int(own)] = (image.numpy().tobytes(), int(other), float(share))
    return found


# --- purity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(
    batch_size=st.integers(3, COUNT),
    world=st.integers(1, 3),
    epoch=st.integers(0, 50),
    seed=st.integers(0, 2**63 - 1),
)
def test_a_mixed_image_does_not_depend_on_its_batch_or_device(kind, batch_size, world, epoch, seed):
    whole = by_sample(batches(kind, COUNT, seed), epoch)
    assert set(whole) == set(range(COUNT))
    for rank in range(world):
        part = by_sample(batches(kind, batch_size, seed, rank=rank, world=world), epoch)
        assert part
        assert part == {sample: whole[sample] for sample in part}


@pytest.mark.parametrize("kind", KINDS)
def test_it_differs_by_epoch_seed_and_sample(kind):
    first = by_sample(batches(kind, 8, 0), 0)
    for other in (by_sample(batches(kind, 8, 0), 1), by_sample(batches(kind, 8, 1), 0)):
        assert sum(first[sample][1:] != other[sample][1:] for sample in first) > COUNT / 2
    assert len({entry[1] for entry in first.values()}) > COUNT / 3


def test_partners_come_from_the_whole_split_and_are_augmented_by_their_own_numbers():
    """Whoever the batch is: of one image, too."""
    seen = {int(mixing_of("mixup").draw(epoch, np.array([3])).partners[0]) for epoch in range(400)}
    assert seen == set(range(COUNT))
    (batch,) = batches("mixup", COUNT, 0)
    partners, masks = batch.mix
    alone = torch.from_numpy(pixels(policy(ALL), 0, partners.targets.tolist())).permute(0, 3, 1, 2)
    share = masks.shares[:, None, None, None]
    assert torch.equal(batch.rendered()[0], render(batch.images, batch.maps) * share + alone * (1 - share))


# --- formulas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "u_of"),
    [
        (1.0, lambda x: x),  # the uniform distribution
        (0.5, lambda x: 2 / np.pi * np.arcsin(np.sqrt(x))),  # the arcsine distribution
        (2.0, lambda x: 3 * x**2 - 2 * x**3),
    ],
)
def test_lambda_is_beta_distributed(alpha, u_of):
    """Its distribution function, known in closed form, takes it back to the uniform number that it was made of."""
    samples = np.arange(200)
    shares = mixing_of("", mixup=alpha).draw(4, samples).masks.shares.double().numpy()
    u = seeding.uniform(0, "mixup", 4, samples, 1)[:, 0]
    assert u_of(shares) == pytest.approx(u, abs=1e-6)


@settings(deadline=None)
@given(mixup=st.floats(1e-6, 100), cutmix=st.floats(1e-6, 100), seed=st.integers(0, 2**63 - 1))
def test_any_strength_gives_shares_in_0_to_1_and_boxes_in_the_image(mixup, cutmix, seed):
    drawn = mixing_of("", seed, mixup=mixup, cutmix=cutmix).draw(0, np.arange(64))
    _, boxes, shares = drawn.masks
    assert ((shares >= 0) & (shares <= 1)).all()
    assert ((boxes >= 0) & (boxes <= SIZE)).all()
    assert (boxes[:, 0] <= boxes[:, 1]).all()
    assert (boxes[:, 2] <= boxes[:, 3]).all()
    assert ((drawn.partners >= 0) & (drawn.partners < COUNT)).all()


@pytest.mark.parametrize(
    ("centre", "box", "share"),
    [
        ((0.5, 0.5), [2, 6, 2, 6], 1 - 16 / 64),  # lambda 0.75: a quarter of 8 x 8 pixels is 4 x 4
        ((0.0, 0.5), [0, 2, 2, 6], 1 - 8 / 64),  # half of it lies above the image
        ((0.99, 0.99), [5, 8, 5, 8], 1 - 9 / 64),
    ],
)
def test_cutmix_worked(monkeypatch, centre, box, share):
    """At alpha 1, lambda is the uniform number itself."""
    numbers = {"cutmix": [0.75], "cutmix box": centre, "partner": [0.6]}
    monkeypatch.setattr(seeding, "uniform", lambda seed, purpose, *_: np.array([numbers[purpose]]))
    partners, masks = Mixing(OFF.model_copy(update={"cutmix": 1.0}), 8, 10, 0).draw(0, np.array([0]))
    assert partners.tolist() == [6]
    assert masks.boxes.tolist() == [box]
    assert masks.shares.tolist() == [share]
    assert masks.around.tolist() == [1.0]


def test_the_pixels_of_both_are_as_in_numpy():
    own, other = torch.rand(3, 2, 8, 8), torch.rand(3, 2, 8, 8)
    boxes = torch.tensor([[0, 0, 0, 0], [2, 5, 1, 8], [0, 8, 0, 8]])
    around = torch.tensor([0.3, 1.0, 1.0])
    found = mixed(own.clone(), other.clone(), Masks(around, boxes, around)).numpy()
    a, b = own.numpy(), other.numpy()
    assert found[0] == pytest.approx(0.3 * a[0] + 0.7 * b[0], abs=1e-6)
    pasted = a[1].copy()
    pasted[:, 2:5, 1:8] = b[1, :, 2:5, 1:8]
    assert np.array_equal(found[1], pasted)  # copied, not computed
    assert np.array_equal(found[2], b[2])


def test_the_shares_of_cutmix_count_the_images_own_pixels():
    masks = mixing_of("cutmix").draw(0, np.arange(1000)).masks
    left = mixed(torch.ones(1000, 1, SIZE, SIZE), torch.zeros(1000, 1, SIZE, SIZE), masks).mean((1, 2, 3))
    assert left == pytest.approx(masks.shares, abs=1e-6)
    assert left.min() < 0.3 < 0.8 < left.max()


def test_a_coin_chooses_between_both():
    masks = mixing_of("both").draw(0, np.arange(2000)).masks
    cut = masks.boxes.any(1)
    assert 900 < int(cut.sum()) < 1100
    assert (masks.around[cut] == 1).all()
    assert torch.equal(masks.around[~cut], masks.shares[~cut])


def test_all_of_a_batch_goes_to_the_device():
    batch = next(iter(batches("both", 8, 0))).to(torch.device("meta"))
    partners, masks = batch.mix
    tensors = [batch.images, batch.targets, batch.maps.colour, partners.images, partners.targets, partners.maps.colour]
    assert {tensor.device.type for tensor in [*tensors, *masks]} == {"meta"}


# --- switched off -----------------------------------------------------------------------------------------------------


def test_off_is_off_and_validation_never_mixes():
    assert mixing(OFF, SIZE, COUNT, 0) is None
    on = Images(SPLIT, SPLIT, Policy(OFF, STATISTICS, SIZE, 0), 8, 0, None, False, mixing=mixing_of("both"))
    assert all(batch.mix is None for batch in on.val_dataloader())
    images, targets = on.on_after_batch_transfer(next(iter(on.train_dataloader())).to(torch.device("cpu")), 0)
    assert isinstance(targets, Mixture)
    assert images.shape == (8, 3, SIZE, SIZE)


def test_mixing_changes_neither_the_order_nor_the_image_that_is_mixed():
    plain = Batches(SPLIT, Policy(ALL, STATISTICS, SIZE, 0), 8, training=True, seed=0)
    for with_mix, without in zip(batches("both", 8, 0), plain, strict=True):
        assert torch.equal(with_mix.targets, without.targets)
        assert torch.equal(with_mix.images, without.images)
