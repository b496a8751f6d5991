"""A fit learns, repeats bit for bit, keeps its best weights, and stops where it must."""

import dataclasses
import hashlib
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from models.catalogue import FIGURES
from pipeline import paths
from pipeline.data import loader
from pipeline.data.augmentation import Policy
from pipeline.data.copies import write_copies
from pipeline.data.mixing import mixing
from pipeline.data.store import Split, open_split
from pipeline.errors import Mistake
from pipeline.params import Params
from pipeline.training.fit import TrainingData, fit
from pipeline.training.network import initialised_network
from pipeline.training.recorder import DivergedError, Epoch, copied


def weights(fitted) -> dict[str, torch.Tensor]:
    return fitted.network.state_dict()


def equal(first, second) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def data(project) -> TrainingData:
    return TrainingData.open()


CONFIGURATIONS = [
    {},
    {"regularization": {"dropout": 0.5, "l1": 1e-4}, "augment": {"rotation_degrees": 10.0, "cutout_size": 2}},
    {"model": {"name": "mlp"}, "optimizer": {"name": "adamw", "momentum": None, "lr": 0.01}},
    {"model": {"name": "preresnet"}, "schedule": {"name": "cosine", "warmup_epochs": 1}},
    {"model": {"name": "linear"}, "loss": {"name": "svm"}, "schedule": {"name": "step"}},
    {"optimizer": {"name": "adam", "momentum": None, "lr": 0.01}, "schedule": {"name": "constant"}},
    {"train": {"precision": "bf16-mixed", "channels_last": False}},
    {"train": {"precision": "bf16-true"}, "augment": {"cutmix": 1.0}},
    {"augment": {"mixup": 0.4, "cutmix": 1.0, "crop_size": 7}, "loss": {"name": "svm"}},
    {"loss": {"name": "svm", "svm": {"margins": "worst", "margin": 1.0}}, "optimizer": {"name": "alexnet", "lr": 0.02}},
    {"loss": {"name": "squared_hinge"}, "optimizer": {"name": "adagrad", "momentum": None, "lr": 0.02}},
    {"loss": {"name": "one_against_all"}, "optimizer": {"name": "rmsprop", "momentum": 0.5, "lr": 0.003}},
    {  # fused updates, mixed precision and clipping, which Lightning alone would not have together
        "regularization": {"max_norm": 1.0, "elastic_net": 1e-4, "penalize_all": True},
        "train": {"clip_norm": 0.5, "ema_decay": 0.5, "precision": "bf16-mixed"},
    },
    {
        "model": {"name": "resnet", "resnet": {"stochastic_depth": 0.5, "width_factor": 0.25}},
        "augment": {"mixup": 0.4},
        "loss": {"class_weights": "balanced"},
        "optimizer": {"lr": 0.02},
    },
]


@pytest.mark.parametrize("changes", CONFIGURATIONS, ids=str)
def test_learns_and_repeats_bit_for_bit(data, small_params, changes):
    params = small_params(**changes)
    first = fit(params, data)
    torch.manual_seed(999)  # whatever was drawn before must not matter
    second = fit(params, data)
    assert equal(first, second)
    assert first.history == second.history
    assert first.best.val_figure > 0.6  # guessing gives a third
    assert len(first.history) == params.train.epochs
    assert [epoch.step for epoch in first.history] == [6, 12, 18]  # 90 images in batches of 16


PLAIN = {  # gradient descent of a linear classifier on all images as they are
    "augment": {"crop_padding": 0},
    "model": {"name": "linear"},
    "optimizer": {"momentum": 0.0},
    "schedule": {"name": "constant"},
    "regularization": {"l2": 0.0, "dropout": 0.0},
}


def first_step(params: Params, data: TrainingData) -> dict[str, np.ndarray]:
    """By how much one epoch moves each weight."""
    before = copied(initialised_network(params, data.shape).state_dict())
    after = weights(fit(params.overlaid({"train": {"epochs": 1}}), data))
    return {name: (after[name] - before[name]).double().numpy() for name in before}


def slope(params: Params, data: TrainingData) -> dict[str, np.ndarray]:
    """The gradient of the mean softmax loss over all training images, at the first weights, in NumPy."""
    pixels = ((data.train.images / 255.0 - data.policy(params).mean) / data.policy(params).std).reshape(90, -1)
    first = {name: w.double().numpy() for name, w in initialised_network(params, data.shape).state_dict().items()}
    scores = pixels @ first["fc.weight"].T + first["fc.bias"]
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    errors = (probabilities - np.eye(3)[data.train.labels]) / 90
    return {"fc.weight": errors.T @ pixels, "fc.bias": errors.sum(0)}


def test_no_batch_size_is_gradient_descent_on_the_whole_split(data, small_params):
    params = small_params(**PLAIN, train={"batch_size": None})
    moved, gradient = first_step(params, data), slope(params, data)
    for name, expected in gradient.items():
        np.testing.assert_allclose(moved[name], -0.1 * expected, atol=1e-6)
    whole, large = (fit(small_params(train={"batch_size": size}), data) for size in (None, 1000))
    assert [epoch.step for epoch in whole.history] == [1, 2, 3]
    assert equal(whole, large)


@pytest.mark.parametrize("train", [{"batch_size": None}, {"batch_size": 45, "accumulate_batches": 2}], ids=str)
def test_clipping_shortens_the_whole_gradient_of_a_step(data, small_params, train):
    """Of all tensors together, and of accumulated batches their mean; a norm that is not reached changes nothing."""
    params = small_params(**PLAIN, train=train)
    gradient = slope(params, data)
    norm = math.sqrt(sum((part**2).sum() for part in gradient.values()))
    clipped = first_step(params.overlaid({"train": {"clip_norm": 0.3 * norm}}), data)
    for name, expected in gradient.items():
        np.testing.assert_allclose(clipped[name], -0.1 * 0.3 * expected, atol=1e-6)
    free, whole = fit(params, data), fit(params.overlaid({"train": {"clip_norm": 100 * norm}}), data)
    assert equal(free, whole)


@pytest.mark.parametrize(
    "train", [{}, {"ema_decay": 0.9}, {"ema_decay": 0.9, "epochs": 1, "limit_batches": 1}], ids=str
)
def test_max_norm_holds_for_the_weights_that_are_kept(data, small_params, train):
    """The average too: it is taken of projected weights, from the first on. Its rounding is that of 18 additions."""
    params = small_params(regularization={"max_norm": 0.1}, train=train)
    found = {name: w.flatten(1).norm(dim=1) for name, w in weights(fit(params, data)).items() if w.ndim > 1}
    assert len(found) > 2
    assert all((norms <= 0.1 * (1 + 1e-5)).all() for norms in found.values())
    assert max(norms.max() for norms in found.values()) > 0.08


def test_frozen_weights_stay_as_they_are(data, small_params, monkeypatch):
    """Whatever is done to weights: penalized, decayed, projected, drawn."""

    def frozen(params, shape):
        network = initialised_network(params, shape)
        network.hidden.requires_grad_(False)
        return network

    monkeypatch.setattr("pipeline.training.fit.initialised_network", frozen)
    harsh = {"l2": 0.1, "l1": 0.1, "penalize_all": True, "max_norm": 0.01}
    for optimizer in ({"name": "adamw"}, {"name": "random_search"}):
        params = small_params(
            model={"name": "mlp"}, regularization=harsh, optimizer=optimizer | {"momentum": None, "lr": 0.1}
        )
        first, last = initialised_network(params, data.shape), fit(params, data).network
        assert all(torch.equal(a, b) for a, b in zip(first.hidden.parameters(), last.hidden.parameters(), strict=True))
        assert not torch.equal(first.fc.weight, last.fc.weight)


def test_random_search_never_loses_ground_on_the_whole_split(data, small_params):
    search = {"name": "random_search", "momentum": None, "random_search": {"scale": 0.1}}
    still = {"augment": {"crop_padding": 0}, "model": {"name": "linear"}, "regularization": {"dropout": 0.0}}
    params = small_params(**still, optimizer=search, train={"batch_size": None, "epochs": 40})
    fitted = fit(params, data)
    # The first is of the weights before any draw; each epoch's order rounds anew.
    losses = [round(epoch.train_loss, 5) for epoch in fitted.history][1:]
    assert losses == sorted(losses, reverse=True)
    assert 2 < len(set(losses)) < 30
    assert losses[-1] < 0.8 * losses[0]


def test_a_plateau_of_the_error_lowers_the_rate(data, small_params):
    """Of weights that stay where they are: no epoch has a lower error, nor a lower loss by a ten-thousandth."""
    plateau = {"name": "plateau", "plateau": {"monitor": "error", "patience_epochs": 0, "factor": 0.1}}
    fitted = fit(small_params(optimizer={"lr": 1e-9}, schedule=plateau), data)
    assert [epoch.lr for epoch in fitted.history] == pytest.approx([1e-9, 1e-9, 1e-10])
    assert fitted.best.validation.error == pytest.approx(1 - fitted.best.val_figure)


def test_a_loss_for_another_task_is_refused(data, small_params):
    with pytest.raises(Mistake, match=r"loss\.name: l2 learns numbers, but data\.source digits has 3 classes"):
        fit(small_params(loss={"name": "l2"}), data)


def test_dropout_depends_on_seed_and_step_alone(data, small_params):
    """Whatever else draws from torch's generator in between, as a resumed run or a callback does."""
    params = small_params(regularization={"dropout": 0.5})
    disturbed = fit(params, data, on_epoch=lambda epoch: torch.rand(epoch.epoch))
    assert equal(fit(params, data), disturbed)


def test_every_epoch_has_its_own_order_and_augmentation(data, small_params, monkeypatch):
    seen: dict[int, list[int]] = {}

    def augmented(self, images, epoch, samples):
        seen.setdefault(epoch, []).extend(samples.tolist())
        return original(self, images, epoch, samples)

    original = Policy.augmented
    monkeypatch.setattr(Policy, "augmented", augmented)
    fit(small_params(), data)
    assert list(seen) == [0, 1, 2]
    assert all(sorted(order) == list(range(90)) for order in seen.values())
    assert seen[0] != seen[1] != seen[2]


def test_the_rate_follows_the_schedule_step_by_step(data, small_params):
    fitted = fit(small_params(schedule={"name": "cosine", "warmup_epochs": 2}), data)
    expected = [0.1 * (1 + math.cos(math.pi * step / 18)) / 2 * min(1, (step + 1) / 12) for step in (5, 11, 17)]
    assert [epoch.lr for epoch in fitted.history] == pytest.approx(expected)


def test_no_momentum_named_is_the_optimizers_own(data, small_params):
    own, named, none = (fit(small_params(optimizer={"momentum": value}), data) for value in (None, 0.9, 0.0))
    assert equal(own, named)
    assert not equal(own, none)


@pytest.mark.parametrize("regularization", [{"l2": 0.1}, {"l1": 0.1}])
def test_the_penalty_shrinks_the_weights(data, small_params, regularization):
    def size(**strengths: float) -> float:
        free = {"l1": 0.0, "l2": 0.0, "dropout": 0.0}
        fitted = fit(small_params(model={"name": "mlp"}, regularization=free | strengths), data)
        return sum(value.abs().sum().item() for value in weights(fitted).values() if value.ndim > 1)

    assert size(**regularization) < 0.8 * size()


def test_precision_is_that_of_the_arithmetic(data, small_params):
    full, mixed, low = (fit(small_params(train={"precision": p}), data) for p in ("32-true", "bf16-mixed", "bf16-true"))
    assert not equal(full, mixed)
    assert {value.dtype for value in weights(mixed).values() if value.is_floating_point()} == {torch.float32}
    assert {value.dtype for value in weights(low).values() if value.is_floating_point()} == {torch.bfloat16}


def test_low_precision_does_not_round_where_pixels_come_from(data, small_params, monkeypatch):
    seen = set()

    def render(images, maps):
        seen.update((maps.geometry.dtype if maps.geometry is not None else None, maps.colour.dtype))
        return rendered(images, maps)

    rendered = loader.render
    monkeypatch.setattr(loader, "render", render)
    fit(small_params(train={"precision": "bf16-true", "epochs": 1}, augment={"rotation_degrees": 10.0}), data)
    assert seen == {None, torch.float64, torch.float32}  # None: validation moves nothing


def test_the_seed_matters(data, small_params):
    """To the training, and on its own to the first weights and to augmentation (test_loader.py has the order)."""
    params, other = small_params(), small_params(seed=1)
    assert not equal(fit(params, data), fit(other, data))
    first, second = (initialised_network(p, data.shape).state_dict() for p in (params, other))
    assert not torch.equal(first["fc.weight"], second["fc.weight"])
    crops, others = (data.policy(p).geometry(0, np.arange(50)) for p in (params, other))
    assert not np.array_equal(crops, others)


def test_the_history_is_what_numpy_makes_of_the_predictions(data, small_params):
    """Epoch figures are means over images, not over batches: the last batch is smaller."""
    params = small_params(train={"epochs": 1}, regularization={"dropout": 0.0})
    fitted = fit(params, data)
    mean, std = data.policy(params).mean, data.policy(params).std
    images = (data.validation.images / 255.0 - mean) / std
    with torch.no_grad():
        scores = fitted.network.eval()(torch.from_numpy(images).permute(0, 3, 1, 2).float()).double().numpy()
    log_q = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    loss = -log_q[np.arange(len(scores)), data.validation.labels].mean()
    assert fitted.best.val_loss == pytest.approx(loss, rel=1e-5)
    assert fitted.best.val_figure == (scores.argmax(1) == data.validation.labels).mean()


def test_the_training_figures_are_means_over_images(data, small_params):
    """90 images in batches of 16: the last has 10. With a rate of nothing every batch sees the same weights."""
    still = {"optimizer": {"lr": 1e-12, "momentum": 0.0}, "model": {"name": "linear"}, "loss": {"name": "svm"}}
    params = small_params(augment={"crop_padding": 0}, train={"epochs": 1}, **still)
    fitted = fit(params, data)
    images = (data.train.images / 255.0 - data.policy(params).mean) / data.policy(params).std
    weight, bias = (weights(fitted)[name].double().numpy() for name in ("fc.weight", "fc.bias"))
    scores = images.reshape(90, -1) @ weight.T + bias
    rows = np.arange(90)
    hinge = np.maximum(0, scores - scores[rows, data.train.labels][:, None] + 1)
    assert fitted.best.train_loss == pytest.approx((hinge.sum(1) - 1).mean(), rel=1e-5)
    assert fitted.best.train_figure == (scores.argmax(1) == data.train.labels).mean()


def test_the_training_figures_of_mixed_images(data, small_params):
    """With a rate of nothing: the loss is that of both labels by their shares, an answer is right by the larger one."""
    still = {"optimizer": {"lr": 1e-12, "momentum": 0.0}, "model": {"name": "linear"}, "loss": {"name": "svm"}}
    params = small_params(augment={"crop_padding": 0, "mixup": 1.0}, train={"epochs": 1}, **still)
    fitted = fit(params, data)
    mixer = mixing(params.augment, 8, 90, params.seed)
    assert mixer is not None
    partners, masks = mixer.draw(0, np.arange(90))
    shares = masks.shares.double().numpy()[:, None]
    pictures = data.train.images.reshape(90, -1) * shares + data.train.images[partners].reshape(90, -1) * (1 - shares)
    weight, bias = (weights(fitted)[name].double().numpy() for name in ("fc.weight", "fc.bias"))
    scores = (pictures / 255.0 - data.policy(params).mean) / data.policy(params).std @ weight.T + bias
    labels, others = data.train.labels, data.train.labels[partners]
    hinges = [np.maximum(0, scores - scores[np.arange(90), y][:, None] + 1).sum(1) - 1 for y in (labels, others)]
    loss = shares[:, 0] * hinges[0] + (1 - shares[:, 0]) * hinges[1]
    assert fitted.best.train_loss == pytest.approx(loss.mean(), rel=1e-5)
    dominant = np.where(shares[:, 0] >= 0.5, labels, others)
    assert (dominant != labels).sum() > 10
    assert fitted.best.train_figure == (scores.argmax(1) == dominant).mean()


@pytest.mark.parametrize("mixed", [{}, {"mixup": 0.4, "cutmix": 1.0}], ids=["plain", "mixed"])
def test_copies_are_what_training_goes_through(data, small_params, mixed):
    """As they lie there: what made them is not done to them again."""
    transforms = {"rotation_degrees": 20.0, "crop_size": 7}
    params = small_params(augment={**transforms, **mixed, "copies": 2}, model={"name": "mlp"})
    write_copies(paths.COPIES, data.train, data.policy(params), 2, data.classes)
    fitted = fit(params, data)
    assert [epoch.step for epoch in fitted.history] == [17, 34, 51]  # 270 images in batches of 16
    centre = Split(data.validation.images[:, :7, :7], data.validation.labels, data.validation.folder)
    ready = dataclasses.replace(data, train=open_split(paths.COPIES), validation=centre)
    off = small_params(augment={"crop_padding": 0, "horizontal_flip": False, **mixed}, model={"name": "mlp"})
    assert off.augment == off.augment.off().with_changes(mixed)
    assert equal(fitted, fit(off, ready))


@pytest.mark.parametrize("made", [None, 1])
def test_copies_that_are_not_there_are_asked_for(data, small_params, made):
    params = small_params(augment={"copies": 2})
    if made is not None:
        write_copies(paths.COPIES, data.train, data.policy(params), made, data.classes)
    there = "not found" if made is None else "180 images"
    with pytest.raises(
        Mistake, match=rf"copies: {there}, but augment\.copies: 2 of 90 images make 270; `dvc repro aug"
    ):
        fit(params, data)


def test_the_best_epoch_is_accurate_then_of_low_loss():
    def epoch(accuracy: float, loss: float) -> Epoch:
        return Epoch(1, 1, train_loss=0, train_figure=0, val_loss=loss, val_figure=accuracy, lr=0)

    accuracy, mae = FIGURES["classification"], FIGURES["regression"]
    assert epoch(0.9, 2.0).rank(accuracy) > epoch(0.8, 1.0).rank(accuracy)
    assert epoch(0.9, 1.0).rank(accuracy) > epoch(0.9, 2.0).rank(accuracy)
    assert epoch(0.8, 2.0).rank(mae) > epoch(0.9, 1.0).rank(mae)
    assert epoch(0.9, 1.0).rank(mae) > epoch(0.9, 2.0).rank(mae)


def test_keeps_the_weights_of_the_best_epoch_not_the_last(data, small_params):
    """At a constant rate a shorter training is the beginning of a longer one."""
    noisy = {"optimizer": {"lr": 0.05}, "schedule": {"name": "constant"}, "model": {"name": "mlp"}}
    seen: list[Epoch] = []
    longer = fit(small_params(train={"epochs": 8}, **noisy), data, on_epoch=seen.append)
    assert tuple(seen) == longer.history
    assert longer.best == max(seen, key=lambda epoch: epoch.rank(FIGURES["classification"]))
    assert longer.best.epoch < 8, "choose another rate: the last epoch is the best, which shows nothing"
    shorter = fit(small_params(train={"epochs": longer.best.epoch}, **noisy), data)
    assert equal(longer, shorter)


def test_what_on_epoch_raises_ends_the_training(data, small_params):
    seen: list[Epoch] = []

    def stop(epoch: Epoch) -> None:
        seen.append(epoch)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(small_params(), data, on_epoch=stop)
    assert len(seen) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_comes_through(data, small_params, number):
    """Lightning makes an exit of it, with the status of a verdict."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt), signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(small_params(), data, on_epoch=lambda epoch: signal.raise_signal(number))
        assert signal.getsignal(signal.SIGINT) is before[1]
    finally:
        signal.signal(signal.SIGTERM, before[0])


def test_early_stopping(data, small_params):
    params = small_params(
        train={"epochs": 50, "early_stopping_epochs": 2},
        optimizer={"lr": 1e-12, "momentum": 0.0},
        model={"name": "linear"},
    )
    assert len(fit(params, data).history) == 3  # the first is the best, two bring nothing


def test_limit_batches(data, small_params):
    assert fit(small_params(train={"limit_batches": 2, "epochs": 1}), data).best.step == 2


def test_diverged_names_step_rate_and_loss_and_keeps_the_best(data, small_params):
    params = small_params(
        model={"name": "linear"},
        optimizer={"lr": 1000.0, "momentum": 0.99},
        regularization={"l2": 1.0},
        schedule={"name": "constant"},
        train={"epochs": 60},
        tracking={"log_every_steps": 4},
    )
    with pytest.raises(DivergedError, match=r"loss became (nan|inf) at step \d+, learning rate 1000") as caught:
        fit(params, data)
    error = caught.value
    assert not math.isfinite(error.loss)
    assert error.fitted is not None
    assert error.fitted.best.step < error.step
    assert all(value.isfinite().all() for value in weights(error.fitted).values())
    assert all(math.isfinite(epoch.val_figure) for epoch in error.fitted.history)


def test_weights_that_an_epochs_last_step_spoils_are_never_the_best(data, small_params):
    """The losses of all steps were finite: validation is the first to see it."""
    params = small_params(
        model={"name": "linear"},
        optimizer={"lr": 1000.0},
        regularization={"l2": 1e37},
        schedule={"name": "constant"},
        train={"epochs": 1, "limit_batches": 1},
    )
    with pytest.raises(DivergedError, match=r"the validation loss became (nan|inf) at step 1, learning rate 1000") as e:
        fit(params, data)
    assert e.value.fitted is None


ONE_PIXEL = {"model": {"convnet": {"width": 4, "stages": 4, "first_depth": 1, "depth": 1}}}  # 8x8 halved thrice


def test_a_rest_of_one_image_joins_the_batch_before_it(data, small_params):
    """Batch normalization has no variance of one image whose last maps are one pixel."""
    fitted = fit(small_params(train={"batch_size": 89}, **ONE_PIXEL), data)
    assert [epoch.step for epoch in fitted.history] == [1, 2, 3]


def test_a_batch_may_be_larger_than_the_set(data, small_params):
    assert [epoch.step for epoch in fit(small_params(train={"batch_size": 1000}), data).history] == [1, 2, 3]


def test_batches_of_one_image_are_for_networks_without_batch_normalization(data, small_params):
    one = {"batch_size": 1, "limit_batches": 3, "epochs": 1}
    assert fit(small_params(train=one, model={"name": "linear"}), data).best.step == 3
    with pytest.raises(Mistake, match=r"train\.batch_size: 1 is one image a device"):
        fit(small_params(train=one, **ONE_PIXEL), data)


def test_a_loss_that_does_not_fit_the_data_is_refused_before_anything_is_trained(data, small_params):
    with pytest.raises(Mistake, match=r"loss\.name: l2 learns numbers, but data\.source digits has 3 classes"):
        fit(small_params(loss={"name": "l2"}), data)


def test_a_network_too_deep_for_the_images_is_the_users_mistake(data, small_params):
    with pytest.raises(Mistake, match=r"model\.convnet: .* needs at least 32x32 pixels, not 8x8"):
        fit(small_params(model={"convnet": {"width": 4, "stages": 6, "first_depth": 1, "depth": 1}}), data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_the_users_mistake(data, small_params):
    with pytest.raises(Mistake, match="accelerator gpu"):
        fit(small_params(train={"accelerator": "gpu"}), data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_precision_that_is_not_there_is_refused_not_replaced(data, small_params):
    with pytest.raises(Mistake, match=r"train\.precision: 16-mixed cannot be had here; use bf16-mixed or 32-true"):
        fit(small_params(train={"precision": "16-mixed"}), data)


THREADS = """
import hashlib, sys
from pipeline import params
from pipeline.training.fit import TrainingData, fit
p = params.Params.model_validate_json(sys.stdin.read())
state = fit(p, TrainingData.open()).network.state_dict()
print(hashlib.sha256(b"".join(v.numpy().tobytes() for v in state.values())).hexdigest())
"""


def test_another_process_trains_the_same_bits(data, small_params):
    params: Params = small_params()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    runs = [
        subprocess.run(
            [sys.executable, "-c", THREADS],
            input=params.model_dump_json(),
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    here = b"".join(value.numpy().tobytes() for value in weights(fit(params, data)).values())
    assert runs[0].strip() == hashlib.sha256(here).hexdigest()
