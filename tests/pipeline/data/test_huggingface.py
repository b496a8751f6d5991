"""Sets of Hugging Face `datasets` in local folders, as `save_to_disk` and the hub lay them out."""

import io
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline import paths
from pipeline.data.raw.base import TEST, TRAIN, VALIDATION, Source
from pipeline.data.sources.huggingface import Images
from pipeline.errors import Mistake
from tests.pipeline.data import official

datasets = pytest.importorskip("datasets", reason="the extra retrace[huggingface] is not installed")

OWN: dict[str, Any] = {
    "dataset": None, "configuration": None, "revision": None, "image_column": "image", "label_column": "label",
    "train_split": "train", "validation_split": None, "test_split": "test",
}  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(official.pixels(seed, 6, 8, 3)).save(stream, "PNG")
    return stream.getvalue()


def rows(start: int, count: int) -> dict[str, list[Any]]:
    places = range(start, start + count)
    return {"image": [{"bytes": png(n), "path": None} for n in places], "label": [n % 2 for n in places]}


def table(values: Mapping[str, list[Any]], label: Any = None) -> Any:
    label = label or datasets.ClassLabel(names=["cat", "dog"])
    return datasets.Dataset.from_dict(
        dict(values), features=datasets.Features({"image": datasets.Image(), "label": label})
    )


def saved(folder: Path, **splits: Any) -> Path:
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return folder


def two_splits(folder: Path) -> Path:
    return saved(folder, train=table(rows(0, 6)), test=table(rows(6, 4)))


def parquet(folder: Path) -> Path:
    for name, start, count in [("data/train-00000-of-00002", 0, 3), ("data/train-00001-of-00002", 3, 3)]:
        table(rows(start, count)).to_parquet(str(folder / f"{name}.parquet"))
    table(rows(6, 4)).to_parquet(str(folder / "data" / "test-00000-of-00001.parquet"))
    table(rows(0, 1)).to_parquet(str(folder / "data" / "training-notes.parquet"))  # of no split
    return folder


def opened(folder: Path | None, **changes: Any) -> Images:
    return Images(folder, **{**OWN, **changes})


def refused(source: Images) -> str:
    with pytest.raises(Mistake) as caught:
        source.scan()
    return str(caught.value)


@pytest.mark.parametrize("make", [two_splits, parquet])
def test_every_image_and_label_comes_back(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    source: Source = opened(make(tmp_path / "set"))
    scan = source.scan()
    assert scan.classes == ("cat", "dog")
    assert [(found.path, found.split, found.label) for found in scan.found] == [
        *((f"train/{n:05d}", TRAIN, ("cat", "dog")[n % 2]) for n in range(6)),
        *((f"test/{n:05d}", TEST, ("cat", "dog")[n % 2]) for n in range(4)),
    ]
    contents = dict(source.contents([found.path for found in scan.found]))
    assert list(contents.values()) == [png(n) for n in range(10)]
    assert [found.stamp.size for found in scan.found] == [len(content) for content in contents.values()]
    again = opened(tmp_path / "set")  # as prepare opens it: a read without a scan
    np.testing.assert_array_equal(
        again.decoder(6, 3)(again.read("test/00001")).pixels, official.pixels(7, 6, 8, 3)[:, 1:7]
    )
    with pytest.raises(FileNotFoundError):
        again.read("test/00004")


def _reads(source: Source, paths: list[str], found: "multiprocessing.SimpleQueue[list[bytes]]") -> None:
    found.put([source.read(path) for path in paths])


@pytest.mark.parametrize("make", [two_splits, parquet])
def test_forked_processes_read_at_once(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    make(tmp_path / "set")
    context = multiprocessing.get_context("fork")
    for opened_before in (True, False):
        source = opened(tmp_path / "set")
        if opened_before:
            source.read("train/00000")
        queues = [context.SimpleQueue() for _ in range(3)]
        paths = [f"train/{n:05d}" for n in range(6)]
        workers = [context.Process(target=_reads, args=(source, paths, queue), daemon=True) for queue in queues]
        for worker in workers:
            worker.start()
        assert [queue.get() for queue in queues] == [[png(n) for n in range(6)]] * 3
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0


def test_one_set_without_splits_is_the_train_split(tmp_path: Path) -> None:
    table(rows(0, 6)).save_to_disk(str(tmp_path / "set"))
    scan = opened(tmp_path / "set", test_split=None).scan()
    assert {found.split for found in scan.found} == {TRAIN}


def test_own_names_of_columns_and_splits(tmp_path: Path) -> None:
    own = {"image": "img", "label": "kind"}
    splits = {"fit": rows(0, 6), "dev": rows(6, 2), "eval": rows(8, 2)}
    saved(tmp_path / "set", **{name: table(values).rename_columns(own) for name, values in splits.items()})
    source = opened(
        tmp_path / "set", image_column="img", label_column="kind", train_split="fit", validation_split="dev",
        test_split="eval",
    )  # fmt: skip
    assert [found.split for found in source.scan().found] == [TRAIN] * 6 + [VALIDATION] * 2 + [TEST] * 2
    assert source.read("validation/00001") == png(7)


def test_a_shuffled_and_filtered_set(tmp_path: Path) -> None:
    chosen = table(rows(0, 10)).shuffle(seed=3).filter(lambda row: row["label"] == 1)
    saved(tmp_path / "set", train=chosen, test=table(rows(0, 2)))
    source = opened(tmp_path / "set")
    scan = source.scan()
    odd = {png(n) for n in (1, 3, 5, 7, 9)}
    assert {source.read(found.path) for found in scan.found if found.split == TRAIN} == odd


@pytest.mark.parametrize(
    ("values", "classes"),
    [(["b", "a", "c\n", "a"], ("a", "b", "c\\n")), ([10, 9, -1, 10], ("-1", "9", "10"))],
)
def test_labels_without_names(tmp_path: Path, values: list[Any], classes: tuple[str, ...]) -> None:
    kind = datasets.Value("string" if isinstance(values[0], str) else "int32")
    saved(tmp_path / "set", train=table({**rows(0, 4), "label": values}, kind))
    assert opened(tmp_path / "set", test_split=None).scan().classes == classes


def test_images_as_plain_bytes(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Value("binary"), "label": datasets.Value("string")})
    plain = datasets.Dataset.from_dict({"image": [png(0), png(1)], "label": ["a", "b"]}, features=features)
    source = opened(saved(tmp_path / "set", train=plain), test_split=None)
    assert len(source.scan().found) == 2
    assert source.read("train/00001") == png(1)


def test_a_path_in_a_table_is_never_opened(tmp_path: Path) -> None:
    """It would read any file of this machine for whoever wrote the table."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(0))
    outside = {**rows(0, 2), "image": [{"bytes": None, "path": str(secret)}, {"bytes": png(1), "path": "1.png"}]}
    folder = tmp_path / "set"
    folder.mkdir()
    import pyarrow.parquet as pq

    pq.write_table(table(outside).data.table, folder / "train.parquet")  # to_parquet would embed the file
    source = opened(folder, test_split=None)
    found = source.scan().found
    assert "names a file instead of holding its bytes" in str(found[0].problem)
    assert found[1].problem is None
    with pytest.raises(FileNotFoundError):
        source.read("train/00000")
    from_hub = opened(None, dataset=str(folder), test_split=None)
    assert refused(from_hub).endswith(f"names {secret}, a file of this machine, as its own: not taken")


def test_what_is_wrong_is_told_with_the_key(tmp_path: Path) -> None:
    folder = two_splits(tmp_path / "set")
    place = f"data.path: {folder}"
    assert refused(opened(folder, test_split="validation")) == (
        f"data.huggingface.test_split: validation: no such split in {place} (there: test, train)"
    )
    assert refused(opened(folder, image_column="img")).startswith(f"{place}: split train: no column img (image, label)")
    assert refused(opened(folder, image_column="label")) == f"{place}: column label is int64, no encoded images"
    assert f"data.path: {tmp_path}/none: not found" in refused(opened(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    assert "neither written by `save_to_disk` nor Parquet files" in refused(opened(tmp_path / "empty"))
    saved(tmp_path / "unlabelled", train=table(rows(0, 2)), test=table({**rows(0, 2), "label": [0, -1]}))
    message = refused(opened(tmp_path / "unlabelled"))
    assert "split test, row 1: label -1, but label has 2 classes" in message
    assert "set data.huggingface.test_split to null" in message
    saved(tmp_path / "null", train=table({**rows(0, 2), "label": ["a", None]}, datasets.Value("string")))
    assert "split train, row 1: no label in label" in refused(opened(tmp_path / "null", test_split=None))
    hollow = parquet(tmp_path / "hollow")
    table(rows(0, 0)).to_parquet(str(hollow / "data" / "test-00000-of-00001.parquet"))
    assert refused(opened(hollow)).endswith('cannot be read: ValueError: Instruction "test" corresponds to no data!')


@pytest.mark.parametrize("make", [two_splits, parquet])
def test_damaged_files_end_in_a_mistake(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    whole = make(tmp_path / "whole")
    files = [file for file in sorted(whole.rglob("*")) if file.is_file() and "notes" not in file.name]
    for number, file in enumerate(files):
        for content in (b"", b"{", file.read_bytes()[: file.stat().st_size // 2]):
            folder = tmp_path / f"{number}.{len(content)}"
            shutil.copytree(whole, folder)
            (folder / file.relative_to(whole)).write_bytes(content)
            if file.name == "state.json" and content:
                continue
            assert refused(opened(folder)).startswith(f"data.path: {folder}: ")


def test_the_stamp_imports_nothing_and_sees_every_change(tmp_path: Path) -> None:
    folder = two_splits(tmp_path / "set")
    code = (
        "import sys; from pathlib import Path; from pipeline.data.sources.huggingface import Images\n"
        f"print(Images(Path({str(folder)!r}), **{OWN!r}).stamp()); print({{'datasets', 'pyarrow'}} & set(sys.modules))"
    )
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [str(opened(folder).stamp()), "set()"]
    stamps = set()
    for file in sorted(folder.rglob("*.*")):
        file.write_bytes(file.read_bytes())
        stamps.add(opened(folder).stamp())
    assert len(stamps) == 7


def test_a_hub_set_is_kept_as_a_local_one(
    tmp_path: Path,
) -> None:
    """`load_dataset` takes a folder for a hub's name: what is behind it is the library's."""
    hub = parquet(tmp_path / "hub")
    (hub / "data" / "training-notes.parquet").unlink()
    source = opened(None, dataset=str(hub))
    scan = source.scan()
    assert len(scan.found) == 10
    shutil.rmtree(hub)
    again = opened(None, dataset=str(hub))
    assert again.scan().found == scan.found
    assert again.read("test/00000") == png(6)
    assert [file.name for file in paths.raw("huggingface").iterdir()] == [str(hub).replace("/", "--")]


def test_no_name_no_network_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(opened(None)).startswith("data.huggingface.dataset: null; name a set of the hub")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = refused(opened(None, dataset="some/where"))
    assert message.startswith("data.huggingface.dataset: some/where: cannot be loaded: ")
    assert "`load_dataset(...).save_to_disk(FOLDER)` elsewhere" in message
    assert not [file for file in paths.raw("huggingface").glob("*") if not file.name.startswith(".")]
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'retrace[huggingface]'" in refused(opened(two_splits_of(tmp_path)))


def two_splits_of(folder: Path) -> Path:
    (folder / "set").mkdir()
    return folder / "set"
