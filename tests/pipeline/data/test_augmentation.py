"""Augmentation is a pure function of (seed, epoch, sample), exact where it can be, and what its formulas say."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.augmentation import (
    Policy,
    Statistics,
    Variants,
    fit_statistics,
    load_statistics,
    render,
    rendering,
    save_statistics,
)
from pipeline.data.augmentation.examples import examples, mixing_examples
from pipeline.data.augmentation.strengths import Numbers
from pipeline.data.augmentation.targets import moved_masks
from pipeline.params import Augment, load
from pipeline.params.augmentation import DETAILS, WHOLE_SET

SHIPPED = Path(__file__).parents[3] / "params.yaml"
OFF = load(SHIPPED).augment.off().with_changes({"normalization": "none"})
STRENGTHS = [key for key in Augment.model_fields if key not in (*WHOLE_SET, *DETAILS)]
ALL = OFF.with_changes(
    {
        "normalization": "channel",
        "crop_padding": 2,
        "resized_crop": 0.3,
        "horizontal_flip": True,
        "vertical_flip": True,
        "rotation_degrees": 20.0,
        "scale": 0.2,
        "shear_degrees": 5.0,
        "translation": 0.1,
        "perspective": 0.1,
        "elastic": 0.03,
        "brightness": 0.2,
        "contrast": 0.3,
        "saturation": 0.4,
        "hue_degrees": 20.0,
        "pca_shift": 0.1,
        "blur": 0.7,
        "noise": 0.1,
        "distractors": 2,
        "border": 0.2,
        "cutout_size": 3,
        "erasing": 0.2,
        "erasing_fill": "noise",
        "automatic": "rand",
    }
)
TABLE = examples(9, 3)  # every transform, by name
SINGLE = [pytest.param(strengths[-1].changes, id=name) for name, strengths in TABLE.items()]
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 9, 9, 3), dtype=np.uint8)
STATISTICS = fit_statistics(IMAGES)


def policy(augment: Augment, seed: int = 0, statistics: Statistics = STATISTICS) -> Policy:
    return Policy(augment, statistics, IMAGES.shape[1], seed)


def pixels(used: Policy, epoch: int, samples: list[int], images: np.ndarray = IMAGES) -> np.ndarray:
    """What the network would see of the samples: (B, H, W, C) float32."""
    batch, maps = used.augmented(images, epoch, np.array(samples))
    return render(torch.from_numpy(batch), maps).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("changes", [*SINGLE, pytest.param(ALL.model_dump(), id="together")])
@settings(max_examples=6)
@given(
    samples=st.lists(st.integers(0, len(IMAGES) - 1), min_size=2, max_size=9, unique=True),
    epoch=st.integers(0, 50),
    seed=st.integers(0, 2**63 - 1),
)
def test_an_image_does_not_depend_on_the_batch_it_is_in(changes, samples, epoch, seed):
    used = policy(OFF.with_changes(changes), seed)
    together = pixels(used, epoch, samples)
    backwards = pixels(policy(OFF.with_changes(changes), seed), epoch, samples[::-1])[::-1]
    alone = np.concatenate([pixels(used, epoch, [sample]) for sample in samples])
    assert np.isfinite(together).all()
    assert np.array_equal(together, backwards)
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("side", [32, 37])
def test_an_image_does_not_depend_on_a_large_batch(side):
    """Large enough for several threads and for vector registers that end in the middle of an image."""
    images = np.random.default_rng(1).integers(0, 256, (150, side, side, 3), dtype=np.uint8)
    used = Policy(ALL, fit_statistics(images), side, 0)
    together = pixels(used, 0, list(range(150)), images)
    for sample in (0, 74, 149):
        assert np.array_equal(pixels(used, 0, [sample], images)[0], together[sample])


@pytest.mark.parametrize("changes", SINGLE)
def test_how_many_images_are_worked_on_at_a_time_changes_nothing(changes, monkeypatch):
    used = policy(OFF.with_changes(changes))
    whole = pixels(used, 1, list(range(20)))
    monkeypatch.setattr(rendering, "_PIXELS_A_BLOCK", 3 * 81)
    assert np.array_equal(pixels(used, 1, list(range(20))), whole)


@pytest.mark.parametrize("pixels_a_block", [2 * 81, 30])
def test_rendering_in_threads_leaves_torch_as_it_was(pixels_a_block, monkeypatch):
    """Also where gradients are off, which every thread has for itself, after an error, and an image a block."""
    used = policy(ALL)
    whole = pixels(used, 1, list(range(20)))
    monkeypatch.setattr(rendering, "_PIXELS_A_BLOCK", pixels_a_block)
    before, running = torch.get_num_threads(), threading.active_count()
    try:
        torch.set_num_threads(3)
        with torch.inference_mode():
            assert np.array_equal(pixels(used, 1, list(range(20))), whole)
        inside = []
        monkeypatch.setattr(rendering, "_planes", lambda *_: inside.append(torch.get_num_threads()) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pixels(used, 1, list(range(20)))
        assert set(inside) == {1}
        assert torch.get_num_threads() == 3
        assert threading.active_count() == running
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("changes", SINGLE)
def test_every_transform_does_something_and_differs_by_epoch_sample_and_seed(changes):
    augment = OFF.with_changes(changes)
    samples = list(range(40))
    plain = pixels(policy(OFF), 0, samples)
    first = pixels(policy(augment), 0, samples)
    assert not np.array_equal(first, plain)
    assert not np.array_equal(first, pixels(policy(augment), 1, samples))
    assert not np.array_equal(first, pixels(policy(augment, seed=1), 0, samples))
    same = np.repeat(IMAGES[:1], 40, axis=0)
    assert len(np.unique(pixels(policy(augment), 0, samples, same), axis=0)) > 1


@pytest.mark.parametrize("changes", SINGLE)
def test_strength_0_is_the_identity_bit_for_bit(changes):
    """Also of images that stand in a batch with others for which the transform is on."""
    nothing = (
        {"automatic_magnitude": 0.0} if "automatic" in changes else {key: 0 for key in changes if key in STRENGTHS}
    )
    on = OFF.with_changes(changes)
    off = on.with_changes(nothing)
    own = Variants((on, off), np.arange(len(IMAGES)) % 2)
    samples = list(range(20))
    found = pixels(Policy(on, STATISTICS, 9, 0, own), 3, samples)
    expected = IMAGES[:20].astype(np.float32) * np.float32(1 / 255)
    assert np.array_equal(found[1::2], expected[1::2])
    assert not np.array_equal(found[::2], expected[::2])
    assert np.array_equal(found[::2], pixels(policy(on), 3, samples[::2]))
    assert np.array_equal(pixels(policy(off), 3, samples), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*TABLE, "together"])
def test_every_transform_gives_finite_inputs_of_one_form(name, channels):
    """Of one channel and of three, also where the network sees less than the image."""
    images = IMAGES[..., :channels]
    changes = ALL.model_dump() if name == "together" else TABLE[name][-1].changes
    for crop_size in (None, 5):
        augment = OFF.with_changes({**changes, "crop_size": crop_size, "normalization": "channel"})
        batch, maps = Policy(augment, fit_statistics(images), 9, 0).augmented(images, 0, np.arange(7))
        found = render(torch.from_numpy(batch), maps)
        side = crop_size or 9
        assert found.shape == (7, channels, side, side)
        assert found.dtype == torch.float32
        assert found.stride() == (side * side * channels, 1, side * channels, channels)
        assert found.isfinite().all()


RECOLOURING = {"brightness", "contrast", "saturation", "hue_degrees", "pca_shift", "noise", "automatic"}


@pytest.mark.parametrize(
    "changes", [pytest.param(c[-1].changes, id=n) for n, c in TABLE.items() if not RECOLOURING & set(c[-1].changes)]
)
def test_what_moves_hides_or_blurs_keeps_the_range_of_pixels(changes):
    found = pixels(policy(OFF.with_changes(changes)), 0, list(range(40)))
    assert found.min() >= -1e-6
    assert found.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", [*TABLE, "together"])
def test_everything_goes_to_the_device_and_is_rendered_there(name):
    """The meta device computes shapes alone, and refuses tensors that lie elsewhere as any other device does."""
    changes = ALL.model_dump() if name == "together" else TABLE[name][-1].changes
    batch, maps = policy(OFF.with_changes(changes)).augmented(IMAGES, 0, np.arange(5))
    meta = torch.device("meta")
    found = render(torch.from_numpy(batch).to(meta), maps.to(meta))
    assert found.device == meta
    assert found.shape == (5, 3, 9, 9)
    masks = moved_masks(torch.zeros(5, 9, 9, dtype=torch.bool, device=meta), maps.to(meta))
    assert masks.shape == (5, 9, 9)


def test_every_strength_has_an_example():
    shown = {key for strengths in TABLE.values() for example in strengths for key in example.changes}
    assert set(STRENGTHS) <= shown
    assert set(mixing_examples()) == {"mixup", "cutmix"}
    for strengths in (*TABLE.values(), *mixing_examples().values()):
        for example in strengths:
            load(SHIPPED).overlaid({"augment": {**OFF.model_dump(), **example.changes}})  # valid, each of them


def test_normalisation_alone():
    found = pixels(policy(OFF.model_copy(update={"normalization": "channel"})), 0, [0, 1])
    expected = (IMAGES[:2] / 255.0 - STATISTICS.mean) / STATISTICS.std
    assert np.allclose(found, expected, atol=1e-5)


@settings(deadline=None)
@given(padding=st.integers(1, 12), flip=st.booleans(), seed=st.integers(0, 1000), epoch=st.integers(0, 9))
def test_crops_and_flips_copy_pixels_exactly(padding, flip, seed, epoch):
    used = policy(OFF.model_copy(update={"crop_padding": padding, "horizontal_flip": flip}), seed)
    samples = np.arange(12)
    matrices = used.geometry(epoch, samples)
    batch, _ = used.augmented(IMAGES, epoch, samples)
    size = IMAGES.shape[1]
    for image, found, matrix in zip(IMAGES, batch, matrices, strict=False):
        expected = np.zeros_like(image)
        for y in range(size):
            for x in range(size):
                column, row, _ = (matrix @ [x, y, 1]).astype(int)
                if 0 <= row < size and 0 <= column < size:
                    expected[y, x] = image[row, column]
        assert np.array_equal(found, expected)
        assert abs(matrix[1, 2]) <= padding


def test_every_crop_offset_occurs_equally_often():
    used = policy(OFF.model_copy(update={"crop_padding": 2}))
    offsets = used.geometry(0, np.arange(50_000))[:, :2, 2]
    for axis in range(2):
        values, counts = np.unique(offsets[:, axis], return_counts=True)
        assert values.tolist() == [-2, -1, 0, 1, 2]
        assert counts == pytest.approx(10_000, abs=400)  # 4.5 standard deviations


def test_half_of_the_images_are_mirrored():
    flips = policy(OFF.model_copy(update={"horizontal_flip": True})).geometry(0, np.arange(10_000))[:, 0, 0]
    assert (flips == -1).mean() == pytest.approx(0.5, abs=0.0225)  # 4.5 standard deviations


def test_rotations_are_uniform_both_ways_and_keep_the_centre():
    used = policy(OFF.model_copy(update={"rotation_degrees": 20.0}))
    matrices = used.geometry(0, np.arange(10_000))
    turns = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert np.abs(turns).max() <= 20
    assert np.quantile(turns, [0.25, 0.5, 0.75]) == pytest.approx([-10, 0, 10], abs=1)
    assert np.allclose(matrices @ [4, 4, 1], [4, 4, 1])


def test_resampling_agrees_with_copying():
    """The same integer moves through grid_sample: a rotation far below a pixel's rounding changes no pixel by 1/255."""
    moves = {"crop_padding": 2, "horizontal_flip": True}
    copied = pixels(policy(OFF.model_copy(update=moves)), 5, list(range(40)))
    resampled = pixels(policy(OFF.model_copy(update={**moves, "rotation_degrees": 1e-9})), 5, list(range(40)))
    assert np.abs(copied - resampled).max() < 1e-4


def test_a_quarter_turn_is_numpys(monkeypatch):
    monkeypatch.setattr(Numbers, "direction", lambda self, purpose, draws=1: np.ones((len(self), draws)))
    found = pixels(policy(OFF.model_copy(update={"rotation_degrees": 90.0})), 0, [0, 1, 2])
    assert np.allclose(found, np.rot90(IMAGES[:3], axes=(1, 2)) / 255.0, atol=1e-5) or np.allclose(
        found, np.rot90(IMAGES[:3], k=-1, axes=(1, 2)) / 255.0, atol=1e-5
    )


def test_pca_shift_is_alexnets():
    augment = OFF.model_copy(update={"pca_shift": 0.1})
    flat = IMAGES.reshape(-1, 3).astype(np.float64) / 255
    values, vectors = np.linalg.eigh(np.cov(flat.T, bias=True))
    shift = pixels(policy(augment), 2, list(range(40))) - IMAGES / np.float32(255)
    assert np.abs(shift - shift[:, :1, :1]).max() < 1e-5  # one shift for all pixels of an image
    alpha = (shift[:, 0, 0] @ vectors) / values  # undo the formula: what is left are the three factors
    assert alpha.std() == pytest.approx(0.1, rel=0.2)


def jitter(name: str, image: np.ndarray) -> np.ndarray:
    """One image, in [0, 1], under 2,000 draws of one setting of 0.4: (2000, H, W, C)."""
    return pixels(policy(OFF.model_copy(update={name: 0.4})), 0, list(range(2000)), np.repeat(image[None], 2000, 0))


def is_uniform(values: np.ndarray, low: float, high: float) -> bool:
    quartiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    return bool(np.allclose(quartiles, np.linspace(low, high, 5), atol=0.05 * (high - low)))


def test_brightness_adds_to_every_pixel():
    image = IMAGES[0, :2, :2]
    shifts = jitter("brightness", np.resize(image, (9, 9, 3))) - np.resize(image, (9, 9, 3)) / 255
    assert np.ptp(shifts, axis=(1, 2, 3)).max() < 1e-6
    assert is_uniform(shifts[:, 0, 0, 0], -0.4, 0.4)


def test_contrast_scales_about_mid_grey():
    scales = (jitter("contrast", IMAGES[0]) - 0.5) / (IMAGES[0] / 255 - 0.5)
    assert np.ptp(scales, axis=(1, 2, 3)).max() < 1e-3
    assert is_uniform(scales[:, 0, 0, 0], 0.6, 1.4)


def test_saturation_scales_about_each_pixels_luma():
    """0.299 red + 0.587 green + 0.114 blue, which it keeps."""
    image = IMAGES[0] / 255
    luma = (image @ [0.299, 0.587, 0.114])[..., None]
    found = jitter("saturation", IMAGES[0])
    scales = ((found - luma) * (image - luma)).sum(3) / ((image - luma) ** 2).sum(2)
    assert np.ptp(scales, axis=(1, 2)).max() < 1e-3
    assert is_uniform(scales[:, 0, 0], 0.6, 1.4)
    assert np.allclose(luma + scales[..., None] * (image - luma), found, atol=1e-4)


def test_colour_matrices_are_applied_as_they_stand():
    augment = OFF.model_copy(update={"brightness": 0.3, "contrast": 0.3, "saturation": 0.3})
    matrices = policy(augment).colour(0, np.arange(4))
    image = IMAGES[0].astype(np.float64)
    expected = np.einsum("bij,hwj->bhwi", matrices[:, :, :3], image) + matrices[:, None, None, :, 3]
    same = np.repeat(IMAGES[:1], 4, axis=0)
    assert np.allclose(pixels(policy(augment), 0, [0, 1, 2, 3], same), expected, atol=1e-5)
    grey = policy(augment.model_copy(update={"brightness": 0.0, "contrast": 0.0})).colour(0, np.arange(4))
    assert np.allclose(grey[:, :, :3].sum(2), 1 / 255)  # saturation leaves grey pixels alone


def test_cutout_blanks_at_most_its_square():
    augment = OFF.model_copy(update={"cutout_size": 3, "normalization": "channel"})
    blank = pixels(policy(augment), 0, list(range(40))) == 0
    counts = blank.all(3).sum((1, 2))
    assert counts.max() == 9
    assert counts.min() >= 4  # the centre lies inside the image


def test_grey_images_have_no_colour_shift():
    grey = IMAGES[..., :1]
    used = Policy(ALL, fit_statistics(grey), 9, 0)
    assert pixels(used, 0, [1, 2, 3], grey).shape == (3, 9, 9, 1)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_statistics_equal_numpys_whatever_the_chunk(chunk):
    found = fit_statistics(IMAGES, chunk)
    flat = IMAGES.reshape(-1, 3).astype(np.float64) / 255
    values, vectors = np.linalg.eigh(np.cov(flat.T, bias=True))
    assert found.mean == pytest.approx(flat.mean(0).tolist())
    assert found.std == pytest.approx(flat.std(0).tolist())
    assert found.eigenvalues == pytest.approx(values[::-1].tolist())
    assert np.abs((np.array(found.eigenvectors) * vectors[:, ::-1]).sum(0)) == pytest.approx(1)
    assert found == STATISTICS


def test_a_constant_channel_is_not_divided_by_zero():
    constant = np.full((4, 9, 9, 3), 7, dtype=np.uint8)
    used = policy(OFF.model_copy(update={"normalization": "channel"}), statistics=fit_statistics(constant))
    assert np.isfinite(pixels(used, 0, [0], constant)).all()


def test_statistics_come_back_from_their_file(tmp_path):
    save_statistics(tmp_path / "policy.json", STATISTICS, ALL)
    assert load_statistics(tmp_path / "policy.json") == STATISTICS


def test_evaluation_sees_the_normalised_image():
    batch, maps = policy(ALL).plain(IMAGES, np.arange(3))
    found = render(torch.from_numpy(batch), maps).permute(0, 2, 3, 1).numpy()
    assert np.allclose(found, (IMAGES[:3] / 255.0 - STATISTICS.mean) / STATISTICS.std, atol=1e-5)
    assert [field.name for field in dataclasses.fields(Statistics)] == ["mean", "std", "eigenvalues", "eigenvectors"]
