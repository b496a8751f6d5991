"""Tables as people write them, and each way in which one can be wrong: told with the line and the remedy."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from pipeline.data.sources.table import Images
from pipeline.errors import Mistake
from tests.pipeline.data import archives

NAMES = [f"{label}{n}.png" for label in "ab" for n in range(3)]


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    archives.folder({f"set/images/{name}": name.encode() for name in NAMES}, tmp_path)


def text(*rows: str, header: str = "path,label") -> bytes:
    return "\n".join([header, *rows, ""]).encode()


GOOD = text(*(f"{name},{name[0]}" for name in NAMES))


def opened(content: bytes | pa.Table, **settings: Any) -> Images:
    name = "labels.csv" if isinstance(content, bytes) else "labels.parquet"
    place = Path("set") / name
    if isinstance(content, bytes):
        place.write_bytes(content)
    else:
        parquet.write_table(content, place)
    return Images(Path("set"), **({"file": name, "folder": "images", "image": "path", "label": "label"} | settings))


def refused(content: bytes | pa.Table, **settings: Any) -> str:
    with pytest.raises(Mistake) as caught:
        opened(content, **settings).scan()
    return str(caught.value)


def columns(**more: list[Any]) -> pa.Table:
    return pa.table({"path": NAMES, "label": [name[0] for name in NAMES]} | more)


# --- as people write them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_text_of_any_spreadsheet(delimiter: str, newline: str, mark: str) -> None:
    content = GOOD.decode().replace(",", delimiter).replace("\n", newline)
    scan = opened((mark + content + newline).encode()).scan()
    assert scan.classes == ("a", "b")
    assert [(found.path, found.label) for found in scan.found] == [(f"images/{name}", name[0]) for name in NAMES]


def test_quotes_and_spaces_around_labels() -> None:
    rows = [f'"{name}"," {name[0]}, or ""so"" "' for name in NAMES]
    assert opened(text(*rows)).scan().classes == ('a, or "so"', 'b, or "so"')


def test_paths_begin_where_the_table_lies_or_at_the_folder_that_is_named() -> None:
    rows = [f".\\{name},{name[0]}" for name in NAMES]
    Path("set/images/labels.csv").write_bytes(text(*rows))
    for path, settings in [
        ("set/images/labels.csv", {}),
        ("set", {"file": "images/labels.csv"}),
        ("set", {"file": "images/labels.csv", "folder": "images/"}),
    ]:
        scan = Images(Path(path), image="path", label="label", **settings).scan()
        assert [found.path.rpartition("/")[2] for found in scan.found] == NAMES
    Path("set/meta").mkdir()
    Path("set/meta/labels.csv").write_bytes(text(*(f"../images/{name},{name[0]}" for name in NAMES)))
    scan = Images(Path("set"), file="meta/labels.csv", image="path", label="label").scan()
    assert [found.path for found in scan.found] == [f"images/{name}" for name in NAMES]


def test_targets_boxes_groups_and_splits() -> None:
    boxes = {"left": [0, 1, 2, 3, 4, 5], "top": [0.5] * 6, "right": [10] * 6, "bottom": [1e3] * 6}
    more = boxes | {"patient": [7, 7, 8, 8, 9, 9], "fold": ["train", "VAL", "test"] * 2}
    scan = opened(columns(**more), box="left, top, right, bottom", group="patient", split="fold").scan()
    first = scan.found[1]
    assert (first.box, first.group, first.split) == ((1, 0.5, 10, 1000), "7", "validation")
    scan = opened(columns(x=[0.1] * 6, y=list(range(6))), label=None, targets="y,x").scan()
    assert (scan.classes, scan.targets) == ((), ("y", "x"))
    assert scan.found[2].target == (2, 0.1)
    assert scan.found[2].label is None
    rows = [f"{name}, -1e-3 ,{n}" for n, name in enumerate(NAMES)]
    scan = opened(text(*rows, header="path,x,y"), label=None, targets="x, y").scan()
    assert scan.found[5].target == (-0.001, 5)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([1, 2, 10] * 2, ("1", "10", "2")),
        ([1.0, 2.0, 10.0] * 2, ("1", "10", "2")),
        ([True, False, True] * 2, ("False", "True")),
        (["007", "008", "010"] * 2, ("007", "008", "010")),
        (pa.array(["x", "y", "x"] * 2).dictionary_encode(), ("x", "y")),
        (pa.array([1, 2, 3] * 2, pa.int8()).dictionary_encode(), ("1", "2", "3")),
        (pa.array(["x", "y", "x"] * 2, pa.large_string()), ("x", "y")),
    ],
)
def test_labels_of_any_type(labels: Any, classes: tuple[str, ...]) -> None:
    assert opened(pa.table({"path": NAMES, "label": labels})).scan().classes == classes


def test_the_stamp_sees_every_change() -> None:
    source = opened(GOOD)
    before = source.stamp()
    assert source.stamp() == before
    Path("set/elsewhere.txt").write_text("not named in the table")
    assert source.stamp() == before
    Path("set/images/a0.png").write_bytes(b"other")
    touched = source.stamp()
    assert touched != before
    assert opened(text(*(f"{name},{'ba'['ab'.index(name[0])]}" for name in NAMES))).stamp() != touched
    numbers = [opened(columns(x=[x] * 6), label=None, targets="x").stamp() for x in (1.0, 2.0)]
    assert numbers[0] != numbers[1]


def test_a_file_that_cannot_be_read_is_listed_as_such() -> None:
    with open("set/images/a0.png", "wb") as stream:
        stream.truncate(5 << 30)  # takes no room on the disk
    assert "not opened" in str(opened(GOOD).scan().found[0].problem)


# --- what is wrong with columns ---------------------------------------------------------------------------------------


def test_columns_that_are_not_there() -> None:
    message = refused(GOOD, image="file", label="lable", group="patient")
    assert "labels.csv: no column 'file', which data.table.image names; there are: path, label" in message
    assert "no column 'lable', which data.table.label names; did you mean 'label'?" in message
    assert "no column 'patient', which data.table.group names" in message
    assert "did you mean 'label'?" in refused(columns(), label="labels")
    assert "two columns are called label" in refused(text("a0.png,a,a", header="path,label,label"))


def test_lines_with_other_cells() -> None:
    message = refused(GOOD + b"a0.png\na0.png,a,b\n")
    assert "labels.csv: line 8: 1 cells, but 2 columns" in message
    assert "labels.csv: line 9: 3 cells, but 2 columns" in message


def test_files_that_are_no_table() -> None:
    assert "labels.csv: empty" in refused(b"")
    assert "labels.csv: no rows" in refused(b"path,label\n\n")
    assert "labels.csv: no rows" not in refused(b"\n\n")
    assert "UTF-16; save it as UTF-8" in refused(GOOD.decode().encode("utf-16"))
    assert "line 5: not UTF-8; save it as UTF-8" in refused(text("a0.png,a").replace(b"\n", b"\n\n") + b"\xe9,b\n")
    assert "line 8: a zero byte" in refused(GOOD + b"\0,b\n")
    assert "line 2: unexpected end of data; mend the quotes" in refused(text('"a0.png,a')[:-1])
    assert "larger than field limit" in refused(text(f"a0.png,{'x' * 200_000}"))


@pytest.mark.parametrize("keep", [4, 20, -1, -20])
def test_a_broken_parquet_file(keep: int) -> None:
    opened(columns())
    content = Path("set/labels.parquet").read_bytes()
    Path("set/labels.parquet").write_bytes(content[:keep])
    with pytest.raises(Mistake, match=r"labels\.parquet: damaged \(.*\); copy or write it again"):
        Images(Path("set"), file="labels.parquet", image="path", label="label").scan()


def test_a_parquet_file_of_more_rows_than_it_can_have_paths() -> None:
    table = pa.table({"path": pa.array(["x"] * 1_000_000), "label": pa.array(["x"] * 1_000_000)})
    assert "taken for a bomb" in refused(table)


def test_columns_of_a_strange_type() -> None:
    message = refused(pa.table({"path": NAMES, "label": [[1]] * 6}))
    assert "column 'label', which data.table.label names, holds list<" in message
    assert "row 1: path: 5 is no path" in refused(pa.table({"path": [5] * 6, "label": ["a"] * 6}))


# --- what is wrong with cells -----------------------------------------------------------------------------------------


def test_files_that_are_missing_ten_by_name() -> None:
    message = refused(GOOD + "".join(f"gone{n}.png,a\n" for n in range(14)).encode())
    lines = message.splitlines()
    assert lines[0].endswith("labels.csv: line 8: gone0.png: no such file")
    assert len(lines) == 12
    assert lines[10] == "... and 4 more"
    assert lines[11] == "14 of 20 are not in images/ in data.path; data.table.folder says where they are"


@pytest.mark.parametrize("path", ["/etc/passwd", "C:\\x.png", "https://host.invalid/x.png", "", "../../x.png"])
def test_paths_that_lead_outside_or_nowhere(path: str) -> None:
    message = refused(GOOD + f"{path},a\n".encode())
    assert "labels.csv: line 8: path: " in message
    assert "paths must be relative to the table" in message


def test_an_image_with_two_rows() -> None:
    message = refused(GOOD + b"./a0.png,a\n")
    assert "labels.csv: line 8: images/a0.png: also in line 2\n" in message
    assert "an image has one row" in message


def labelled(*labels: str) -> bytes:
    return text(*(f"{name},{label}" for name, label in zip(NAMES, labels, strict=True)))


def test_labels_of_two_kinds() -> None:
    message = refused(labelled("1", "2", "cat", "1", "2", "cat"))
    assert "labels.csv: line 2: label: 1, a number\n" in message
    assert "labels.csv: line 4: label: cat, a word\n" in message
    assert "line 3: label: 1.5 is no class" in refused(labelled("1", "1.5", "2", "1", "2", "1"))
    assert "line 3: label: 01, and elsewhere 1\n" in refused(labelled("1", "01", "2", "1", "2", "1"))


def test_labels_that_are_empty() -> None:
    message = refused(labelled("a", "", " ", "b", "b", "b"))
    assert "line 3: label: empty\n" in message
    assert "line 4: label: empty\n" in message
    assert "row 2: label: empty" in refused(pa.table({"path": NAMES, "label": [1, None, math.nan, 2, 2, 2]}))
    rows = [f"{name},{name[0]},{'' if n == 1 else 'x'}" for n, name in enumerate(NAMES)]
    assert "line 3: patient: empty" in refused(text(*rows, header="path,label,patient"), group="patient")


def test_one_class_only() -> None:
    assert "labels.csv: one class only (a)" in refused(labelled(*"aaaaaa"))


def test_splits() -> None:
    def split(*names: str) -> str:
        return refused(columns(fold=list(names)), split="fold")

    message = split("train", "trian", "test", "train", "val", "test")
    assert "row 2: fold: trian is no split\na split is one of train, val, valid, validation, test" in message
    message = split("train", "train", "train", "train", "test", "test")
    assert "labels.parquet: no a in the split test, while another split has this class" in message


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "", "1_000", "1,5", "x", "0x10", "1e999"])
def test_targets_that_are_no_number(value: str) -> None:
    message = refused(text(*(f'{name},1,"{value}"' for name in NAMES), header="path,x,y"), label=None, targets="x,y")
    assert "labels.csv: line 2: y: " in message
    assert "every row needs a number there" in message


@pytest.mark.parametrize("value", [math.nan, math.inf, None, True])
def test_targets_of_a_parquet_file_that_are_no_number(value: Any) -> None:
    column = [value] * 6 if value is True else [1.0, value, 2.0, 3.0, 4.0, 5.0]
    assert f"row {1 if value is True else 2}: y: " in refused(columns(y=column), label=None, targets="y")


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ((5, 0, 5, 9), "no area"), ((6, 0, 5, 9), "no area"), ((0, 9, 5, 9), "no area"),
        ((-1, 0, 5, 9), "outside the image"),
    ],
)  # fmt: skip
def test_boxes(box: tuple[int, ...], why: str) -> None:
    sides = {name: [value] * 6 for name, value in zip("ltrb", box, strict=True)}
    message = refused(columns(**sides), box="l,t,r,b")
    assert f"labels.parquet: row 1: box {', '.join(map(str, box))}: {why}" in message


# --- where the table is -----------------------------------------------------------------------------------------------


def test_the_table_is_not_where_it_is_said_to_be() -> None:
    opened(GOOD)

    def said(path: str, **settings: Any) -> str:
        with pytest.raises(Mistake) as caught:
            Images(Path(path), image="path", label="label", **settings).scan()
        return str(caught.value)

    assert "data.path: nowhere: not found; set data.path" in said("nowhere")
    assert "data.table.file: null, but data.path is no table; name the table in it; there is labels.csv" in said("set")
    assert "data.table.file: lables.csv: not in data.path; there is labels.csv" in said("set", file="lables.csv")
    assert "not in data.path" in said("set", file="../set/labels.csv")
    assert "not in data.path" in said("set", file="images")
    assert "is a file itself; set this to null" in said("set/labels.csv", file="labels.csv")
    Path("set.zip").write_bytes(archives.zipped({"a/1.png": b"x"}))
    assert "name the table in it; no .csv, .tsv, .parquet is there" in said("set.zip")
