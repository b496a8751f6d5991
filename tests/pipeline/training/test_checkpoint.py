"""A fit that is stopped at any of its save points goes on to the bits, history and metrics of one that was not."""

import os
import pickle
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from models.classifier import Classifier
from pipeline.state import Work
from pipeline.tracking import spool
from pipeline.tracking.run import Run
from pipeline.training import checkpoint as module
from pipeline.training.checkpoint import Checkpoints, Stopping
from pipeline.training.fit import TrainingData, fit
from pipeline.training.recorder import Epoch


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


def trained_batches(monkeypatch) -> list[tuple[int, int]]:
    """Where each batch that is trained from now on is noted: epoch, batch."""
    trained: list[tuple[int, int]] = []
    step = Classifier.training_step

    def noted(self, batch, batch_index):
        trained.append((self.current_epoch, batch_index))
        return step(self, batch, batch_index)

    monkeypatch.setattr(Classifier, "training_step", noted)
    return trained


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
    "mixing": {"augment": {"mixup": 0.4, "cutmix": 1.0}},
    "accumulation": {"train": {"accumulate_batches": 4}},
    "moving average": {"train": {"ema_decay": 0.9}, "model": {"name": "preresnet"}},
    "bf16": {"train": {"precision": "bf16-mixed"}, "model": {"name": "preresnet"}},
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
    trained = trained_batches(monkeypatch)
    while True:
        state = Checkpoints(tmp_path / "state", "a fit")
        with recorded(tmp_path / "resumed") as run, suppress(Killed):
            fitted = fit(params, data, run=run, checkpoints=state)
            break
    assert {file.split("-")[1].split(".")[0] for file in saves} >= {"trained", "validated"}
    assert len(saves) > len(whole[1]) * 2
    assert result(fitted) == whole
    assert trained == sorted(set(trained)), "a batch was trained twice"
    assert sorted(set(points(tmp_path / "resumed"))) == expected
    assert len(list((tmp_path / "state").iterdir())) == module.KEPT


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path / "state", "this fit")


def saved(state: Checkpoints, *batches: int) -> list[Path]:
    places = [state.place(number, "step") for number in batches]
    for number, place in zip(batches, places, strict=True):
        state.save_checkpoint({"batches": number, "weights": torch.arange(1000.0)}, place)
    return places


def test_the_two_newest_are_kept_and_the_newest_is_taken(state):
    places = saved(state, 1, 20, 3)
    assert sorted(state._folder.iterdir()) == [places[2], places[1]]
    assert state.newest() == places[1]
    assert state.load_checkpoint(places[1])["batches"] == 20


def test_within_one_step_the_order_is_that_of_training(state):
    places = [state.place(9, phase) for phase in ("step", "trained", "validated")]
    assert places == sorted(places)


def flip_a_bit(file: Path, other: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


SPOILT = {
    "a bit flipped": flip_a_bit,
    "cut off": lambda file, other: os.truncate(file, file.stat().st_size - 100),
    "cut to the head": lambda file, other: os.truncate(file, 20),
    "empty": lambda file, other: file.write_bytes(b""),
    "swapped": lambda file, other: shutil.copy(other, file),
    "no checkpoint": lambda file, other: file.write_bytes(b"[]\nhello"),
    "of another format": lambda file, other: file.write_bytes(file.read_bytes().replace(b"point 1", b"point 9", 1)),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_one_gives_way_to_the_older_one_and_is_told(state, name, capsys):
    older, newest = saved(state, 1, 2)
    SPOILT[name](newest, older)
    assert state.newest() == older
    assert f"{newest}: " in capsys.readouterr().err
    assert not newest.exists()
    SPOILT["cut off"](older, newest)
    assert state.newest() is None


def test_one_of_another_fit_is_none_of_ours(state, tmp_path, capsys):
    (place,) = saved(Checkpoints(tmp_path / "state", "another fit"), 1)
    assert state.newest() is None
    assert f"{place}: it was written for another fit" in capsys.readouterr().err


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_loading_runs_no_code(state, tmp_path, monkeypatch):
    """Whoever can write the file can also write its checksum."""
    monkeypatch.chdir(tmp_path)
    place = state.place(1, "step")
    state.save_checkpoint({"weights": Evil()}, place)
    with pytest.raises(pickle.UnpicklingError):
        state.load_checkpoint(place)
    assert not Path("evil").exists()


def test_a_full_disk_leaves_what_was_there(state, monkeypatch):
    """On a real file system with no room: see also the campaigns."""
    (place,) = saved(state, 1)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            saved(state, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert list(state._folder.iterdir()) == [place]


def test_what_a_killed_process_was_writing_is_swept(tmp_path):
    (tmp_path / "state").mkdir()
    state = Checkpoints(tmp_path / "state", "this fit")
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = tmp_path / "state" / f".{state.place(7, 'step').name}.abc.{gone.pid}.tmp"
    left.write_bytes(b"half")
    saved(state, 7)
    assert not left.exists()


# --- interrupts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["train", "validation"])
def test_an_interrupt_saves_and_leaves_and_the_next_start_goes_on(
    data, small_params, state, tmp_path, monkeypatch, number, when
):
    """With the default interval nothing would be saved before the end."""
    params = small_params(train={"ema_decay": 0.9}, regularization={"dropout": 0.5})
    with recorded(tmp_path / "whole") as run:
        whole = result(fit(params, data, run=run))
    hook = "on_train_batch_start" if when == "train" else "on_validation_batch_start"
    calls = []

    def interrupt(self, *arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == (9 if when == "train" else 2):
            signal.raise_signal(number)

    monkeypatch.setattr(Stopping, hook, interrupt)
    before = signal.getsignal(signal.SIGINT)
    with recorded(tmp_path / "stopped") as run, pytest.raises(KeyboardInterrupt):
        fit(params, data, run=run, checkpoints=state)
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    (file,) = state._folder.iterdir()
    assert file.name.endswith("-step.checkpoint" if when == "train" else "-trained.checkpoint")
    assert int(file.name.split("-")[0]) == (9 if when == "train" else 12)
    trained = trained_batches(monkeypatch)
    with recorded(tmp_path / "stopped") as run:
        assert result(fit(params, data, run=run, checkpoints=state)) == whole
    assert trained[0] == ((1, 3) if when == "train" else (2, 0))
    assert points(tmp_path / "stopped") == points(tmp_path / "whole")


def test_a_step_that_does_not_end_is_not_waited_for(data, small_params, state, monkeypatch):
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.2)

    def sleep(self, *arguments: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(Stopping, "on_train_batch_start", sleep)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fit(small_params(), data, checkpoints=state)
    assert time.monotonic() - begun < 30


def test_a_finished_fit_is_taken_as_it_is(data, small_params, state, monkeypatch):
    params = small_params(train={"early_stopping_epochs": 1, "epochs": 9}, optimizer={"lr": 1e-12})
    first = result(fit(params, data, checkpoints=state))
    monkeypatch.setattr("models.classifier.Classifier._step", None)
    assert result(fit(params, data, checkpoints=state)) == first


def test_a_complete_fit_that_is_taken_up_tells_of_its_epochs(data, small_params, state):
    told: list[Epoch] = []
    fitted = fit(small_params(), data, checkpoints=state)
    fit(small_params(), data, checkpoints=state, on_epoch=told.append)
    assert tuple(told) == fitted.history


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_not_lost_to_what_else_ends_the_fit(data, small_params, state, number):
    def prune(epoch: Epoch) -> None:
        signal.raise_signal(number)
        raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt):
        fit(small_params(), data, checkpoints=state, on_epoch=prune)
