"""Each official format through the stages source and prepare; and what is wrong with one, at a stage's edge."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline import paths, prepare, source, stage, tracking
from pipeline.data import sources
from pipeline.data.sources.imagenet import FILES
from pipeline.data.store import open_split, read_classes
from pipeline.errors import ExitStatus
from pipeline.params import Params, load
from tests.pipeline.data import official
from tests.pipeline.test_prepare import Recorder

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "open_run", Recorder().open_run)
    monkeypatch.setattr(prepare, "open_run", Recorder().open_run)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def put_cifar10(folder: Path) -> None:
    (folder / "cifar-10-binary.tar.gz").write_bytes(official.cifar10_archive(official.cifar10(each=40)[0]))


def put_cifar100(folder: Path) -> None:
    (folder / "cifar-100-binary.tar.gz").write_bytes(official.cifar100_archive(official.cifar100()[0]))


def put_idx(folder: Path) -> None:
    (folder / "mnist").mkdir()
    for name, values in official.mnist().items():
        (folder / "mnist" / f"{name}.gz").write_bytes(official.packed(official.idx(values)))


def put_imagenet(folder: Path) -> None:
    official.write_imagenet(folder, official.imagenet())


# kind: who puts its files there by hand, train + validation, test, pixels a side, channels, classes
SETS: dict[str, tuple[Callable[[Path], None], int, int, int, int, int]] = {
    "cifar10": (put_cifar10, 200, 40, 32, 3, 10),
    "cifar100": (put_cifar100, 200, 100, 32, 3, 100),
    "idx": (put_idx, 60, 20, 28, 1, 10),
    "imagenet": (put_imagenet, 16, 8, 256, 3, 4),
}


def by_hand(kind: str) -> Params:
    """Its files where they would be downloaded to, and parameters that name it."""
    folder = paths.raw(kind)
    folder.mkdir(parents=True)
    SETS[kind][0](folder)
    return load().overlaid({"data": {"source": kind}})


@pytest.mark.parametrize("kind", SETS)
def test_from_files_put_there_by_hand_to_packed_arrays(kind: str) -> None:
    _, train, test, size, channels, classes = SETS[kind]
    params = by_hand(kind)
    source.run(params)
    prepare.run(params)
    assert len(read_classes(paths.PREPARED)) == classes
    splits = [open_split(folder) for folder in (paths.PREPARED / "train", paths.PREPARED / "validation", paths.TEST)]
    assert sum(map(len, splits[:2])) == train
    assert len(splits[2]) == test
    for split in splits:
        assert split.images.shape[1:] == (size, size, channels)
        assert np.unique(np.asarray(split.images).reshape(len(split), -1), axis=0).shape[0] == len(split)
    if kind == "cifar10":
        images, labels = official.cifar10(each=40)[1]["test_batch"]
        np.testing.assert_array_equal(splits[2].images, images)
        assert splits[2].labels.tolist() == labels


@pytest.mark.parametrize("kind", SETS)
def test_nothing_is_read_again_when_nothing_changed(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = source.time.time_ns
    monkeypatch.setattr(source.time, "time_ns", lambda: now() + 10_000_000_000)  # as if the files had lain there
    params = by_hand(kind)
    source.run(params)
    assert source._is_as_left()
    opened = sources.open_source(kind, None, Path.cwd(), params.data.settings.model_dump())
    monkeypatch.setattr(type(opened), "contents", lambda self, paths: pytest.fail("read") if paths else iter(()))
    source.run(params)
    assert capsys.readouterr().out.endswith("unchanged\n")
    file = next(file for file in sorted(paths.raw(kind).rglob("*.*")))
    file.write_bytes(file.read_bytes())
    assert not source._is_as_left()


@pytest.mark.parametrize("kind", SETS)
def test_a_damaged_set_ends_with_status_2_and_nothing_written(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    params = by_hand(kind)
    for file in sorted(paths.raw(kind).rglob("*.*")):
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        assert stage.guarded(lambda: source.run(params)) == ExitStatus.MISTAKE
        said = capsys.readouterr().err
        assert said.startswith(f"data/raw/{kind}")
        assert file.name in said
        assert "Traceback" not in said
        assert not paths.SOURCE.exists()
        file.write_bytes(whole)
    assert stage.guarded(lambda: source.run(params)) == ExitStatus.SUCCESS


def test_imagenet_is_asked_for_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.guarded(lambda: source.run(load().overlaid({"data": {"source": "imagenet"}}))) == ExitStatus.MISTAKE
    said = capsys.readouterr().err
    for name in FILES:
        assert said.count(name) == 2
