"""Chosen columns of a CSV, TSV or Parquet file, with the place of every row for messages."""

import csv
import difflib
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pipeline.data.text import shown
from pipeline.errors import Mistake

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".tsv", ".parquet")
Value = str | int | float | bool | None  # of a CSV file all are text; None is an empty cell

_DELIMITERS = ",;\t"  # spreadsheets write semicolons where the comma is the decimal mark
_NAMED = 10  # mistakes of one kind that are told one by one
_PARQUET = b"PAR1"
# Rows that a Parquet file may say it has: each has a path of its own, which takes more than this however it is packed.
_MOST_ROWS_A_BYTE = 64


class Rows(NamedTuple):
    """place: what messages call the file. columns: name -> a value a row. unit, numbers: where each row stands."""

    place: str
    columns: Mapping[str, list[Value]]
    unit: str  # "line" or "row"
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, index: int) -> str:
        return f"{self.place}: {self.unit} {self.numbers[index]}"


def read_columns(content: bytes, place: str, wanted: Mapping[str, str]) -> Rows:
    """The wanted columns. wanted: column -> the key of params.yaml that names it.

    Raises Mistake for a file that is damaged, empty, or of another encoding, and for columns that are not there.
    """
    if content.startswith(_PARQUET):
        return _parquet(content, place, wanted)
    return _text(content, place, wanted)


def refuse(problems: Sequence[str], remedy: str) -> NoReturn:
    """Raise Mistake with the first ten of many like problems, and what to do."""
    more = [f"... and {len(problems) - _NAMED} more"] if len(problems) > _NAMED else []
    raise Mistake(*problems[:_NAMED], *more, remedy)


def _check(names: Sequence[str], place: str, wanted: Mapping[str, str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1 and name in wanted)
    if twice:
        raise Mistake(*(f"{place}: two columns are called {shown(name)}; rename one of them" for name in twice))
    missing = []
    for name, key in wanted.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
            there = f"did you mean '{shown(near[0])}'?" if near else f"there are: {shown(', '.join(names[:20]))}"
            missing.append(f"{place}: no column {name!r}, which {key} names; {there}")
    if missing:
        raise Mistake(*missing)


# --- text -------------------------------------------------------------------------------------------------------------


def _text(content: bytes, place: str, wanted: Mapping[str, str]) -> Rows:
    text = _decoded(content, place)
    header = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: dict[str, list[Value]] = {name: [] for name in wanted}
    numbers: list[int] = []
    ragged: list[str] = []
    try:
        names = next(reader, [])
        if not names:
            raise Mistake(f"{place}: empty; the first line must name the columns")
        _check(names, place, wanted)
        places = [(columns[name], names.index(name)) for name in wanted]
        for row in reader:
            if not row:  # an empty line
                continue
            if len(row) != len(names):
                ragged.append(f"{place}: line {reader.line_num}: {len(row)} cells, but {len(names)} columns")
                continue
            numbers.append(reader.line_num)
            for values, index in places:
                values.append(row[index] or None)
    except csv.Error as error:
        raise Mistake(f"{place}: line {reader.line_num}: {error}; mend the quotes there or before") from None
    if ragged:
        refuse(ragged, "every line needs a cell for each column; quote cells that hold the delimiter")
    return _not_empty(Rows(place, columns, "line", numbers))


def _decoded(content: bytes, place: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Mistake(f"{place}: UTF-16; save it as UTF-8 (in a spreadsheet: CSV UTF-8)")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Mistake(f"{place}: line {line}: not UTF-8; save it as UTF-8 (in a spreadsheet: CSV UTF-8)") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Mistake(f"{place}: line {line}: a zero byte; it is no table, or damaged: save it again")
    return text


def _not_empty(rows: Rows) -> Rows:
    if not len(rows):
        raise Mistake(f"{rows.place}: no rows; it needs one an image")
    return rows


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _parquet(content: bytes, place: str, wanted: Mapping[str, str]) -> Rows:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # In this thread alone. With pyarrow's own threads, 4 of 24 runs over 3,000 damaged files each ended in a
        # segmentation fault of one of them, after the file had been refused; without, none of 80.
        file = parquet.ParquetFile(pa.BufferReader(content), pre_buffer=False)
        if file.metadata.num_rows > _MOST_ROWS_A_BYTE * len(content):
            raise Mistake(f"{place}: {file.metadata.num_rows} rows in {len(content)} bytes: taken for a bomb")
        names = list(file.schema_arrow.names)
        _check(names, place, wanted)
        table = file.read(columns=list(wanted), use_threads=False)
        table.validate(full=True)
        columns = dict(_columns(table, place, wanted))
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = shown(str(error).partition("\n")[0])
        raise Mistake(f"{place}: damaged ({reason}); copy or write it again") from None
    return _not_empty(Rows(place, columns, "row", range(1, table.num_rows + 1)))


def _columns(table: "pa.Table", place: str, wanted: Mapping[str, str]) -> Iterator[tuple[str, list[Any]]]:
    import pyarrow as pa

    for name, key in wanted.items():
        column = table.column(name)
        if pa.types.is_dictionary(column.type):  # pandas' categories
            column = column.cast(column.type.value_type)
        kind = column.type
        if pa.types.is_decimal(kind):
            column = column.cast(pa.float64())
        elif not (
            pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_null(kind)
        ):
            raise Mistake(f"{place}: column {name!r}, which {key} names, holds {kind}; it must hold text or numbers")
        yield name, column.to_pylist()
