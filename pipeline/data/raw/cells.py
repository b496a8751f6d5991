"""What the cells of a table mean: paths, classes, numbers, boxes, groups and splits. Each mistake names its row."""

import math
import posixpath
import re
from collections import Counter
from collections.abc import Sequence

from pipeline.data.raw.layout import SPLIT_NAMES
from pipeline.data.raw.table import Rows, Value, refuse
from pipeline.data.text import shown

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
Box = tuple[float, float, float, float]


def paths_of(rows: Rows, column: str, folder: str) -> list[str]:
    """Each row's path, from `folder` on, below the source's own place. Raises Mistake for one that is empty, twice or
    outside."""
    paths, problems = [], []
    for index, value in enumerate(rows.columns[column]):
        path = ""
        if not isinstance(value, str) or "\0" in value:
            what = "empty" if value is None else f"{shown(str(value))} is no path"
            problems.append(f"{rows.at(index)}: {column}: {what}")
        elif value.startswith("/") or re.match(r"[A-Za-z]:[\\/]|\w+://", value):
            problems.append(f"{rows.at(index)}: {column}: {shown(value)}: an absolute path")
        else:
            path = posixpath.normpath(posixpath.join(folder, value.replace("\\", "/")))
            if path.split("/")[0] in ("..", "."):
                problems.append(f"{rows.at(index)}: {column}: {shown(value)}: outside data.path")
        paths.append(path)
    if problems:
        refuse(problems, "paths must be relative to the table, or to data.table.folder, and lie below data.path")
    first: dict[str, int] = {}
    for index, path in enumerate(paths):
        if path in first:
            problems.append(f"{rows.at(index)}: {shown(path)}: also in {rows.unit} {rows.numbers[first[path]]}")
        first.setdefault(path, index)
    if problems:
        refuse(problems, "an image has one row, with one label and one box; remove the others")
    return paths


def labels_of(rows: Rows, column: str) -> list[str]:
    """Each row's class. Raises Mistake for empty ones, and where numbers and words are mixed."""
    texts = [_text(value) for value in rows.columns[column]]
    _refuse_empty(rows, column, texts)
    kinds = [_NUMBER.fullmatch(text) is not None for text in texts]
    if any(kinds) and not all(kinds):
        number, word = kinds.index(True), kinds.index(False)
        refuse(
            [
                f"{rows.at(number)}: {column}: {shown(texts[number])}, a number",
                f"{rows.at(word)}: {column}: {shown(texts[word])}, a word",
            ],
            "labels must be all numbers or all words: write the number's word, or a letter before each number",
        )
    if all(kinds):
        return _whole(rows, column, texts)
    return [shown(text) for text in texts]


def _whole(rows: Rows, column: str, texts: Sequence[str]) -> list[str]:
    """Numbers as classes: whole, and each written in one way. A column of 3.0, as pandas writes them, means 3."""
    fractions = [index for index, text in enumerate(texts) if not float(text).is_integer()]
    if fractions:
        refuse(
            [f"{rows.at(index)}: {column}: {shown(texts[index])} is no class" for index in fractions],
            "classes are words or whole numbers; numbers to predict are named at data.table.targets",
        )
    if all("." in text for text in texts):
        texts = [str(int(float(text))) for text in texts]
    ways: dict[float, str] = {}
    for index, text in enumerate(texts):
        if ways.setdefault(float(text), text) != text:
            problem = f"{rows.at(index)}: {column}: {shown(text)}, and elsewhere {shown(ways[float(text)])}"
            refuse([problem], "one number, written in two ways; write it in one")
    return list(texts)


def numbers_of(rows: Rows, columns: Sequence[str]) -> list[tuple[float, ...]]:
    """Each row's numbers, in the order of the columns. Raises Mistake for what is no finite number."""
    table: list[list[float]] = []
    problems = []
    for column in columns:
        values = []
        for index, value in enumerate(rows.columns[column]):
            number = _number(value)
            if not math.isfinite(number):
                told = "empty" if value is None else f"{shown(str(value))}, not a finite number"
                problems.append(f"{rows.at(index)}: {column}: {told}")
            values.append(number)
        table.append(values)
    if problems:
        refuse(problems, "every row needs a number there, with a point as its decimal mark; mend or remove the rows")
    return list(zip(*table, strict=True))


def boxes_of(rows: Rows, columns: Sequence[str]) -> list[Box]:
    """Each row's box. Raises Mistake for one without an area, or left of or above the image."""
    boxes, problems = [], []
    for index, (left, top, right, bottom) in enumerate(numbers_of(rows, columns)):
        if right <= left or bottom <= top:
            problems.append(f"{rows.at(index)}: box {left:g}, {top:g}, {right:g}, {bottom:g}: no area")
        elif left < 0 or top < 0:
            problems.append(f"{rows.at(index)}: box {left:g}, {top:g}, {right:g}, {bottom:g}: outside the image")
        boxes.append((left, top, right, bottom))
    if problems:
        refuse(problems, f"a box is left < right and top < bottom, in pixels, from {', '.join(columns)}")
    return boxes


def groups_of(rows: Rows, column: str) -> list[str]:
    texts = [_text(value) for value in rows.columns[column]]
    _refuse_empty(rows, column, texts)
    return [shown(text) for text in texts]


def splits_of(rows: Rows, column: str) -> list[str]:
    texts = [_text(value).lower() for value in rows.columns[column]]
    _refuse_empty(rows, column, texts)
    other = [index for index, text in enumerate(texts) if text not in SPLIT_NAMES]
    if other:
        refuse(
            [f"{rows.at(index)}: {column}: {shown(texts[index])} is no split" for index in other],
            f"a split is one of {', '.join(SPLIT_NAMES)}",
        )
    return [SPLIT_NAMES[text] for text in texts]


def check_classes(rows: Rows, labels: Sequence[str], splits: Sequence[str | None]) -> None:
    """Raise Mistake unless there are two classes or more, each in every split that the table brings."""
    classes = sorted(set(labels))
    if len(classes) == 1:
        refuse([f"{rows.place}: one class only ({classes[0]})"], "a classifier needs two or more")
    there = Counter(zip(splits, labels, strict=True))
    missing = [
        f"{rows.place}: no {label} in the split {split}, while another split has this class"
        for split in sorted({split for split in splits if split is not None})
        for label in classes
        if (split, label) not in there
    ]
    if missing:
        refuse(missing, "add some, or remove the class")


def _refuse_empty(rows: Rows, column: str, texts: Sequence[str]) -> None:
    empty = [f"{rows.at(index)}: {column}: empty" for index, text in enumerate(texts) if not text]
    if empty:
        refuse(empty, "every row needs a value there; fill it in, or remove the row")


def _text(value: Value) -> str:
    return "" if value is None or value != value else str(value).strip()  # Parquet's NaN is an empty cell of pandas


def _number(value: Value) -> float:
    """NaN for what is no number. Python would take 1_000, and true for 1."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else math.nan
    if value is None or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
