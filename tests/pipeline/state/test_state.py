"""What a stage keeps: by a fingerprint, held by one process, until dvc.lock has the result."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import params, paths, state
from pipeline.errors import Mistake
from pipeline.params import Params
from pipeline.state import held, sweep_landed, what_changed, work
from pipeline.tracking.run import _refuse_changes

DVC_YAML = """
stages:
  train:
    cmd: python -m pipeline.train
    deps:
      - data/in
      - models/networks/${model.name}.py
    params:
      - seed
      - optimizer.lr
      - model.${model.name}
    outs:
      - out
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train")
    Path("params.yaml").write_text(params_text)
    Path("dvc.yaml").write_text(DVC_YAML)
    for name in ("data/in/a", "data/in/b", "models/networks/convnet.py", "models/networks/linear.py"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    return tmp_path


def changed(**changes: object) -> Params:
    return params.load().overlaid(changes)


def fingerprint(chosen: Params | None = None) -> str:
    return work("train", chosen or params.load()).fingerprint


def test_it_is_of_what_dvc_yaml_names_and_nothing_else(project: Path) -> None:
    now = work("train", params.load())
    assert set(now.dependencies) == {"data/in", "models/networks/convnet.py"}
    assert now.parameters == {
        "seed": 0, "optimizer.lr": 0.1, "model.convnet.width": 32, "model.convnet.stages": 2,
        "model.convnet.first_depth": 2, "model.convnet.depth": 2, "model.convnet.activation": "relu",
        "model.convnet.normalization": "batch", "model.convnet.pooling": "max", "model.convnet.pool_size": 2,
    }  # fmt: skip
    assert fingerprint() == now.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda: Path("data/in/a").write_text("other"),
        lambda: Path("data/in/c").write_text("new"),
        lambda: Path("models/networks/convnet.py").write_text("code"),
    ],
)
def test_a_changed_file_makes_it_another(project: Path, change) -> None:
    before = fingerprint()
    change()
    assert fingerprint() != before


def test_a_changed_value_makes_it_another_and_an_operational_one_does_not(project: Path) -> None:
    before = fingerprint()
    assert fingerprint(changed(optimizer={"lr": 0.2})) != before
    assert fingerprint(changed(model={"name": "linear"})) != before
    assert fingerprint(changed(tracking={"drain_seconds": 1.0}, train={"checkpoint_seconds": 1.0})) == before
    assert fingerprint(changed(model={"mlp": {"width": 8, "depth": 1}})) == before  # a family that rests
    Path("models/networks/linear.py").write_text("code")
    assert fingerprint() == before


def test_another_environment_makes_it_another(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint()
    (tmp_path / "site" / "torch-9.9.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert fingerprint() != before


def land(outputs: dict[str, str], lr: float = 0.1) -> None:
    """What DVC writes once a stage has ended."""
    now = work("train", params.load())
    deps = "".join(f"    - path: {path}\n      md5: {digest}\n" for path, digest in now.dependencies.items())
    outs = "".join(f"    - path: {path}\n      md5: {digest}\n" for path, digest in outputs.items())
    values = f"        seed: 0\n        optimizer.lr: {lr}\n        model.convnet:\n          width: 32\n"
    Path("dvc.lock").write_text(
        f"schema: '2.0'\nstages:\n  train:\n    cmd: x\n    deps:\n{deps}    params:\n      params.yaml:\n{values}"
        f"    outs:\n{outs}"
    )


def hold(outputs: dict[str, str] | None = None) -> tuple[str, bool]:
    """Work once; the run's key, and whether something was taken up."""
    with held(work("train", params.load())) as kept:
        (kept.work.folder / "checkpoints").mkdir(exist_ok=True)
        if outputs is not None:
            kept.finish(outputs)
    return kept.run_key, kept.is_resumed


def test_whoever_starts_the_same_work_goes_on_with_its_run(project: Path) -> None:
    first, _ = hold()
    assert hold() == (first, True)
    assert hold({"out": "1.dir"}) == (first, True)
    assert hold({"out": "1.dir"}) == (first, True)  # dvc was killed before it wrote dvc.lock


def test_a_result_that_has_landed_is_made_again(project: Path) -> None:
    first, _ = hold({"out": "1.dir"})
    land({"out": "1.dir"})
    again, resumed = hold()
    assert again != first
    assert not resumed
    assert not (paths.states() / "train" / fingerprint() / "old").exists()


@pytest.mark.parametrize("landed", [{"out": "2.dir"}, None], ids=["another result", "other values"])
def test_a_lock_of_something_else_lands_nothing(project: Path, landed: dict[str, str] | None) -> None:
    first, _ = hold({"out": "1.dir"})
    land(landed or {"out": "1.dir"}, lr=0.1 if landed else 0.3)
    assert hold() == (first, True)


def test_what_has_landed_is_swept_and_nothing_else(project: Path) -> None:
    hold({"out": "1.dir"})
    finished = work("train", params.load()).folder
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("\nseed: 0 ", "\nseed: 1 "))
    hold()
    unfinished = work("train", params.load()).folder
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("\nseed: 1 ", "\nseed: 0 "))
    sweep_landed()
    assert finished.is_dir()
    land({"out": "1.dir"})
    sweep_landed()
    assert not finished.exists()
    assert unfinished.is_dir()


def test_a_stage_by_hand_keeps_nothing_once_it_has_ended(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE")
    first, _ = hold()
    assert hold({"out": "1.dir"}) == (first, True)
    assert hold()[1] is False


@pytest.mark.parametrize("spoilt", ["", "{", "[]", '{"run": 1}'])
def test_a_spoilt_record_is_begun_anew(project: Path, spoilt: str) -> None:
    first, _ = hold()
    (work("train", params.load()).folder / "state.json").write_text(spoilt)
    again, resumed = hold()
    assert again != first
    assert not resumed


HOLDER = """
import sys, time
from pipeline import params, state
with state.held(state.work("train", params.load())) as kept:
    print(kept.run_key, flush=True)
    time.sleep(float(sys.argv[1]))
"""


def holder(seconds: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip


def test_a_second_process_says_that_it_waits_and_then_goes_on(project: Path) -> None:
    with holder(60) as first:
        key = first.stdout.readline()
        with holder(0) as second:
            warned = second.stderr.readline()
            time.sleep(1.0)
            assert second.poll() is None
            first.kill()  # its lock goes with it
            said, rest = second.communicate(timeout=60)
    assert said == key
    assert warned + rest == f"train: the same work is under way in process {first.pid}; waiting for it to end\n"


# --- what changes under a stage ---------------------------------------------------------------------------------------


def test_nothing_changed(project: Path) -> None:
    begun = work("train", params.load())
    os.utime("data/in/a")  # touched
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("drain_seconds: 60.0", "drain_seconds: 1.0"))
    assert what_changed(begun) == []


def test_what_has_changed_is_named(project: Path) -> None:
    begun = work("train", params.load())
    Path("data/in/new").write_text("new")
    Path("models/networks/convnet.py").unlink()
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("  lr: 0.1 ", "  lr: 0.2 "))
    assert what_changed(begun) == [
        "data/in: changed while train ran",
        "models/networks/convnet.py: changed while train ran",
        "params.yaml: optimizer.lr: was 0.1 when train began and is 0.2 now",
    ]


@pytest.mark.parametrize("by_dvc", [True, False])
def test_outputs_of_what_has_changed_go_where_nobody_else_can_have_made_them(
    project: Path, monkeypatch: pytest.MonkeyPatch, by_dvc: bool
) -> None:
    if not by_dvc:
        monkeypatch.delenv("DVC_STAGE")
    begun = work("train", params.load())
    Path("out").mkdir()
    _refuse_changes(begun, [Path("out")])
    assert Path("out").is_dir()
    Path("data/in/a").write_text("other")
    with pytest.raises(Mistake, match="data/in: changed while train ran"):
        _refuse_changes(begun, [Path("out")])
    assert Path("out").is_dir() != by_dvc


def test_a_file_that_can_not_be_read_any_more_is_a_change(project: Path) -> None:
    begun = work("train", params.load())
    Path("params.yaml").write_text("seed: [")
    assert "params.yaml: cannot be read any more" in what_changed(begun)[0]


def test_a_record_holds_what_the_result_is_a_function_of(project: Path) -> None:
    with held(work("train", params.load())) as kept:
        record = json.loads((kept.work.folder / "state.json").read_text())
    assert record["dependencies"] == kept.work.dependencies
    assert record["parameters"]["optimizer.lr"] == 0.1
    assert record["environment"] == state.environment()
