"""Every study from its command to its files, at the smallest size; resumed, refused, and in MLflow as one group."""

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import paths
from pipeline.params import Params, load
from pipeline.studies import learning_rate, paths_2d, runner
from pipeline.studies.base import Figures, Job, Point
from pipeline.studies.table import STUDIES, expected, page
from pipeline.training.recorder import Fitted
from tests.conftest import ROOT
from tests.pipeline.studies.conftest import files, study

QUICK = ("loss_curves", "paths_2d", "neighbours")  # the others take some seconds each
SMALL = {
    "cost": ["data.shapes.images=200"],
    "mlp_cnn": ["data.shapes.images=200"],
    "alexnet": ["data.shapes.images=200"],
    "pose_losses": ["data.pose.images=120"],
    "hard_cases": ["data.hard_cases.images=200"],
    "small_networks": ["data.points.images=200"],
}
UNTRAINED = {"loss_curves", "paths_2d", "saddles", "neighbours", "neighbour_regions", "gradients", "choosing"}


def tiny(name: str) -> list[str]:
    values = [] if name in UNTRAINED else ["train.epochs=1", "train.limit_batches=2"]
    return [word for value in (*values, *SMALL.get(name, [])) for word in ("-S", value)]


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in STUDIES]
)
def test_a_study_answers_its_question(name: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study(name, *tiny(name)) == 0
    folder = project / paths.STUDIES / name
    report = (folder / "report.md").read_text(encoding="utf-8")
    said = capsys.readouterr().out
    assert STUDIES[name].question in report
    assert report.splitlines()[2].startswith(f"`retrace study {name}")  # how it was made
    verdict = report.splitlines()[4]
    assert re.search(r"\d", verdict)
    assert verdict in said
    rows = list(csv.DictReader((folder / "results.csv").open(encoding="utf-8")))
    assert len(rows) >= 2
    pictures = sorted(folder.rglob("*.png"))
    assert pictures
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert f"({picture.name})" in (picture.parent / "report.md").read_text(encoding="utf-8")
    assert not list((project / ".retrace" / "state" / "study").glob("*")), "a finished study leaves no state"


@pytest.mark.parametrize("name", ["paths_2d", pytest.param("learning_rate", marks=pytest.mark.long)])
def test_equal_work_gives_equal_bytes_whatever_the_workers_and_touches_nothing_of_the_user(
    name: str, project: Path
) -> None:
    (project / "data").mkdir(exist_ok=True)
    (project / "data" / "mine.txt").write_text("mine")
    found = []
    for workers in ("1", "2"):
        assert study(name, *tiny(name), "--workers", workers) == 0
        found.append(files(project / paths.STUDIES / name))
    assert found[0] == found[1]
    assert sorted(path.name for path in (project / "data").iterdir()) in (["mine.txt"], ["mine.txt", "raw"])
    assert sorted(path.name for path in (project / "artifacts").iterdir()) == ["studies"]


def test_an_interrupted_study_goes_on_without_working_on_a_point_twice(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study("paths_2d") == 0
    whole = files(project / paths.STUDIES / "paths_2d")
    worked: list[str] = []
    real, interrupts = paths_2d.walked, [KeyboardInterrupt]

    def counting(job: Job) -> Figures:
        if len(worked) == 5 and interrupts:
            raise interrupts.pop()
        worked.append(f"{job.params.optimizer.name} {job.params.optimizer.momentum} {job.settings['surface']}")
        return real(job)

    monkeypatch.setattr(paths_2d, "walked", counting)
    assert study("paths_2d") == 130
    assert len(worked) == 5
    capsys.readouterr()
    assert study("paths_2d") == 0
    assert "study: 5 of 12 points are kept from before" in capsys.readouterr().out
    assert len(worked) == 12
    assert files(project / paths.STUDIES / "paths_2d") == whole


@pytest.mark.long
def test_an_interrupted_fit_of_a_study_is_not_trained_twice(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipeline.training.fit as fitting

    assert study("learning_rate", *tiny("learning_rate")) == 0
    whole = files(project / paths.STUDIES / "learning_rate")
    trained: list[float] = []
    real, interrupts = fitting.fit, [KeyboardInterrupt]

    def counting(params: Params, data: fitting.TrainingData, **named: Any) -> Fitted:
        if len(trained) == 3 and interrupts:
            raise interrupts.pop()
        trained.append(params.optimizer.lr)
        return real(params, data, **named)

    monkeypatch.setattr(fitting, "fit", counting)
    assert study("learning_rate", *tiny("learning_rate")) == 130
    assert study("learning_rate", *tiny("learning_rate")) == 0
    assert trained == list(learning_rate.RATES)
    assert files(project / paths.STUDIES / "learning_rate") == whole


def test_mlflow_has_a_study_as_one_run_with_its_points_below_it(project: Path) -> None:
    before = set((project / ".retrace" / "runs").glob("*"))
    assert study("paths_2d") == 0
    starts = []
    for folder in set((project / ".retrace" / "runs").glob("*")) - before:
        records = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        starts.append(records[0])
        assert records[-1]["type"] == "end"
        assert records[-1]["status"] == "FINISHED"
    (parent,) = [start for start in starts if start["stage"] == "study"]
    points = [start for start in starts if start["stage"] == "trial"]
    assert parent["tags"]["retrace.stage"] == "study"
    assert len(points) == len(STUDIES["paths_2d"].points(load())) == 12
    assert {start["parent"] for start in points} == {parent["key"]}
    assert {start["tags"]["retrace.study"] for start in points} == {"paths_2d"}
    assert {start["params"]["optimizer.name"] for start in points} == {"sgd", "adagrad", "rmsprop", "adam"}


def test_no_study_trains_on_the_test_split_or_says_a_name_twice() -> None:
    params = load(ROOT / "params.yaml")
    for name, found in STUDIES.items():
        points = runner.chosen(found, params, {})[1]
        names = [point.name for point in points]
        assert len(names) == len(set(names)) >= 1, name
        assert all(isinstance(point, Point) for point in points)


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["learning_rat"], "did you mean 'learning_rate'?"),
        (["learning_rate", "-S", "train.epoch=1"], "train.epoch: unknown key; did you mean 'epochs'?"),
        (["learning_rate", "-S", "train.epochs"], "must be KEY=VALUE"),
        (["learning_rate", "-S", "train.epochs=[1"], "is not YAML"),
        (["learning_rate", "-S", "train=1", "-S", "train.epochs=1"], "it is a section"),
        (["learning_rate", "-S", "optimizer.lr=0.123"], "optimizer.lr=0.123: has no effect"),
        (["-S", "train.epochs=1"], "name one"),
        (["learning_rate", "--workers", "0"], "no count"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(
    words: list[str], said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(*words) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_the_list_has_every_question(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(STUDIES)
    assert all(found.question in line for found, line in zip(STUDIES.values(), lines, strict=True))


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_says_its_command_and_the_figures_to_expect(name: str) -> None:
    said = sys.modules[STUDIES[name].points.__module__].__doc__ or ""
    assert f"\n    retrace study {name}\n" in said
    assert re.search(r"\d", expected(STUDIES[name])), "numbers that were measured, not an opinion"


def test_the_page_of_studies_is_current() -> None:
    written = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    assert written == page(), "`python -m pipeline.studies.table > docs/studies.md` writes it anew"
    assert "docs/studies.md" in (ROOT / "README.md").read_text(encoding="utf-8")
