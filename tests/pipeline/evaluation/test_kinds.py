"""Evaluation of numbers and of boxes: figures against scikit-learn and against counts made by hand; every file."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from pipeline import evaluate, paths, train
from pipeline.data.store import Split, open_split
from pipeline.errors import Mistake
from pipeline.evaluation import localisation, regression
from pipeline.params import Params
from pipeline.training.fit import TrainingData, fit
from pipeline.training.parameters import training_parameters
from tests.pipeline.boxed import CLASSES, TARGETS, prepare, write_rest
from tests.pipeline.test_evaluate import Recorder, files

RANDOM = np.random.default_rng(0)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_errors_are_scikit_learns():
    targets = RANDOM.normal(size=(50, 3)) * [1, 10, 0.1]
    predicted = targets + RANDOM.normal(size=(50, 3)) * [0.5, 20, 0.1]
    found = regression.evaluate(predicted, targets, ("a", "b", "c"), np.arange(50))
    assert found.mae == pytest.approx(mean_absolute_error(targets, predicted, multioutput="raw_values"))
    assert found.rmse == pytest.approx(root_mean_squared_error(targets, predicted, multioutput="raw_values"))
    assert found.r2 == pytest.approx(r2_score(targets, predicted, multioutput="raw_values"))
    assert found.summary() == {
        "mae": pytest.approx(mean_absolute_error(targets, predicted)),
        "rmse": pytest.approx(np.sqrt(((targets - predicted) ** 2).mean())),
        "r2": pytest.approx(r2_score(targets, predicted)),
        "loss": 24.5,
        "images": 50,
    }
    assert found.worst(3).tolist() == np.abs(targets - predicted).mean(1).argsort()[::-1][:3].tolist()


def test_a_target_that_never_changes_has_no_r2_to_speak_of():
    found = regression.evaluate([[1.0], [2.0]], [[1.0], [1.0]], ("a",), [0, 1])
    assert found.r2.tolist() == [0.0]
    assert regression.evaluate([[1.0], [1.0]], [[1.0], [1.0]], ("a",), [0, 0]).r2.tolist() == [0.0]


@pytest.mark.parametrize(
    ("predicted", "targets"), [([[1.0]], [[1.0, 2.0]]), (np.zeros((0, 1)), np.zeros((0, 1))), ([[np.nan]], [[1.0]])]
)
def test_what_does_not_fit_is_refused(predicted, targets):
    with pytest.raises(ValueError, match="not"):
        regression.evaluate(predicted, targets, ("a",), [0.0])


# --- boxes ------------------------------------------------------------------------------------------------------------


def test_boxes_are_counted_as_ilsvrc_does():
    boxes = np.array([[0, 0, 10, 10]] * 4, dtype=np.float32)
    said = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 5, 10], [6, 6, 20, 20]], dtype=np.float32)
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]], dtype=np.float32)
    split = Split(np.zeros((4, 32, 32, 1), np.uint8), np.zeros(4, np.int64), Path("x"), boxes=boxes)
    found = localisation.evaluate(np.concatenate([probabilities, said], axis=1), split, CLASSES)
    overlaps = [1, 1, 0.5, 16 / (100 + 196 - 16)]
    assert found.overlaps == pytest.approx(overlaps)
    assert found.is_found.tolist() == [True, False, True, False]
    assert found.summary()["localisation_accuracy"] == 0.5
    assert found.summary()["mean_iou"] == pytest.approx(np.mean(overlaps))
    assert found.summary()["accuracy"] == 0.75
    assert found.worst(5).tolist() == [1, 3]  # cross-entropy less IoU: 1.609 - 1, 0.357 - 0.057


def test_both_boxes_are_drawn_where_they_are():
    true, said = np.array([2.0, 3, 8, 9]), np.array([4.0, 1, 15, 14])
    drawn = localisation.with_boxes(np.zeros((16, 16, 1), np.uint8), true, said)
    assert drawn.shape == (160, 160, 3)
    for colour, edges in ((localisation._TRUE, (20, 30, 80, 90)), (localisation._SAID, (40, 10, 150, 140))):
        rows, columns = np.nonzero((drawn == colour).all(2))
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == edges


# --- the stage --------------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_params):
    """Train a task a little and evaluate it: the parameters and what was recorded."""

    def make(kind: str, loss: str) -> tuple[Params, Recorder]:
        monkeypatch.chdir(tmp_path)
        shipped = Path(__file__).parents[3] / "params.yaml"
        (tmp_path / "params.yaml").write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
        chosen = small_params(
            loss={"name": loss}, train={"epochs": 2}, augment={"crop_padding": 0}, evaluate={"mistakes": 3}
        )
        prepare(chosen.augment, kind)
        write_rest(paths.PREPARED)
        data = TrainingData.open()
        paths.MODEL.mkdir(parents=True)
        train.write_model(paths.MODEL, chosen, data, fit(chosen, data))
        (paths.MODEL / "parameters.json").write_text(training_parameters(chosen, {}).to_json())
        recorder = Recorder()
        monkeypatch.setattr(evaluate, "open_run", recorder)
        evaluate.run(chosen)
        return chosen, recorder

    return make


def rows() -> list[dict]:
    return pq.read_table(paths.EVALUATION / "predictions.parquet").to_pylist()


def test_the_files_of_a_regression(evaluated, capsys):
    chosen, recorder = evaluated("targets", "l2")
    written = json.loads((paths.EVALUATION / "metrics.json").read_text())
    table = rows()
    targets, predicted = (np.array([row[name] for row in table]) for name in ("targets", "predicted"))
    np.testing.assert_array_equal(targets, open_split(paths.TEST).targets)
    assert written["test"]["mae"] == pytest.approx(np.abs(targets - predicted).mean(), rel=1e-6)
    down = np.abs(targets - predicted)[:, 1].mean()
    assert written["test"]["targets"]["down"]["mae"] == pytest.approx(down, rel=1e-6)
    assert written["test"]["loss"] == pytest.approx(((targets - predicted) ** 2).sum(1).mean(), rel=1e-5)
    assert [row["mae"] for row in table] == pytest.approx(np.abs(targets - predicted).mean(1), rel=1e-5)
    metadata = pq.read_schema(paths.EVALUATION / "predictions.parquet").metadata
    assert json.loads(metadata[b"targets"]) == list(TARGETS)
    assert recorder.metrics["test/mae"] == written["test"]["mae"]
    assert recorder.metrics.keys() == {f"{s}/{n}" for s in ("test", "val") for n in ("mae", "rmse", "r2", "loss")}
    before = files(paths.EVALUATION)
    assert set(before) == {
        "metrics.json", "predictions.parquet", "per_target.csv", "errors.csv", "report.html",
        "plots/predicted.png", "plots/errors.png", "plots/mistakes.png",
    }  # fmt: skip
    html = (paths.EVALUATION / "report.html").read_text()
    assert html.count("<figure>") == 3
    assert "<script" not in html
    assert f"test mean absolute error {written['test']['mae']:.4g}, RMSE" in capsys.readouterr().out
    evaluate.run(chosen)
    assert files(paths.EVALUATION) == before


def test_the_files_of_a_localisation(evaluated):
    _, recorder = evaluated("boxes", "localisation")
    written = json.loads((paths.EVALUATION / "metrics.json").read_text())
    table = rows()
    split = open_split(paths.TEST)
    assert np.array([row["box"] for row in table]).tolist() == split.boxes.tolist()
    right = [row["label"] == row["predicted"] for row in table]
    assert written["test"]["accuracy"] == np.mean(right)
    found = [is_right and row["iou"] >= 0.5 for is_right, row in zip(right, table, strict=True)]
    assert written["test"]["localisation_accuracy"] == np.mean(found)
    assert recorder.metrics["val/mean_iou"] == written["validation"]["mean_iou"]
    for row in table:
        assert np.argmax(row["probabilities"]) == CLASSES.index(row["predicted"])
    html = (paths.EVALUATION / "report.html").read_text()
    written_files = set(files(paths.EVALUATION))
    assert written_files >= {"plots/confusion.png", "plots/mistakes.png", "per_class.csv", "confusion.csv"}
    assert "test localisation accuracy" in html
    assert html.count("<figure>") == min(3, len(found) - sum(found))


def test_the_files_of_two_classes_by_one_score(evaluated):
    evaluated("classes", "binary_hinge")
    written = json.loads((paths.EVALUATION / "metrics.json").read_text())
    table = rows()
    assert written["test"]["accuracy"] == np.mean([row["label"] == row["predicted"] for row in table])
    assert all(len(row["probabilities"]) == 2 for row in table)
    assert (paths.EVALUATION / "confusion.csv").is_file()


def test_a_model_of_other_targets_is_refused(evaluated):
    chosen, _ = evaluated("targets", "l2")
    (paths.PREPARED / "targets.json").write_text('["across", "up"]')
    with pytest.raises(Mistake, match=r"trained for the targets across, down, but .* holds across, up"):
        evaluate.run(chosen)


def test_the_loss_that_is_told_is_the_one_that_was_trained_with(evaluated):
    """Huber (1964), not the squares of the test above; written out here."""
    chosen, _ = evaluated("targets", "huber")
    settings = chosen.loss.settings
    apart = np.abs(np.array([row["predicted"] for row in rows()]) - np.array([row["targets"] for row in rows()]))
    each = np.where(apart <= settings.delta, apart**2 / 2, settings.delta * (apart - settings.delta / 2))
    expected = each.sum(1) if settings.reduction == "sum" else each.mean(1)
    written = json.loads((paths.EVALUATION / "metrics.json").read_text())
    assert written["test"]["loss"] == pytest.approx(expected.mean(), rel=1e-5)
    assert written["test"]["loss"] != pytest.approx((apart**2).sum(1).mean(), rel=1e-2)
