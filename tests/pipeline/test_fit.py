"""A fit learns, repeats bit for bit, keeps its best weights, and stops where it must."""

import hashlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline.errors import Mistake
from pipeline.fit import DivergedError, Epoch, TrainingData, fit
from pipeline.params import Params


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
    {"model": {"name": "resnet"}, "schedule": {"name": "cosine", "warmup_epochs": 1}},
    {"model": {"name": "linear"}, "loss": {"name": "svm"}, "schedule": {"name": "step"}},
    {"optimizer": {"name": "adam", "momentum": None, "lr": 0.01}, "schedule": {"name": "constant"}},
    {"train": {"precision": "bf16-mixed", "channels_last": False}},
    {"train": {"precision": "bf16-true"}},
]


@pytest.mark.parametrize("changes", CONFIGURATIONS, ids=str)
def test_learns_and_repeats_bit_for_bit(data, small_params, changes):
    params = small_params(**changes)
    first = fit(params, data)
    torch.manual_seed(999)  # whatever was drawn before must not matter
    second = fit(params, data)
    assert equal(first, second)
    assert first.history == second.history
    assert first.best.val_accuracy > 0.6  # guessing gives a third
    assert len(first.history) == params.train.epochs
    assert [epoch.step for epoch in first.history] == [6, 12, 18]  # 90 images in batches of 16


def test_the_seed_matters(data, small_params):
    assert not equal(fit(small_params(), data), fit(small_params(seed=1), data))


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
    assert fitted.best.val_accuracy == (scores.argmax(1) == data.validation.labels).mean()


def test_keeps_the_weights_of_the_best_epoch_not_the_last(data, small_params):
    """At a constant rate a shorter training is the beginning of a longer one."""
    noisy = {"optimizer": {"lr": 0.05}, "schedule": {"name": "constant"}, "model": {"name": "mlp"}}
    seen: list[Epoch] = []
    longer = fit(small_params(train={"epochs": 8}, **noisy), data, on_epoch=seen.append)
    assert tuple(seen) == longer.history
    assert longer.best == max(seen, key=lambda epoch: epoch.rank)
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


def test_early_stopping(data, small_params):
    params = small_params(
        train={"epochs": 50, "early_stopping_epochs": 2},
        optimizer={"lr": 1e-12, "momentum": 0.0},
        model={"name": "linear"},
    )
    assert len(fit(params, data).history) < 10


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
    assert all(math.isfinite(epoch.val_accuracy) for epoch in error.fitted.history)


def test_a_network_too_deep_for_the_images_is_the_users_mistake(data, small_params):
    with pytest.raises(Mistake, match=r"model\.convnet: .* needs at least 32x32 pixels, not 8x8"):
        fit(small_params(model={"convnet": {"width": 4, "stages": 6, "first_depth": 1, "depth": 1}}), data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_the_users_mistake(data, small_params):
    with pytest.raises(Mistake, match="accelerator gpu"):
        fit(small_params(train={"accelerator": "gpu"}), data)


THREADS = """
import hashlib, sys
from pipeline import params
from pipeline.fit import TrainingData, fit
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
