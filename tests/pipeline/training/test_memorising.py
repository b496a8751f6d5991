"""A network that memorises goes through the same fit, search and stages: one pass, raw pixels, nothing learned."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch

from models.build import load_model
from models.memoriser import Memoriser
from pipeline import paths, search, train
from pipeline.commands import check
from pipeline.data.augmentation import fit_statistics, save_statistics
from pipeline.data.copies import write_copies
from pipeline.data.store import Split, open_split, write_split
from pipeline.errors import Mistake
from pipeline.inference import predict
from pipeline.tracking import open_run, resolve_tracking, sync
from pipeline.training import memorising
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.fit import TrainingData, describe, fit
from pipeline.training.recorder import Epoch

OFFLINE = {"uri": "http://127.0.0.1:9", "drain_seconds": 0.0}
# All that has no meaning here, and would change or refuse something where it had one.
RESTING = {
    "augment": {"rotation_degrees": 20.0, "brightness": 0.3, "mixup": 1.0, "normalization": "channel"},
    "loss": {"name": "l1"},
    "regularization": {"dropout": 0.5, "l1": 0.1},
    "train": {
        "epochs": 9, "batch_size": 7, "accumulate_batches": 3, "limit_batches": 2, "early_stopping_epochs": 1,
        "ema_decay": 0.9, "devices": 4, "precision": "bf16-true",
    },
}  # fmt: skip


@pytest.fixture
def data(project) -> TrainingData:
    return TrainingData.open()


@pytest.fixture
def neighbours(small_params):
    """Parameters with k-NN in them: neighbours(k=3, augment={...})."""

    def make(k: int = 3, distance: str = "l2", **changes):
        model = {"name": "neighbours", "neighbours": {"k": k, "distance": distance}}
        return small_params(model=model, tracking=OFFLINE).overlaid(changes)

    return make


def shares(train: Split, validation: Split, k: int) -> np.ndarray:
    """Probabilities by L2 in float64, where no vote is tied."""
    images = train.images.reshape(len(train), -1).astype(np.float64)
    rows = []
    for query in validation.images.reshape(len(validation), -1).astype(np.float64):
        order = np.argsort(((images - query) ** 2).sum(1), kind="stable")[:k]
        rows.append(np.bincount(train.labels[order], minlength=3) + 1 / 3)
    return np.array(rows) / (k + 1)


@pytest.mark.parametrize("changes", [{}, RESTING], ids=["as shipped", "much that rests"])
def test_one_pass_over_raw_images_and_the_history_of_one_epoch(data, neighbours, changes):
    params = neighbours(k=1, **changes)
    told: list[Epoch] = []
    fitted = fit(params, data, on_epoch=told.append)
    (epoch,) = fitted.history
    assert told == [epoch]
    assert fitted.best == epoch
    assert torch.equal(fitted.network.images, torch.from_numpy(np.array(data.train.images).reshape(90, -1)))
    assert fitted.network.labels.tolist() == data.train.labels.tolist()
    probabilities = shares(data.train, data.validation, 1)
    assert epoch.val_figure == (probabilities.argmax(1) == data.validation.labels).mean()
    loss = -np.log(probabilities[np.arange(30), data.validation.labels]).mean()
    assert epoch.val_loss == pytest.approx(loss, rel=1e-6)
    assert (epoch.epoch, epoch.step, epoch.train_loss, epoch.train_figure, epoch.lr) == (1, 0, None, None, None)


def test_colour_images_are_memorised_channel_by_channel(project, neighbours):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    write_split(
        paths.PREPARED / "train", images, np.arange(20) % 3, ["x"] * 20, ["dark", "light", "striped"], [""] * 20
    )
    data = TrainingData.open()
    data = dataclasses.replace(data, validation=data.train)
    (paths.AUGMENTED / "policy.json").unlink()
    save_statistics(data.statistics, fit_statistics(images), neighbours().augment)
    fitted = fit(neighbours(k=1), data)
    assert fitted.best.val_figure == 1.0  # each finds itself
    assert torch.equal(fitted.network.images.reshape(20, 3, 8, 8), torch.from_numpy(images).permute(0, 3, 1, 2))


def test_the_centre_is_memorised_where_the_network_sees_no_more(data, neighbours):
    params = neighbours(augment={"crop_size": 4})
    fitted = fit(params, data)
    assert torch.equal(fitted.network.images, torch.from_numpy(data.train.images[:, 2:6, 2:6].reshape(90, -1).copy()))
    assert describe(params, data).crop_size == 4


def test_copies_are_memorised_too(data, neighbours):
    params = neighbours(augment={"rotation_degrees": 20.0, "copies": 2})
    write_copies(
        paths.COPIES, data.train, data.policy(neighbours().overlaid({"model": {"name": "mlp"}})), 2, data.classes
    )
    fitted = fit(params, data)
    copies = np.array(open_split(paths.COPIES).images).reshape(270, -1)
    assert torch.equal(fitted.network.images, torch.from_numpy(copies))


def test_more_neighbours_than_images_are_refused_before_anything_is_memorised(data, neighbours, monkeypatch):
    monkeypatch.setattr(Memoriser, "training_step", lambda *arguments: pytest.fail("memorised"))
    with pytest.raises(
        Mistake, match=r"params\.yaml: model\.neighbours\.k: 91 neighbours of 90 training images; lower"
    ):
        fit(neighbours(k=91), data)
    space = {"model": {"neighbours": {"k": {"low": 1, "high": 95}}}}
    params = neighbours(search={"space": space, "trials": 2})
    with open_run("search", params, inputs=[]) as run, pytest.raises(Mistake, match=r"k: 95.*\n.*k reaches 95; narrow"):
        search.search(params, data, run)
    images = check.Images(total=100, validation=None, test=None, classes=3)  # 65 to train
    with pytest.raises(Mistake, match=r"k: 66 neighbours of 65 training images"):
        check.memory.estimate(neighbours(k=66), *check.split_sizes(neighbours(), images)[:2])


def test_as_many_neighbours_as_images(data, neighbours):
    """30 votes each: the nearer class in sum."""
    fitted = fit(neighbours(k=90), data)
    assert fitted.best.val_figure > 0.6


class Killed(BaseException):
    """As good as a kill: nothing of the fit's own code runs on."""


@pytest.mark.parametrize("at", [1, 4, 5], ids=["in the pass", "at its end", "in validation"])
def test_a_killed_one_goes_on_where_it_was(data, neighbours, tmp_path, monkeypatch, at):
    monkeypatch.setattr(memorising, "rows_a_block", lambda shape: 20)  # five batches
    params = neighbours(train={"checkpoint_seconds": 0.0})
    expected = fit(params, data)
    memorised: list[int] = []
    step, validation = Memoriser.training_step, Memoriser.validation_step

    def killing(self, batch, batch_index):
        if batch_index == at:
            raise Killed
        memorised.append(batch_index)
        return step(self, batch, batch_index)

    def killed(*arguments):
        raise Killed

    checkpoints = Checkpoints(tmp_path / "checkpoints", "this fit")
    with monkeypatch.context() as patch:
        patch.setattr(Memoriser, "training_step", killing)
        patch.setattr(Memoriser, "validation_step", killed)
        with pytest.raises(Killed):
            fit(params, data, checkpoints=checkpoints)
    assert memorised == list(range(at))
    resumed: list[int] = []
    monkeypatch.setattr(
        Memoriser, "training_step", lambda self, *batch: (resumed.append(batch[1]), step(self, *batch))[1]
    )
    monkeypatch.setattr(Memoriser, "validation_step", validation)
    fitted = fit(params, data, checkpoints=checkpoints)
    assert resumed == list(range(at, 5))
    assert torch.equal(fitted.network.images, expected.network.images)
    assert torch.equal(fitted.network.labels, expected.network.labels)
    assert fitted.history == expected.history
    assert fit(params, data, checkpoints=checkpoints).history == expected.history  # a finished one is taken up


def test_k_and_the_distance_are_searched_and_nothing_else(data, neighbours, capsys):
    space = {
        "model": {"neighbours": {"k": {"low": 1, "high": 9}, "distance": {"choices": ["l1", "l2"]}}},
        "optimizer": {"lr": {"low": 0.01, "high": 0.2}},
        "augment": {"brightness": {"low": 0.0, "high": 0.2}},
    }
    params = neighbours(search={"trials": 5}).model_copy()
    params = params.model_copy(update={"search": params.search.model_copy(update={"space": space})})
    search.run(params)
    told = capsys.readouterr().out
    for name in ("optimizer.lr", "augment.brightness"):
        assert f"search: {name} is skipped: neighbours memorises raw pixels" in told
    with (paths.SEARCH / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 5
    assert {(row["state"], row["epochs"]) for row in rows} == {("complete", "1")}
    assert {name for name in rows[0] if "." in name} == {"model.neighbours.k", "model.neighbours.distance"}
    for row in rows:
        own = neighbours(k=int(row["model.neighbours.k"]), distance=row["model.neighbours.distance"])
        assert float(row["val_accuracy"]) == fit(own, data).best.val_figure


def test_the_stage_writes_a_model_that_answers_the_same_everywhere(data, neighbours, monkeypatch):
    """From its files by the compiled search, and from MLflow, where torch's own operations do it."""
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    paths.SEARCH.mkdir(parents=True)
    paths.BEST.write_text("model:\n  neighbours:\n    k: 4\n    distance: l1\n")
    params = neighbours(k=1, loss={"name": "l1"}, tracking={"uri": None, "drain_seconds": 0.0})
    train.run(params)
    fitted = fit(neighbours(k=4, distance="l1"), data)
    model = load_model(paths.MODEL)
    assert torch.equal(model.network.images, fitted.network.images)
    probabilities = predict(model, data.validation, "cpu", "validation")
    assert (probabilities.argmax(1) == data.validation.labels).mean() == fitted.best.val_figure
    losses = model.loss_per_image(
        torch.from_numpy(np.array(data.validation.images)), torch.from_numpy(data.validation.labels)
    )
    assert losses.mean().item() == pytest.approx(fitted.best.val_loss, rel=1e-6)
    row = next(csv.DictReader((paths.MODEL / train.CURVES).read_text().splitlines()))
    assert (row["train_loss"], row["train_accuracy"], row["lr"]) == ("", "", "")
    assert (paths.MODEL / train.NEIGHBOURS).read_bytes().startswith(b"\x89PNG")

    sync(params)
    uri, _ = resolve_tracking(params)
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("retrace").experiment_id])
    assert not {"train/loss", "train/accuracy", "lr"} & set(run.data.metrics)
    assert run.data.metrics["val/accuracy"] == fitted.best.val_figure
    assert train.NEIGHBOURS in {file.path.split("/")[-1] for file in client.list_artifacts(run.info.run_id)}
    (logged,) = client.search_logged_models([run.info.experiment_id])
    mlflow.set_tracking_uri(uri)
    served = mlflow.pytorch.load_model(f"models:/{logged.model_id}")
    with torch.no_grad():
        answers = served(torch.from_numpy(np.array(data.validation.images))).numpy()
    assert np.array_equal(answers, probabilities)


def test_points_of_the_plane_have_no_sheet(project, neighbours):
    points = np.random.default_rng(0).integers(0, 256, (30, 1, 1, 2)).astype(np.uint8)
    for name in ("train", "validation"):
        folder = paths.PREPARED / name
        write_split(folder, points, np.arange(30) % 3, ["x"] * 30, ["dark", "light", "striped"], [""] * 30)
    params = neighbours(k=1, augment={"crop_padding": 0})
    data = TrainingData.open()
    save_statistics(data.statistics, fit_statistics(points), params.augment)
    fitted = fit(params, data)
    paths.MODEL.mkdir(parents=True)
    train.write_model(paths.MODEL, params, data, fitted)
    assert not (paths.MODEL / train.NEIGHBOURS).exists()
    assert fitted.best.val_figure == 1.0


def test_check_says_what_rests_and_how_long_comparing_takes(neighbours):
    params = neighbours(search={"trials": 3})
    notices = check.notices(params)
    assert [line for line in notices if line.startswith("model.name: neighbours memorises raw pixels in one pass")]
    assert sum("skipped, neighbours memorises" in line for line in notices) == len(params.space)
    images = check.Images(total=1000, validation=None, test=None, classes=3)
    estimate = check.memory.estimate(params, *check.split_sizes(params, images)[:2])
    assert (estimate.images, estimate.queries) == (650, 150)
    assert estimate.seconds == pytest.approx(4 * 650 * 150 * estimate.pair_seconds)
    assert estimate.pair_seconds > 0
    assert json.dumps(estimate.lines()).count("650 images are memorised") == 1
