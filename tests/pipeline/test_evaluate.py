"""The stage on a small real model: every output against figures worked out here, and every way to spoil its inputs."""

import base64
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import classification_report, log_loss

from models import catalogue
from models.build import Description, build_network, load_model, save_model
from models.networks.shape import Shape
from pipeline import evaluate, inference, params, paths
from pipeline.data.store import open_split, write_split
from pipeline.errors import Mistake
from pipeline.weights_picture import draw, first_layer

REPOSITORY = Path(__file__).parents[2]
CLASSES = ("zero", "<script>alert(1)</script>", "$x_1$ 猫", 'three, or "drei"')
SIDE = 4
BIAS = (0.0, 0.003, 0.006, 0.009)  # less than one grey value, so that no two scores are equal
COUNTS = {"data/prepared/train": 40, "data/prepared/validation": 24, "data/test": 60}
OUTPUTS = (
    "metrics.json", "predictions.parquet", "per_class.csv", "confusion.csv", "plots/confusion.png",
    "plots/mistakes.png", "report.html",
)  # fmt: skip


class Recorder:
    """Stands where the tracking run is and keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.metrics: dict[str, float] = {}
        self.steps: set[int] = set()
        self.artifacts: list[Path] = []

    @contextmanager
    def __call__(
        self,
        stage: str,
        params: params.Params,
        inputs: tuple[Path, ...],
        outputs: tuple[Path, ...] = (),
        in_force: params.Params | None = None,
    ) -> Iterator["Recorder"]:
        self.stages.append(stage)
        self.inputs, self.outputs = inputs, outputs
        yield self
        assert all(path.exists() for path in outputs)  # they are hashed as the run ends

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self.metrics.update(values)
        self.steps.add(step)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        assert path.exists()
        self.artifacts.append(path)


def make_project(folder: Path) -> Path:
    """A project whose earlier stages have run: a linear model that knows where each class's bright column is."""
    folder.mkdir()
    shutil.copy(REPOSITORY / "params.yaml", folder / "params.yaml")
    rng = np.random.default_rng(0)
    for name, count in COUNTS.items():
        labels = rng.permutation(np.arange(count) % len(CLASSES))
        images = rng.integers(0, 140, (count, SIDE, SIDE, 1), dtype=np.uint8)
        images[np.arange(count), :, labels] += 35
        names = [f"{name[-4:]}/{i:03}.png" for i in range(count)]
        write_split(folder / name, images, labels, names, CLASSES, ["0" * 64] * count)
    prepared = folder / "data/prepared"
    (prepared / "classes.json").write_text(json.dumps(CLASSES))
    (prepared / "report.json").write_text(
        json.dumps({"quarantined": [{"path": "zero/bad.png", "reason": "cut short"}]})
    )
    shutil.copy(_a_picture(folder), prepared / "contact_sheet.png")

    model = folder / paths.MODEL
    model.mkdir(parents=True)
    network = build_network("linear", catalogue.Linear(), Shape(1, SIDE, len(CLASSES)), 0.0)
    columns = torch.eye(SIDE).repeat(1, SIDE)  # K, H x W: the class's column
    network.load_state_dict({"fc.weight": columns, "fc.bias": torch.tensor(BIAS)})
    save_model(
        model,
        network,
        Description(
            network="linear",
            network_settings={},
            dropout=0.0,
            loss="softmax",
            loss_settings={"label_smoothing": 0.0},
            classes=list(CLASSES),
            image_size=SIDE,
            channels=1,
            mean=[0.4],
            std=[0.3],
        ),
    )
    (model / "learning_curves.csv").write_text(
        "epoch,step,train_loss,train_accuracy,val_loss,val_accuracy,lr\n1,10,1.0,0.5,1.1,0.4,0.1\n2,20,0.6,0.8,0.7,0.7,0.0\n"
    )
    (model / "parameters.json").write_text(
        '{"in_force": {"model.name": "linear", "optimizer.lr": 0.0625}, "searched": [["optimizer.lr", 0.1, 0.0625]]}'
    )
    return folder


def _a_picture(folder: Path) -> Path:
    from PIL import Image

    Image.new("L", (20, 20)).save(folder / "picture.png")
    return folder / "picture.png"


def run_in(folder: Path, overlay: Mapping[str, Any] | None = None) -> Recorder:
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(evaluate, "open_run", recorder)
        evaluate.run(params.load().overlaid(overlay or {}))
    return recorder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    folder = make_project(tmp_path_factory.mktemp("evaluate") / "project")
    return folder, run_in(folder)


@pytest.fixture
def project(finished: tuple[Path, Recorder], tmp_path: Path) -> Path:
    """A finished project of one's own, to break."""
    return Path(shutil.copytree(finished[0], tmp_path / "project"))


@pytest.fixture(scope="module")
def expected(finished: tuple[Path, Recorder]) -> dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Probabilities and labels of each split, worked out in NumPy."""
    result = {}
    for name, place in (("validation", "data/prepared/validation"), ("test", "data/test")):
        images = np.load(finished[0] / place / "images.npy").astype(float)[..., 0]
        scores = ((images / 255 - 0.4) / 0.3).sum(axis=1) + BIAS  # N, columns
        exponentials = np.exp(scores)
        result[name] = (
            exponentials / exponentials.sum(axis=1, keepdims=True),
            np.load(finished[0] / place / "labels.npy"),
        )
    return result


def files(folder: Path) -> dict[str, bytes]:
    """Of a folder and those in it, by their paths in it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_all_outputs_are_there_and_nothing_else(finished: tuple[Path, Recorder]):
    folder = finished[0] / paths.EVALUATION
    assert sorted(files(folder)) == sorted(OUTPUTS)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["evaluation", "model"]


def test_metrics_are_those_of_the_model_on_each_split(finished: tuple[Path, Recorder], expected: dict[str, Any]):
    written = json.loads((finished[0] / paths.EVALUATION / "metrics.json").read_text())
    assert list(written) == ["validation", "test"]
    for name, (probabilities, labels) in expected.items():
        report = classification_report(labels, probabilities.argmax(axis=1), output_dict=True, zero_division=0)
        assert 0.4 < report["accuracy"] < 1  # some mistakes, or this file would test little
        assert written[name] == {
            "accuracy": pytest.approx(report["accuracy"]),
            "loss": pytest.approx(log_loss(labels, probabilities, labels=range(len(CLASSES))), rel=1e-5),
            "macro_precision": pytest.approx(report["macro avg"]["precision"]),
            "macro_recall": pytest.approx(report["macro avg"]["recall"]),
            "macro_f1": pytest.approx(report["macro avg"]["f1-score"]),
            "images": len(labels),
        }


def test_predictions_name_every_image(finished: tuple[Path, Recorder], expected: dict[str, Any]):
    table = pq.read_table(finished[0] / paths.EVALUATION / "predictions.parquet")
    probabilities, labels = expected["test"]
    assert table.column_names == ["index", "path", "label", "predicted", "probabilities"]
    assert table["index"].to_pylist() == list(range(len(labels)))
    assert table["path"].to_pylist() == [f"test/{i:03}.png" for i in range(len(labels))]
    assert table["label"].to_pylist() == [CLASSES[label] for label in labels]
    assert table["predicted"].to_pylist() == [CLASSES[k] for k in probabilities.argmax(axis=1)]
    assert table.schema.field("probabilities").type == pa.list_(pa.float32())
    np.testing.assert_allclose(np.array(table["probabilities"].to_pylist()), probabilities, rtol=1e-4, atol=1e-6)
    assert json.loads(table.schema.metadata[b"classes"]) == list(CLASSES)
    assert set(table.schema.metadata) == {b"classes"}


def test_the_plots_hold_one_row_an_image_and_one_row_a_class(finished: tuple[Path, Recorder], expected: dict[str, Any]):
    folder = finished[0] / paths.EVALUATION
    probabilities, labels = expected["test"]
    predicted = probabilities.argmax(axis=1)
    pairs = [{"actual": CLASSES[a], "predicted": CLASSES[p]} for a, p in zip(labels, predicted, strict=True)]
    assert rows(folder / "confusion.csv") == pairs
    report = classification_report(labels, predicted, output_dict=True, zero_division=0)
    table = rows(folder / "per_class.csv")
    assert [row["class"] for row in table] == list(CLASSES)
    for number, row in enumerate(table):
        figures = report[str(number)]
        assert int(row["support"]) == figures["support"]
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert float(row[ours]) == pytest.approx(figures[theirs])


def test_the_report_shows_what_was_searched_what_was_in_force_and_what_was_left_out(finished: tuple[Path, Recorder]):
    html = (finished[0] / paths.EVALUATION / "report.html").read_text(encoding="utf-8")
    assert ">0.0625<" in html
    assert "zero/bad.png" in html
    assert "<script" not in html
    assert "tracking" not in html  # where the runs go changes no result


def test_the_report_shows_the_models_templates(finished: tuple[Path, Recorder]):
    html = (finished[0] / paths.EVALUATION / "report.html").read_text(encoding="utf-8")
    layer = first_layer(load_model(finished[0] / paths.MODEL).network, Shape(1, SIDE, len(CLASSES)), CLASSES)
    assert layer is not None
    assert "<h2>Templates</h2>" in html
    for dark in (False, True):
        assert base64.b64encode(draw(layer, dark=dark)).decode("ascii") in html


def test_the_run_is_tracked_with_its_inputs_and_figures(finished: tuple[Path, Recorder]):
    folder, recorder = finished
    written = json.loads((folder / paths.EVALUATION / "metrics.json").read_text())
    assert recorder.stages == ["evaluate"]
    assert set(recorder.inputs) == {paths.MODEL, paths.PREPARED, paths.TEST}
    assert recorder.outputs == [paths.EVALUATION]
    assert recorder.artifacts == [paths.EVALUATION]
    assert recorder.steps == {20}
    for prefix, split in (("val", "validation"), ("test", "test")):
        for key in ("accuracy", "loss", "macro_f1"):
            assert recorder.metrics[f"{prefix}/{key}"] == written[split][key]


def test_equal_work_gives_equal_bytes_anywhere(
    finished: tuple[Path, Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    again = make_project(tmp_path / "elsewhere")
    run_in(again)
    for name in OUTPUTS:
        content = (again / paths.EVALUATION / name).read_bytes()
        assert content == (finished[0] / paths.EVALUATION / name).read_bytes(), name
        assert str(tmp_path).encode() not in content


def test_the_summary_is_one_line(project: Path, capsys: pytest.CaptureFixture[str], expected: dict[str, Any]):
    run_in(project)
    printed = capsys.readouterr().out
    probabilities, labels = expected["test"]
    right = int((probabilities.argmax(axis=1) == labels).sum())
    assert printed.count("\n") == 1
    assert f"test accuracy {100 * right / 60:.2f} % ({right} of 60)" in printed


def test_batches_cover_the_split_whatever_their_size(project: Path, monkeypatch: pytest.MonkeyPatch):
    split, model = open_split(project / "data/test"), load_model(project / paths.MODEL)
    whole = inference.predict(model, split, "cpu", "test")
    monkeypatch.setattr(inference, "_PIXELS_A_BATCH", 17 * SIDE * SIDE)  # 60 images: 17, 17, 17, 9
    np.testing.assert_allclose(inference.predict(model, split, "cpu", "test"), whole, rtol=1e-5)
    assert (whole.sum(axis=1) > 0.999).all()


@pytest.mark.parametrize("name", ["shifts", "ten_crop"])
def test_views_that_would_show_nothing_are_refused(project: Path, expected: dict[str, Any], name: str) -> None:
    before = (project / paths.EVALUATION / "metrics.json").read_bytes()
    with pytest.raises(Mistake, match=rf"evaluate\.tta_pixels: {SIDE} moves all of an image of {SIDE} pixels out of"):
        run_in(project, {"evaluate": {"tta": name, "tta_pixels": SIDE}})
    assert (project / paths.EVALUATION / "metrics.json").read_bytes() == before


@pytest.mark.parametrize("name", ["flip", "shifts", "ten_crop"])
def test_averaged_over_views(project: Path, expected: dict[str, Any], name: str, capsys: pytest.CaptureFixture[str]):
    """The plain figures stay; all that shows predictions shows the averaged ones. A mirror confuses this model."""
    before = json.loads((project / paths.EVALUATION / "metrics.json").read_text())
    recorder = run_in(project, {"evaluate": {"tta": name, "tta_pixels": 1}})
    folder = project / paths.EVALUATION
    written = json.loads((folder / "metrics.json").read_text())
    assert list(written) == ["validation", "test", "validation_tta", "test_tta"]
    assert {split: written[split] for split in before} == before

    probabilities, labels = averaged(project / "data/test", name)
    predicted = probabilities.argmax(axis=1)
    accuracy = float((predicted == labels).mean())
    assert accuracy != before["test"]["accuracy"]
    assert written["test_tta"]["accuracy"] == pytest.approx(accuracy)
    assert written["test_tta"]["loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(4)), rel=1e-4)
    _, validation = averaged(project / "data/prepared/validation", name)
    assert written["validation_tta"]["images"] == len(validation)
    table = pq.read_table(folder / "predictions.parquet")
    np.testing.assert_allclose(np.array(table["probabilities"].to_pylist()), probabilities, rtol=1e-4, atol=1e-6)
    assert [row["predicted"] for row in rows(folder / "confusion.csv")] == [CLASSES[k] for k in predicted]
    html = (folder / "report.html").read_text(encoding="utf-8")
    count = {"flip": 2, "shifts": 5, "ten_crop": 10}[name]
    assert f"Test accuracy, {count} views<" in html
    assert f"{100 * before['test']['accuracy']:.2f} % from the image alone" in html
    assert f"evaluate.tta: {name}" in html
    for prefix, split in (
        ("test", "test"),
        ("test_tta", "test_tta"),
        ("val", "validation"),
        ("val_tta", "validation_tta"),
    ):
        assert recorder.metrics[f"{prefix}/accuracy"] == written[split]["accuracy"]
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert f"averaged over {count} views: test {100 * accuracy:.2f} %" in printed


def averaged(folder: Path, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities over the views of a split, and its labels, in NumPy."""
    images = np.load(folder / "images.npy")[..., 0].astype(float)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    places = {
        "flip": [(1, 1)],
        "shifts": [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)],
        "ten_crop": [(1, 1), (0, 0), (0, 2), (2, 0), (2, 2)],
    }[name]
    windows = [padded[:, top : top + SIDE, left : left + SIDE] for top, left in places]
    if name != "shifts":
        windows += [window[:, :, ::-1] for window in windows]
    total = np.zeros((len(images), len(CLASSES)))
    for window in windows:
        exponentials = np.exp(((window / 255 - 0.4) / 0.3).sum(axis=1) + BIAS)
        total += exponentials / exponentials.sum(axis=1, keepdims=True)
    return total / len(windows), np.load(folder / "labels.npy")


def test_the_threads_are_those_of_params_yaml(project: Path):
    """They change the bits of a result."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        run_in(project, {"train": {"threads": 3}})
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_as_many_mistakes_as_asked_for_the_worst_first(project: Path, expected: dict[str, Any]):
    run_in(project, {"evaluate": {"mistakes": 3}})
    html = (project / paths.EVALUATION / "report.html").read_text(encoding="utf-8")
    probabilities, labels = expected["test"]
    loss = -np.log(probabilities[np.arange(60), labels])
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[np.argsort(-loss[wrong])][:3]
    places = [html.find(f"test/{index:03}.png") for index in worst]
    assert -1 not in places
    assert places == sorted(places)
    assert html.count("<figure>") == 3


def test_no_search_is_said(project: Path):
    (project / paths.MODEL / "parameters.json").write_text('{"in_force": {"model.name": "linear"}, "searched": []}')
    run_in(project)
    assert "Nothing was searched" in (project / paths.EVALUATION / "report.html").read_text(encoding="utf-8")


def test_of_a_folder_the_page_names_the_last_part_only(project: Path):
    run_in(project, {"data": {"source": "folder", "path": "/home/someone/secret place/flowers"}})
    html = (project / paths.EVALUATION / "report.html").read_text(encoding="utf-8")
    assert "linear on flowers" in html
    assert "someone" not in html


def test_the_stage_starts_without_what_it_does_not_need():
    heavy = "{'torch', 'mlflow', 'matplotlib', 'PIL', 'pytorch_lightning', 'torchmetrics', 'pandas', 'sklearn'}"
    code = f"import sys, pipeline.evaluate; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_judging_needs_neither_lightning_nor_torchmetrics(project: Path):
    code = (
        "import sys, pathlib, torch\n"
        "from models.build import load_model\n"
        "from pipeline import evaluate, inference\n"
        "from pipeline.data.store import open_split\n"
        "inference.predict(load_model(pathlib.Path('artifacts/model')), open_split(pathlib.Path('data/test')),"
        " 'cpu', '')\n"
        "print(sorted({'pytorch_lightning', 'torchmetrics', 'mlflow', 'pandas'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": ""}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "[]\n"


# --- bad input --------------------------------------------------------------------------------------------------------


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def _put_nan(model: Path) -> None:
    network = load_model(model).network
    network.load_state_dict({"fc.weight": torch.full((4, 16), torch.nan), "fc.bias": torch.zeros(4)})
    from safetensors.torch import save_file

    save_file(network.state_dict(), model / "weights.safetensors")


def _labels(folder: Path, value: int) -> None:
    np.save(folder / "labels.npy", np.full(60, value))


def _images(folder: Path, *shape: int) -> None:
    np.save(folder / "images.npy", np.zeros(shape, np.uint8))


BREAKAGES: dict[str, tuple[Any, str]] = {
    "no weights": (lambda p: (p / "artifacts/model/weights.safetensors").unlink(), "weights.safetensors: not found"),
    "cut weights": (lambda p: _shorten(p / "artifacts/model/weights.safetensors"), "weights.safetensors"),
    "cut description": (lambda p: _shorten(p / "artifacts/model/model.yaml"), "model.yaml"),
    "no description": (lambda p: (p / "artifacts/model/model.yaml").unlink(), "model.yaml: not found"),
    "weights of nothing": (lambda p: _put_nan(p / "artifacts/model"), "image 0 are not finite"),
    "other classes": (
        lambda p: (p / "data/prepared/classes.json").write_text(json.dumps(["a", "b", "c", "d"])),
        "trained for the classes zero, ",
    ),
    "no test split": (lambda p: shutil.rmtree(p / "data/test"), "data/test"),
    "no test images": (lambda p: (p / "data/test/images.npy").unlink(), "data/test"),
    "labels beyond the classes": (lambda p: _labels(p / "data/test", 9), "data/test"),
    "images of another size": (lambda p: _images(p / "data/test", 60, 5, 5, 1), "images of 5 x 5 x 1, but"),
    "no index": (lambda p: (p / "data/test/index.parquet").unlink(), "data/test: its index"),
    "cut index": (lambda p: _shorten(p / "data/test/index.parquet"), "data/test: its index"),
    "index of another split": (
        lambda p: shutil.copy(p / "data/prepared/validation/index.parquet", p / "data/test"),
        "24 rows in its index, 60 images",
    ),
    "no curves": (lambda p: (p / "artifacts/model/learning_curves.csv").unlink(), "learning_curves.csv: not found"),
    "cut curves": (lambda p: _shorten(p / "artifacts/model/learning_curves.csv"), "learning_curves.csv: needs"),
    "no parameters": (lambda p: (p / "artifacts/model/parameters.json").unlink(), "parameters.json: not found"),
    "cut parameters": (lambda p: _shorten(p / "artifacts/model/parameters.json"), "parameters.json: damaged"),
    "other parameters": (
        lambda p: (p / "artifacts/model/parameters.json").write_text("{}"),
        "parameters.json: damaged",
    ),
    "no report of prepare": (lambda p: (p / "data/prepared/report.json").unlink(), "report.json"),
    "no contact sheet": (lambda p: (p / "data/prepared/contact_sheet.png").unlink(), "contact_sheet.png"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_bad_input_is_named_and_the_old_outputs_stay(project: Path, name: str):
    before = files(project / paths.EVALUATION)
    breakage, said = BREAKAGES[name]
    breakage(project)
    with pytest.raises(Mistake) as caught:
        run_in(project)
    assert said in str(caught.value)
    assert files(project / paths.EVALUATION) == before
    assert len(list((project / "artifacts").iterdir())) == 2  # no scratch folder is left
