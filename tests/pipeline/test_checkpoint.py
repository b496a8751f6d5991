"""A fit that is stopped at any of its save points goes on to the bits, history and metrics of one that was not."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline import checkpoint as module
from pipeline.checkpoint import Checkpoints
from pipeline.fit import TrainingData, fit
from pipeline.state import Work
from pipeline.tracking import spool
from pipeline.tracking.run import Run


class Killed(BaseException):
    """As good as a kill: nothing of the fit's own code runs on."""


@pytest.fixture
def data(project) -> TrainingData:
    return TrainingData.open()


def result(fitted) -> tuple[dict[str, list], tuple]:
    return {name: value.tolist() for name, value in fitted.network.state_dict().items()}, fitted.history


@contextmanager
def recorded(folder: Path) -> Iterator[Run]:
    """A run that is sent nowhere."""
    writer = spool.Writer(folder)
    try:
        yield Run("key", "session", writer, {}, Work("train", {}, {}, {}, {}))
    finally:
        writer.close()


def points(run_folder) -> list[tuple[str, int, float]]:
    """Every metric of a run that does not measure the machine, as often as it was recorded."""
    found = []
    for record in spool.read(run_folder):
        if record.content["type"] == "metrics" and not record.content.get("measured"):
            found += [(name, record.content["step"], value) for name, value in record.content["values"].items()]
    return sorted(found)


CONFIGURATIONS = {
    "convnet, dropout, augmentation": {
        "regularization": {"dropout": 0.5},
        "augment": {"rotation_degrees": 10.0, "cutout_size": 2, "brightness": 0.1},
    },
    "adam, one cycle": {"optimizer": {"name": "adam", "momentum": None, "lr": 0.01}, "schedule": {"name": "one_cycle"}},
    "plateau, early stopping": {
        "train": {"epochs": 8, "early_stopping_epochs": 3},
        "optimizer": {"lr": 0.3},
        "schedule": {"name": "plateau", "plateau": {"patience_epochs": 0, "factor": 0.5}},
    },
    "accumulation": {"train": {"accumulate_batches": 4}},
    "moving average": {"train": {"ema_decay": 0.9}, "model": {"name": "resnet"}},
    "bf16": {"train": {"precision": "bf16-mixed"}, "model": {"name": "resnet"}},
    "muon, few logs": {"optimizer": {"name": "muon", "momentum": None, "lr": 0.01}, "tracking": {"log_every_steps": 4}},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_stopped_at_every_save_point_it_ends_in_the_same_bits(data, small_params, tmp_path, monkeypatch, name):
    """Saved at every boundary; killed after each save in turn, so that one fit is resumed from all of them."""
    changes = CONFIGURATIONS[name]
    params = small_params(**changes).overlaid({"train": {"checkpoint_seconds": 0.0}})
    with recorded(tmp_path / "whole") as run:
        whole = result(fit(params, data, run=run))
    expected = points(tmp_path / "whole")
    saves: list[str] = []
    save = Checkpoints.save_checkpoint

    def save_and_die(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path)
        if path.name not in saves:
            saves.append(path.name)
            raise Killed

    monkeypatch.setattr(Checkpoints, "save_checkpoint", save_and_die)
    while True:
        state = Checkpoints(tmp_path / "state", "a fit")
        with recorded(tmp_path / "resumed") as run, suppress(Killed):
            fitted = fit(params, data, run=run, checkpoints=state)
            break
    assert {file.split("-")[1].split(".")[0] for file in saves} >= {"trained", "validated"}
    assert len(saves) > len(whole[1]) * 2
    assert result(fitted) == whole
    assert sorted(set(points(tmp_path / "resumed"))) == expected
    assert len(list((tmp_path / "state").iterdir())) == module.KEPT
