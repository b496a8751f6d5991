"""A struct array of a MATLAB 5 file: its texts and numbers (The MathWorks, MAT-File Format, "Level 5 MAT-File Format").

SciPy's reader ends in a segmentation fault on some damaged files; here every length is checked, and nothing but text
and numbers is looked at.
"""

import math
import struct
import zlib
from typing import NamedTuple

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _CHAR, _NUMBERS = 2, 4, range(6, 16)  # classes of arrays
_FORMATS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}  # types of data
_ENCODINGS = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MOST_BYTES = 64 << 20  # of an unpacked variable

Value = str | float | None


class _Array(NamedTuple):
    kind: int
    shape: tuple[int, ...]
    name: bytes
    parts: "_Elements"  # what follows


def struct_array(content: bytes, name: str) -> list[dict[str, Value]]:
    """The variable `name`: for each of its structs, each field's text or first number; None for what is neither.

    Raises ValueError, saying why, for anything but a whole MATLAB 5 file with such a variable.
    """
    if not content.startswith(b"MATLAB 5.0 MAT-file") or content[126:128] not in (b"IM", b"MI"):
        raise ValueError("no MATLAB 5 file")
    order = "<" if content[126:128] == b"IM" else ">"
    elements = _Elements(content, order, _HEADER)
    while elements.left():
        kind, data = elements.next()
        if kind == _COMPRESSED:
            kind, data = _Elements(_inflated(data), order).next()
        if kind == _MATRIX and data:
            array = _array(data, order)
            if array.name == name.encode():
                return _structs(array, order)
    raise ValueError(f"no variable {name}")


class _Elements:
    """Data elements one after another: a tag of 8 bytes with type and length, then the data, filled up to 8 bytes.

    Data of up to 4 bytes may stand in the tag itself.
    """

    def __init__(self, content: bytes, order: str, at: int = 0) -> None:
        self._content, self._order, self._at = content, order, at

    def left(self) -> bool:
        return self._at < len(self._content)

    def next(self) -> tuple[int, bytes]:
        """Type and data. Raises ValueError where they are not all there."""
        tag = self._content[self._at : self._at + 8]
        if len(tag) < 8:
            raise ValueError("cut short")
        kind, length = struct.unpack(f"{self._order}II", tag)
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, self._at + 4
            self._at += 8
        else:
            start = self._at + 8
            self._at = start + (length if kind == _COMPRESSED else -(-length // 8) * 8)
        data = self._content[start : start + length]
        if len(data) < length or (start == self._at - 4 and length > 4):
            raise ValueError("cut short")
        return kind, data


def _inflated(data: bytes) -> bytes:
    engine = zlib.decompressobj()
    try:
        content = engine.decompress(data, _MOST_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not engine.eof:
        raise ValueError(f"a variable that is cut short, or beyond {_MOST_BYTES} bytes")
    return content


def _array(data: bytes, order: str) -> _Array:
    parts = _Elements(data, order)
    flags, shape, name = parts.next()[1], parts.next()[1], parts.next()[1]
    if len(flags) != 8 or len(shape) % 4:
        raise ValueError("an array without a class or a shape")
    kind = struct.unpack(f"{order}II", flags)[0] & 0xFF
    return _Array(kind, struct.unpack(f"{order}{len(shape) // 4}i", shape), name, parts)


def _structs(array: _Array, order: str) -> list[dict[str, Value]]:
    if array.kind != _STRUCT:
        raise ValueError("no array of structs")
    _, width = array.parts.next()
    _, names = array.parts.next()
    if len(width) != 4 or (step := struct.unpack(f"{order}i", width)[0]) < 1 or not names or len(names) % step:
        raise ValueError("structs without names of fields")
    fields = [_text(names[at : at + step].split(b"\0", 1)[0], "utf-8") for at in range(0, len(names), step)]
    found = []
    for _ in range(math.prod(array.shape)):  # each takes some of the data, or ends this: no shape is too large
        found.append({field: _value(*array.parts.next(), order) for field in fields})
    return found


def _value(kind: int, data: bytes, order: str) -> Value:
    if kind != _MATRIX:
        raise ValueError("a field that is no array")
    if not data:
        return None
    array = _array(data, order)
    if (array.kind != _CHAR and array.kind not in _NUMBERS) or 0 in array.shape:
        return None
    kind, content = array.parts.next()
    if array.kind == _CHAR:
        if kind not in _ENCODINGS:
            raise ValueError("text of an unknown kind")
        wide = {"<": "-le", ">": "-be"}[order] if kind in (4, 17, 18) else ""
        return _text(content, _ENCODINGS[kind] + wide)
    if kind not in _FORMATS:
        raise ValueError("numbers of an unknown kind")
    size = struct.calcsize(_FORMATS[kind])
    if len(content) < size:
        raise ValueError("cut short")
    return float(struct.unpack(order + _FORMATS[kind], content[:size])[0])


def _text(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"text that is not {encoding}") from None
