"""The command `retrace`: what it prints and how it ends."""

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli, params
from pipeline.commands import check, doctor, summary, ui
from pipeline.commands.text import brief
from pipeline.errors import ExitStatus, Mistake
from pipeline.params import Params
from pipeline.training.parameters import training_parameters
from tests.conftest import ROOT, make_clone


def retrace(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`retrace WORDS` in a process of its own."""
    code = "import sys; from pipeline.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone that the tests of this file read and do not change."""
    folder = tmp_path_factory.mktemp("project") / "clone"
    make_clone(folder)
    return folder


@pytest.fixture
def shipped() -> Params:
    return params.load(ROOT / "params.yaml")


def changed(folder: Path, *substitutions: tuple[str, str]) -> None:
    """Rewrite params.yaml of a clone."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for old, new in substitutions:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "params.yaml").write_text(text, encoding="utf-8")


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chekc"], "retrace: chekc: unknown command; did you mean 'check'?"),
        (["qqq"], f"retrace: qqq: unknown command; known here: {', '.join(cli.COMMANDS)}"),
        ([], "the following arguments are required: COMMAND"),
        (["trace"], "the following arguments are required: FILE|RUN|METRIC"),
        (["history", "--limit", "0"], "'0' is no count; give a number from 1 on"),
        (["check", "--fast"], "retrace check: unknown: --fast\nsee `retrace check --help`"),
        (["ui", "--port", "0"], "'0' is no port; give a number from 1 to 65535"),
        (["ui", "--port", "http"], "'http' is no port"),
    ],
)
def test_a_wrong_command_line_is_a_mistake(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == ExitStatus.MISTAKE
    printed = capsys.readouterr()
    assert said in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_and_version_end_well(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([word])
    assert ended.value.code == 0
    assert "retrace" in capsys.readouterr().out


def test_outside_a_project_it_says_so(tmp_path: Path) -> None:
    result = retrace(tmp_path, "check")
    assert result.returncode == ExitStatus.MISTAKE
    assert "not inside a retrace project" in result.stderr
    assert str(tmp_path) in result.stderr


def test_it_works_from_below_the_projects_folder(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(bare)
    (bare / "deep" / "below").mkdir(parents=True)
    monkeypatch.chdir(bare / "deep" / "below")
    assert cli.main(["summary"]) == 0
    assert str(bare / "artifacts/evaluation/report.html") in capsys.readouterr().out


def test_the_schema_that_is_printed_is_the_one_that_is_kept(project: Path) -> None:
    result = retrace(project, "schema")
    assert result.returncode == 0
    assert result.stdout == (ROOT / "docs" / "params.schema.json").read_text(encoding="utf-8")


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_accepts_what_is_shipped_and_estimates(clone: Callable[[], Path]) -> None:
    folder = clone()
    changed(folder, ("  threads: 2 ", "  threads: 1 "))  # several wait for one another where tests run side by side
    result = retrace(folder, "check")
    assert (result.returncode, result.stderr) == (0, "")
    assert "1,797 image files in 10 classes" in result.stdout
    assert "380 optimizer steps to train and 684 in 6 trials" in result.stdout
    assert re.search(r"about [\d.]+ (s|min|h) of training at [\d.]+ m?s a step", result.stdout)
    assert result.stdout.endswith("params.yaml and dvc.yaml are valid\n")


@pytest.mark.parametrize(
    ("seconds", "said"), [(5.774, "5.77 s"), (1.0, "1 s"), (0.10449, "104 ms"), (1.33e-6, "1.33 µs"), (4e-9, "4 ns")]
)
def test_short_times_are_told_in_their_unit(seconds: float, said: str) -> None:
    assert brief(seconds) == said


def test_few_steps_are_told_as_a_guess() -> None:
    few = check.Estimate(10, 0, 5.8, 1, 4, "cpu", 100, 0)
    assert "5.8 s a step: a guess from 1 forward-backward step only" in few.lines()[1]
    assert "the middle of 7 forward-backward steps" in dataclasses.replace(few, measured_steps=7).lines()[1]


def test_check_tells_every_mistake_of_both_files(clone: Callable[[], Path]) -> None:
    folder = clone()
    changed(folder, ("\nseed: 0 ", "\nseed: -1 "), ("  lr: 0.1 ", "  lr: 0 "))
    result = retrace(folder, "check")
    assert result.returncode == ExitStatus.MISTAKE
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == ["seed", "optimizer.lr"]
    assert result.stdout == ""
    changed(folder, ("  source: digits ", "  source: folder "), ("  path: null ", "  path: nowhere "))
    (folder / "dvc.yaml").write_text("stages:\n  source:\n    cmd: x\n    depths: 3\n")
    result = retrace(folder, "check")
    assert result.returncode == ExitStatus.MISTAKE
    assert re.search(r"data\.path: .*nowhere: not found", result.stderr)
    assert "dvc.yaml" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "per_class: {}",
            'per_class: {"six": {scale: 0.1}, "6": {scale: 0.1}}',
            "augment.per_class.six: no such class;",
        ),
        ("crop_size: null", "crop_size: 9", "augment.crop_size: 9 is more than the images' 8 pixels;"),
    ],
)
def test_check_holds_augmentation_against_the_images(
    clone: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str
) -> None:
    folder = clone()
    monkeypatch.chdir(folder)
    changed(folder, (old, new))
    with pytest.raises(Mistake) as caught:
        check.check()
    (line,) = caught.value.lines
    assert line.startswith(f"params.yaml: {said}")


def test_check_holds_views_against_the_images(clone: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = clone()
    monkeypatch.chdir(folder)
    changed(folder, ("tta: none", "tta: shifts"), ("tta_pixels: 1 ", "tta_pixels: 8 "))
    with pytest.raises(Mistake, match=r"evaluate\.tta_pixels: 8 moves all of an image of 8 pixels out of sight"):
        check.check()


def test_check_misses_a_stage_and_the_repository(
    clone: Callable[[], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = clone()
    monkeypatch.chdir(folder)
    text = (folder / "dvc.yaml").read_text()
    (folder / "dvc.yaml").write_text(text.replace("  train:", "  tran:", 1))
    assert cli.main(["check"]) == ExitStatus.MISTAKE
    assert "dvc.yaml: stage train is missing" in capsys.readouterr().err
    (folder / ".dvc/tmp").mkdir(exist_ok=True)
    (folder / ".dvc/tmp/rwlock").write_text("")  # as a dvc leaves it that is killed at the wrong moment
    assert cli.main(["check"]) == ExitStatus.MISTAKE
    said = ".dvc/tmp/rwlock: half-written by a dvc that was killed, and stops every other; delete it"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("made", [None, "file", [], ["a/1.png"], ["a/", "b/"]])
def test_a_folder_that_cannot_be_used(tmp_path: Path, shipped: Params, made: list[str] | str | None) -> None:
    """The source itself says what is wrong: the same words as in the stage."""
    folder = tmp_path / "pictures"
    make_files(folder, made)
    chosen = shipped.overlaid({"data": {"source": "folder", "path": str(folder)}})
    with pytest.raises(Mistake, match=r"^data\.path: .*pictures"):
        check.count_images(chosen)


def test_what_cannot_be_learned_from_as_it_is_set_is_told_before_a_run(shipped: Params) -> None:
    with pytest.raises(Mistake, match=r"loss\.name: softmax needs classes, but data\.source pose has targets"):
        check.count_images(shipped.overlaid({"data": {"source": "pose"}}))
    points = shipped.overlaid({"data": {"source": "points"}})
    with pytest.raises(Mistake, match=r"augment\.crop_padding: would blank images of one pixel; set it to 0"):
        check.count_images(points)
    found = check.count_images(points.overlaid({"augment": {"crop_padding": 0}}))
    assert (found.total, found.classes) == (1500, 3)


def make_files(folder: Path, made: list[str] | str | None) -> None:
    if made == "file":
        folder.touch()
    elif made is not None:
        folder.mkdir()
        for name in made:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()


def test_images_are_counted_by_split(tmp_path: Path, shipped: Params) -> None:
    folder = tmp_path / "pictures"
    chosen = shipped.overlaid({"data": {"source": "folder", "path": str(folder)}})
    make_files(folder, [f"{name}/{index}.png" for name in ("cat", "dog") for index in range(50)])
    flat = check.count_images(chosen)
    assert (flat.total, flat.classes) == (100, 2)
    assert check.split_sizes(chosen, flat) == (65, 15, 20)
    split = tmp_path / "split"
    chosen = shipped.overlaid({"data": {"source": "folder", "path": str(split)}})
    sizes = {"train": 20, "test": 5, "val": 3}
    make_files(split, [f"{part}/{name}/{i}.png" for part, n in sizes.items() for name in "ab" for i in range(n)])
    assert check.split_sizes(chosen, check.count_images(chosen)) == (40, 6, 10)


def test_notices_say_what_may_surprise(shipped: Params) -> None:
    assert check.notices(shipped.overlaid({"train": {"threads": 1}})) == []
    adam = shipped.overlaid({"optimizer": {"name": "adam", "momentum": None}})
    assert "search.space.optimizer.momentum: skipped, adam has no momentum" in check.notices(adam)
    drawn = shipped.overlaid({"optimizer": {"name": "random_search", "momentum": None}})
    assert "optimizer.lr, schedule: without meaning for random_search, which follows no slope" in check.notices(drawn)
    assert "search.space.optimizer.lr: skipped, random_search follows no slope" in check.notices(drawn)
    voting = check.notices(shipped.overlaid({"model": {"name": "neighbours"}}))
    assert [line for line in voting if line.startswith("search.space: nothing in it has a meaning here")]
    assert not [line for line in check.notices(drawn) if line.startswith("search.space: nothing")]
    none = shipped.overlaid({"search": {"trials": 0}})
    assert [line for line in check.notices(none) if "switches the search off" in line]
    step = shipped.overlaid({"schedule": {"name": "step", "warmup_epochs": 8}})
    assert [line.split(":")[0] for line in check.notices(step) if line.startswith("schedule")] == [
        "schedule.step.every_epochs", "schedule.warmup_epochs",
    ]  # fmt: skip
    many = shipped.overlaid({"train": {"threads": 1000}})
    assert [line for line in check.notices(many) if line.startswith("train.threads: 1000 on")]


def test_more_threads_side_by_side_than_cores_are_told(shipped: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "usable_cores", lambda: 4)
    monkeypatch.setattr(doctor, "usable_cores", lambda: 4)
    for workers, threads, trials, told in [(2, 2, 6, False), (3, 2, 6, True), (4, 2, 2, False), (4, 2, 0, False)]:
        search = {"workers": workers, "round": 4, "trials": trials}
        chosen = shipped.overlaid({"train": {"threads": threads}, "search": search})
        assert any("3 trials side by side with 2 threads" in line for line in check.notices(chosen)) == told
        notes = [finding.text for finding in doctor.processor(chosen) if finding.mark == "note"]
        assert notes == (["search.workers is 3: 6 threads on 4 cores"] if told else [])


def test_the_estimate_counts_steps_as_training_does(shipped: Params) -> None:
    shipped = shipped.overlaid({"train": {"threads": 1}})
    images = check.Images(total=1000, validation=None, test=None, classes=10)  # 650 to train: 11 batches of 64
    few = shipped.overlaid({"train": {"limit_batches": 3, "epochs": 5}, "search": {"trials": 0}})
    found = check.estimate(few, images)
    assert (found.steps, found.search_steps) == (15, 0)
    assert found.step_seconds > 0
    all_of_it = check.estimate(shipped, images)
    assert (all_of_it.steps, all_of_it.search_steps) == (11 * 20, 11 * 6 * 6)
    assert all_of_it.seconds == pytest.approx(all_of_it.step_seconds * (220 + 396))
    assert check.estimate(shipped.overlaid({"augment": {"copies": 2}}), images).steps == 31 * 20  # of 1,950 images


def test_a_step_on_the_whole_split_is_counted_and_its_memory_told(shipped: Params) -> None:
    whole = shipped.overlaid({"train": {"threads": 1, "batch_size": None}, "search": {"trials": 0}})
    images = check.Images(total=1000, validation=None, test=None, classes=10)
    found = check.estimate(whole, images)
    assert (found.steps, found.batch) == (20, 650)
    (line,) = check.whole_batch(whole, images)  # 650 images of 8x8 grey pixels, four bytes each
    assert line.startswith("train.batch_size: null: each step holds all 650 training images at once, 0.166 MB")
    assert check.whole_batch(shipped, images) == []


def test_check_refuses_a_loss_for_another_task(clone: Callable[[], Path]) -> None:
    folder = clone()
    changed(folder, ("  name: softmax ", "  name: smooth_l1 "))
    result = retrace(folder, "check")
    assert result.returncode == ExitStatus.MISTAKE
    assert result.stderr.startswith(
        "params.yaml: loss.name: smooth_l1 learns numbers, but data.source digits has 10 classes"
    )


def test_a_network_too_deep_for_the_images_is_told(shipped: Params) -> None:
    deep = shipped.overlaid({"model": {"convnet": {"stages": 6}}})
    with pytest.raises(Mistake, match=r"params\.yaml: model\.convnet: .*at least \d+x\d+ pixels"):
        check.estimate(deep, check.Images(1000, None, None, 10))


def test_a_batch_too_small_to_normalize_is_told(shipped: Params) -> None:
    """In the words of search and train, before a step is timed: maps of one pixel would end it in torch."""
    resnet = {"name": "resnet", "resnet": {"depth": 18, "form": "imagenet", "width_factor": 0.1}}
    single = shipped.overlaid({"model": resnet, "data": {"image_size": 32}, "train": {"batch_size": 1}})
    with pytest.raises(Mistake, match=r"params\.yaml: train\.batch_size: 1 is one image a device, and resnet's batch"):
        check.estimate(single, check.Images(1000, None, None, 10))


def test_random_search_is_told_what_dropout_does_to_it(shipped: Params) -> None:
    drawn = {"optimizer": {"name": "random_search", "momentum": None}}
    said = "regularization.dropout: with 0.1, random_search judges"
    for changes, told in [
        ({}, True),
        ({"regularization": {"dropout": 0.0}}, False),
        ({"model": {"name": "linear"}}, False),
    ]:
        notices = check.notices(shipped.overlaid(drawn | changes))
        assert any(line.startswith(said) for line in notices) == told
    assert not any(line.startswith(said) for line in check.notices(shipped))


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_names_the_machine_and_ends_by_its_verdict(project: Path) -> None:
    result = retrace(project, "doctor")
    lines = result.stdout.splitlines()
    assert result.stderr == ""
    subjects = {line[7:19].strip() for line in lines[:-1]}
    assert {"python", "versions", "processor", "accelerator", "git", "dvc", "tracking", "disk"} <= subjects
    wrong = [line for line in lines if line.startswith("wrong")]
    assert result.returncode == (ExitStatus.NEGATIVE_VERDICT if wrong else ExitStatus.SUCCESS)
    assert lines[-1] == (f"{len(wrong)} wrong" if wrong else "nothing is wrong")
    assert "sqlite:///" in result.stdout


@pytest.fixture
def server() -> Iterator[str]:
    """A web server that is no MLflow: /health answers 200, everything under /broken 500."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(500 if self.path.startswith("/broken") else 200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


def findings(found: Iterator[doctor.Finding]) -> list[tuple[str, str]]:
    return [(finding.mark, finding.text + finding.remedy) for finding in found]


def test_doctor_asks_the_tracking_server(shipped: Params, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    [(mark, text)] = findings(doctor.tracking(shipped))
    assert mark == "ok"
    assert "answers" in text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/broken")
    [(mark, text)] = findings(doctor.tracking(shipped))
    assert mark == "wrong"
    assert "answers 500" in text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.replace("//", "//user:secret@"))
    [(mark, text)] = findings(doctor.tracking(shipped))
    assert (mark, "secret" in text) == ("ok", False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@tracking.invalid")
    [(mark, text)] = findings(doctor.tracking(shipped))
    assert (mark, "secret" in text) == ("wrong", False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", gone)
        [(mark, text)] = findings(doctor.tracking(shipped))
    assert mark == "wrong"
    assert "no answer" in text
    assert "retrace sync" in text
    assert "secret" not in text


def test_doctor_compares_versions_with_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ("wrong", "constraints.txt: not foundrestore it from git") in findings(doctor.versions())
    (tmp_path / "constraints.txt").write_text("# made by hand\ntorch==0.1.0\nnumpy==0.0.1\nPyTorch_Lightning==1.0\n")
    [text] = [text for mark, text in findings(doctor.versions()) if mark == "wrong" and "not those of" in text]
    for name in ("torch", "numpy", "pytorch-lightning"):
        assert re.search(rf"\b{name} \S+ instead of", text)
    (tmp_path / "constraints.txt").write_text((ROOT / "constraints.txt").read_text())
    assert doctor.read_constraints("A.b_C==1.0+cpu\n# x==1\n") == {"a-b-c": "1.0+cpu"}


def test_the_lock_is_complete_and_fits_every_machine() -> None:
    pins = doctor.read_constraints((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    assert pins["torch"] == "2.13.0"
    assert not [name for name in pins if re.match("torchvision|timm|nvidia|triton|cuda", name)]
    assert not [version for version in pins.values() if "+" in version]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    direct = re.findall(r'^  "([A-Za-z0-9._-]+)[>=]=[^"]*",\s+# (.*)$', project, flags=re.MULTILINE)
    assert len(direct) > 20
    modules = {"pillow": "PIL", "scikit-learn": "sklearn", "ruamel.yaml": "ruamel"}
    for name, needed_by in direct:
        assert re.sub(r"[-_.]+", "-", name).lower() in pins
        for place in re.findall(r"(?:models|pipeline)/[\w/.]*", needed_by):
            files = [ROOT / place] if (ROOT / place).is_file() else [*(ROOT / place).rglob("*.py")]
            text = "".join(file.read_text(encoding="utf-8") for file in files)
            assert modules.get(name, name.replace("-", "_")) in text, f"pyproject.toml: {place} does not use {name}"


def test_doctor_on_a_folder_that_is_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    [(mark, text)] = findings(doctor.git())
    assert (mark, "git init" in text) == ("wrong", True)
    [(mark, text)] = findings(doctor.dvc())
    assert (mark, "no DVC repository" in text) == ("wrong", True)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert findings(doctor.git())[0][1].startswith("not found")


def test_doctor_says_when_dvc_would_run_another_python(
    clone: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment that is not activated: its python and the one on the PATH are links to the same file."""
    monkeypatch.chdir(clone())
    assert [mark for mark, _ in findings(doctor.dvc())] == ["ok"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "python").symlink_to(Path(sys.executable).resolve())
    monkeypatch.setenv("PATH", str(other), prepend=os.pathsep)
    assert ("wrong", True) in [(mark, str(other) in text) for mark, text in findings(doctor.dvc())]


def test_doctor_says_that_runs_would_be_tagged_as_made_from_changed_code(
    clone: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = clone()
    monkeypatch.chdir(folder)
    (folder / "note.txt").write_text("not tracked: no part of the code")
    assert [mark for mark, _ in findings(doctor.git())] == ["ok"]
    changed(folder, ("\nseed: 0 ", "\nseed: 1 "))
    assert [mark for mark, _ in findings(doctor.git())] == ["note"]


def test_doctor_on_a_full_disk_and_a_machine_with_fewer_cores(shipped: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_FREE_BYTES", 2**62)
    assert findings(doctor.disk())[0][0] == "wrong"
    many = shipped.overlaid({"train": {"threads": 1024}})
    assert [text for mark, text in findings(doctor.processor(many)) if mark == "note" and "1024" in text]
    mps = shipped.overlaid({"train": {"accelerator": "mps"}})
    if sys.platform == "linux":
        assert [text for mark, text in findings(doctor.accelerator(mps)) if mark == "wrong" and "mps" in text]


# --- summary ----------------------------------------------------------------------------------------------------------


SEARCHED = {"optimizer": {"lr": 0.25, "momentum": 0.9}}


def finish(folder: Path, best: dict[str, Any] = SEARCHED) -> None:
    """What a finished run leaves and the summary reads."""
    (folder / "artifacts/evaluation").mkdir(parents=True)
    (folder / "artifacts/model").mkdir()
    metrics = {"test": {"accuracy": 0.98765, "loss": 0.04321}, "validation": {"accuracy": 0.9912, "loss": 0.0311}}
    (folder / "artifacts/evaluation/metrics.json").write_text(json.dumps(metrics))
    parameters = training_parameters(params.load(ROOT / "params.yaml"), best)
    (folder / "artifacts/model/parameters.json").write_text(parameters.to_json())


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and dvc.yaml alone, entered."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_summary_shows_results_and_what_was_searched(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(bare)
    assert cli.main(["summary"]) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert ["accuracy", "0.9912", "0.9877"] in [[cell for cell in row if cell != "│"] for row in rows]
    assert ["optimizer.lr", "0.1", "0.25"] in [[cell for cell in row if cell != "│"] for row in rows]
    assert ["optimizer.momentum", "0.9", "="] in [[cell for cell in row if cell != "│"] for row in rows]
    assert str(bare / "artifacts/evaluation/report.html") in printed
    assert "make ui" in printed


def test_the_summary_says_what_has_changed_since(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(bare)
    lock = "stages: {train: {cmd: x, params: {params.yaml: {optimizer.lr: 0.2, seed: 0, model.convnet: {width: 32}}}}}"
    (bare / "dvc.lock").write_text(lock)
    assert cli.main(["summary"]) == 0
    assert "params.yaml has changed since (optimizer.lr 0.2 -> 0.1): `dvc repro`" in capsys.readouterr().out
    (bare / "dvc.lock").write_text(lock.replace("0.2", "0.1"))
    assert cli.main(["summary"]) == 0
    assert "has changed" not in capsys.readouterr().out


def test_the_summary_shows_what_was_averaged(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(bare)
    file = bare / "artifacts/evaluation/metrics.json"
    metrics = json.loads(file.read_text())
    assert cli.main(["summary"]) == 0
    assert "views" not in capsys.readouterr().out
    file.write_text(json.dumps(metrics | {"validation_tta": {"accuracy": 0.5}, "test_tta": {"accuracy": 0.25}}))
    assert cli.main(["summary"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = [[cell for cell in row if cell != "│"] for row in rows]
    assert ["accuracy", "over", "views", "0.5000", "0.2500"] in shown
    assert ["accuracy", "0.9912", "0.9877"] in shown


def test_the_summary_without_a_search(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(bare, best={})
    assert cli.main(["summary"]) == 0
    assert "searched" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"), [(None, "not found; run `dvc repro` first"), ("{", "not JSON"), ("[]", "not a mapping")]
)
def test_the_summary_before_a_run(
    bare: Path, content: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        finish(bare)
        (bare / "artifacts/evaluation/metrics.json").write_text(content)
    assert cli.main(["summary"]) == ExitStatus.MISTAKE
    assert f"artifacts/evaluation/metrics.json: {said}" in capsys.readouterr().err


def test_the_summary_after_a_training_that_was_interrupted(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(bare)
    shutil.rmtree(bare / "artifacts/model")  # as DVC does before train runs
    assert cli.main(["summary"]) == ExitStatus.MISTAKE
    assert capsys.readouterr().err.splitlines() == [
        "artifacts/model/parameters.json: not found: train has not finished; `dvc repro` makes it, then the report",
        "artifacts/evaluation: still holds the results of the model before",
    ]


def test_summary_shows_missing_figures_as_a_dash(bare: Path, shipped: Params) -> None:
    finish(bare)
    (bare / "artifacts/evaluation/metrics.json").write_text('{"test": {"accuracy": 1}}')
    assert summary.read_metrics() == {"test": {"accuracy": 1}}


# --- ui and sync ------------------------------------------------------------------------------------------------------


# Whoever runs the tests in a shell's background ignores Ctrl-C, and all that they start would.
AS_IN_A_TERMINAL = (  # nohup does likewise with SIGHUP
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    " signal.signal(signal.SIGHUP, signal.SIG_DFL)"
)


def test_the_ui_binds_to_this_machine_alone() -> None:
    words = ui.server_arguments(5001)
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--port") + 1] == "5001"


def test_the_ui_keeps_passwords_off_its_command_line(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user of a machine can list command lines."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:secret@localhost/runs")
    started: list[tuple[Sequence[str], Mapping[str, str]]] = []
    monkeypatch.setattr(ui, "_serve", lambda words, environment: started.append((words, environment)) or 0)
    assert cli.main(["ui", "--port", str(free_port())]) == 0
    [(words, environment)] = started
    assert "secret" not in " ".join(words)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "postgresql://user:secret@localhost/runs"


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_ui_serves_the_projects_own_runs_until_it_is_ended(bare: Path, number: signal.Signals) -> None:
    """The server that runs in the end, asked for the experiment in the project's database, then told to go."""
    import mlflow

    mlflow.MlflowClient(f"sqlite:///{bare}/mlflow.db").create_experiment("found")
    port = free_port()
    with serving(bare, port) as process:
        wait_for(f"http://127.0.0.1:{port}/health")
        assert mlflow.MlflowClient(f"http://127.0.0.1:{port}").get_experiment_by_name("found") is not None
        os.killpg(process.pid, number)  # as a terminal does: to all that it has in the foreground
        printed = process.communicate(timeout=60)[0]  # ends when the last process that can print has ended
    assert process.returncode == 0, printed
    assert "Traceback" not in printed
    assert not is_served(port)


@pytest.mark.long
def test_the_ui_can_be_ended_while_it_starts(bare: Path) -> None:
    port = free_port()
    with serving(bare, port) as process:
        assert process.stdout is not None
        assert f"127.0.0.1:{port}" in process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        printed = process.communicate(timeout=60)[0]
    assert process.returncode in (0, ExitStatus.INTERRUPTED), printed  # before the server was started: the latter
    assert "Traceback" not in printed


@pytest.mark.parametrize(("program", "status"), [("exit 3", 3), ("kill -KILL $$", 128 + signal.SIGKILL)])
def test_the_ui_ends_as_its_server_did(program: str, status: int) -> None:
    with in_mlflows_place(program) as process:
        process.communicate(timeout=60)
    assert process.returncode == status


def test_the_ui_leaves_no_process_behind(tmp_path: Path) -> None:
    """Also not what the server has started, and what is deaf to SIGTERM."""
    with in_mlflows_place(f"(trap '' TERM; touch {tmp_path}/deaf; while :; do sleep 0.1; done) & wait") as process:
        limit = time.monotonic() + 60
        while not (tmp_path / "deaf").exists():
            assert time.monotonic() < limit
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)  # ends when nobody is left who could print
    assert process.returncode == 0


def in_mlflows_place(program: str) -> "subprocess.Popen[bytes]":
    """`retrace ui` with a small shell program as the server, and little patience."""
    serve = f"ui._serve(['sh', '-c', {program!r}], {{}})"
    code = f"{AS_IN_A_TERMINAL}; import sys; from pipeline.commands import ui; ui._PATIENCE_SECONDS = 0.5"
    code += f"; sys.exit({serve})"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)


@contextmanager
def serving(folder: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    """`retrace ui` in a session of its own; ended in any case."""
    code = f"{AS_IN_A_TERMINAL}; import sys; from pipeline.cli import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", code, "ui", "--port", str(port)], cwd=folder, start_new_session=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()


def is_served(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((ui.HOST, port)) == 0


def free_port() -> int:
    with socket.socket() as free:
        free.bind((ui.HOST, 0))
        return int(free.getsockname()[1])


def wait_for(address: str, seconds: float = 60.0) -> None:
    limit = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            assert time.monotonic() < limit, f"{address}: no answer"
            time.sleep(0.2)


def test_the_ui_says_that_a_port_is_taken(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["ui", "--port", str(port)]) == ExitStatus.MISTAKE
    assert f"port {port}: " in capsys.readouterr().err


def test_the_ui_of_a_server_is_the_servers(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@tracking.invalid:5000")
    assert cli.main(["ui"]) == 0
    printed = capsys.readouterr().out
    assert "tracking.invalid:5000" in printed
    assert "secret" not in printed


def test_sync_with_nothing_to_send(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sync"]) == 0
    assert capsys.readouterr().out == "0 runs sent, 0 left, 0 refused\n"
