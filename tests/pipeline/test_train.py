"""The stage `train`: the searched values are laid over the file's, and a model folder holds all there is to keep."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from models.build import load_model
from pipeline import paths, train
from pipeline.data.store import write_split
from pipeline.errors import Mistake
from pipeline.training.fit import TrainingData, fit
from tests.pipeline.conftest import CLASSES, images_of

ROOT = Path(__file__).parents[2]
OFFLINE = {"uri": "http://127.0.0.1:9", "drain_seconds": 0.0}


@pytest.fixture
def best(project):
    """Writes artifacts/search/best.yaml."""

    def write(text: str) -> None:
        paths.SEARCH.mkdir(parents=True)
        paths.BEST.write_text(text)

    return write


def records() -> list[dict]:
    (spool,) = paths.state().glob("runs/*/events.jsonl")
    return [json.loads(line) for line in spool.read_text().splitlines()]


def test_trains_with_the_searched_values_and_writes_the_best_epochs_model(best, small_params):
    best("optimizer:\n  lr: 0.03\nmodel:\n  convnet:\n    width: 6\n")
    params = small_params(tracking=OFFLINE)
    train.run(params)
    expected = fit(
        params.overlaid({"optimizer": {"lr": 0.03}, "model": {"convnet": {"width": 6}}}), TrainingData.open()
    )
    found, state = load_model(paths.MODEL).network.state_dict(), expected.network.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in found)
    rows = list(csv.DictReader((paths.MODEL / train.CURVES).read_text().splitlines()))
    assert [float(row["val_loss"]) for row in rows] == [epoch.val_loss for epoch in expected.history]
    assert (paths.MODEL / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert records()[0]["params"]["optimizer.lr"] == "0.03"
    tags = {name: value for record in records() if record["type"] == "tags" for name, value in record["values"].items()}
    assert "retrace.out.artifacts/model" in tags
    metrics = [record for record in records() if record["type"] == "metrics"]
    best_figures = next(record for record in metrics if "best/epoch" in record["values"])
    assert best_figures["step"] == expected.best.step
    assert best_figures["values"]["best/val_accuracy"] == expected.best.val_figure


def test_a_diverged_training_says_what_to_do_and_keeps_the_best_before_it(best, small_params):
    best("{}\n")
    params = small_params(
        tracking={**OFFLINE, "log_every_steps": 4}, model={"name": "linear"}, schedule={"name": "constant"},
        optimizer={"lr": 1000.0, "momentum": 0.99}, regularization={"l2": 1.0}, train={"epochs": 60},
    )  # fmt: skip
    with pytest.raises(Mistake, match=r"loss became .* learning rate 1000\nlower optimizer\.lr.*\n.*the best weights"):
        train.run(params)
    assert not paths.MODEL.exists()
    kept = load_model(paths.state() / "diverged").network.state_dict()
    assert all(value.isfinite().all() for value in kept.values())
    assert records()[-1]["status"] == "FAILED"
    assert [record["path"] for record in records() if record["type"] == "artifact"][-1:] == ["diverged"]


def test_two_devices_train_what_one_does(best, small_params):
    """As DVC runs it: the second device is a process that Lightning starts, which must neither write nor track.

    Of 257 validation images, in batches of 256, the second device has none of the last batch.
    """
    best("{}\n")
    shutil.rmtree(paths.PREPARED / "validation")
    images, labels = images_of(257, 1)
    names = [f"{index}.png" for index in range(257)]
    write_split(paths.PREPARED / "validation", images, labels, names, CLASSES, ["0" * 64] * 257)
    params = small_params(
        tracking=OFFLINE,
        train={"epochs": 1, "accelerator": "cpu", "devices": 2, "strategy": "ddp"},
        model={"name": "mlp"},
        regularization={"dropout": 0.0},
        augment={"mixup": 0.4, "cutmix": 1.0},
    )
    writer, text = YAML(typ="safe", pure=True), io.StringIO()
    writer.dump(params.model_dump(), text)
    Path("params.yaml").write_text(text.getvalue())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline.train"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("train: best epoch") == 1
    assert records()[-1]["status"] == "FINISHED"  # of the only run
    (found,) = csv.DictReader((paths.MODEL / train.CURVES).read_text().splitlines())
    alone = fit(params.overlaid({"train": {"devices": 1, "strategy": "auto"}}), TrainingData.open()).best
    for name in ("step", "train_loss", "train_figure", "val_loss", "val_figure", "lr"):
        column = name.replace("figure", "accuracy")
        assert float(found[column]) == pytest.approx(getattr(alone, name), rel=1e-5), name
