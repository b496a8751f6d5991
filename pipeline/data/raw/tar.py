"""The members of a .tar where they lie, without unpacking: names, offsets, sizes. POSIX.1-2001 (pax) and GNU forms.

Python's tarfile takes a member's word for its size and reads headers of any length; this reader trusts nothing.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.data.raw.unpacked import Unpacked
from pipeline.data.text import shown
from pipeline.errors import Mistake

_BLOCK = 512
_MOST_HEADER = 64 << 10  # bytes of an extended header: a name and a few figures
_FILE, _FOLDER, _LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"0", b"5", b"L", b"K", b"x", b"g"
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    offset: int  # of its content, in the archive's file
    size: int


def members(content: Unpacked, within: Member | None = None) -> Iterator[Member]:
    """Every file of an archive, in order; `within`: of the archive that is itself a member of another.

    Raises Mistake, naming archive and member, for links, devices, names that lead out of the archive, and what is cut
    short or damaged.
    """
    place = content.place if within is None else f"{content.place}: {shown(within.name)}"
    at = 0 if within is None else within.offset
    end = None if within is None else within.offset + within.size
    long_name: str | None = None
    long_size: int | None = None
    first = True
    while True:
        block = content.read(at, _BLOCK if end is None else max(0, min(_BLOCK, end - at)))
        if first and len(block) < _BLOCK:
            raise Mistake(f"{place}: no tar archive; fetch it again")
        if len(block) < _BLOCK:  # a whole archive ends with blocks of zeros
            raise Mistake(f"{place}: cut short: nothing at byte {at}, where it should go on or end; fetch it again")
        if not any(block):
            if within is None:
                content.check_rest(at + _BLOCK)
            return
        name, size, kind = _header(block, place, first)
        first = False
        data = at + _BLOCK
        at = data + -(-size // _BLOCK) * _BLOCK
        if kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL):
            extended = _extended(content, data, size, place)
            if kind == _LONG_NAME:
                long_name = _text(extended)
            elif kind == _PAX:
                records = _pax(extended, place)
                long_name = records.get("path", long_name)
                if "size" in records:
                    long_size = _number(records["size"].encode(), 10, place)
            continue
        if long_size is not None:
            size = long_size
            at = data + -(-size // _BLOCK) * _BLOCK
        name, long_name, long_size = long_name or name, None, None
        if kind == _FOLDER:
            continue
        if kind != _FILE:
            what = _KINDS.get(kind, f"of kind {kind!r}")
            raise Mistake(f"{place}: {shown(name)}: {what}, no file; fetch the archive anew")
        if name.startswith("/") or ".." in name.split("/"):
            raise Mistake(f"{place}: {shown(name)}: leads out of the archive; fetch the archive anew")
        if end is not None and data + size > end:
            raise Mistake(f"{place}: {shown(name)}: goes on beyond the archive's end; fetch it again")
        yield Member(name.removeprefix("./"), data, size)


def _header(block: bytes, place: str, first: bool) -> tuple[str, int, bytes]:
    """Name, size and kind of a member. The checksum is over the block with its own field as blanks."""
    said = _number(block[148:156], 8, place, damaged=first)
    if said != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        problem = "no tar archive" if first else "damaged (a header's checksum differs)"
        raise Mistake(f"{place}: {problem}; fetch it again")
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    kind = block[156:157].replace(b"\0", _FILE).replace(b"7", _FILE)  # the forms of 1979 and of contiguous files
    if kind == _FILE and name.endswith("/"):
        kind = _FOLDER
    size = block[124:136]
    if size[0] == 0x80:  # GNU's base 256, for sizes from 8 GiB
        return name, int.from_bytes(size[1:], "big"), kind
    return name, _number(size, 8, place), kind


def _number(digits: bytes, base: int, place: str, damaged: bool = False) -> int:
    text = digits.strip(b" \0") or b"0"
    if not text.isdigit():
        raise Mistake(f"{place}: {'no tar archive' if damaged else 'damaged (a size is no number)'}; fetch it again")
    try:
        return int(text, base)
    except ValueError:
        raise Mistake(f"{place}: damaged (a size is no number); fetch it again") from None


def _extended(content: Unpacked, offset: int, size: int, place: str) -> bytes:
    if size > _MOST_HEADER:
        raise Mistake(f"{place}: damaged (a header of {size} bytes); fetch it again")
    return content.exactly(offset, size)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _pax(content: bytes, place: str) -> dict[str, str]:
    """Records "LENGTH KEY=VALUE\\n", the length being the whole record's."""
    records = {}
    while content:
        length, separator, _ = content[:20].partition(b" ")
        if not separator or not length.isdigit() or not len(length) + 1 < int(length) <= len(content):
            raise Mistake(f"{place}: damaged (an extended header); fetch it again")
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        content = content[int(length) :]
    return records
