"""The members of a tar file, one header after another: POSIX ustar and pax, GNU and the old form.

Read by hand, since the standard library's tarfile costs a second for each 15,000 members and guesses where a file is
damaged. Format: POSIX.1-2017 pax, sections "ustar Interchange Format" and "pax Extended Header".
"""

import os
from collections.abc import Iterator

from pipeline.data.raw.entry import FILE, FOLDER, Entry
from pipeline.data.raw.streams import Damaged, Stream

BLOCK = 512
_ZEROS = bytes(BLOCK)
_MOST_EXTENDED = 1 << 20  # bytes of a long name or of a pax header
_MOST_CONTENT = 1 << 60  # bytes; more than any disk holds, and a position that is still a number for it
_TRUNCATED = "truncated: it ends in the middle; copy or download it again"
_DAMAGED = "damaged: what should be a member's header is none; copy or download it again"

_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,
    b"5": FOLDER,
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"S": "a sparse file",
}


def is_header(block: bytes) -> bool:
    """Whether 512 bytes are a member's header, by its checksum."""
    if len(block) < BLOCK:
        return False
    try:
        # the checksum's own eight bytes count as spaces
        return _octal(block[148:156]) == sum(block) - sum(block[148:156]) + 8 * 32
    except Damaged:
        return False


def entries(stream: Stream) -> Iterator[Entry]:
    """Every member in order; its content is next in the stream, to be read or not.

    Raises Damaged where the file is truncated, damaged, or goes on after its end.
    """
    long_name: bytes | None = None
    pax: dict[bytes, bytes] = {}
    while True:
        header = stream.read(BLOCK)
        if header == _ZEROS:
            break
        if len(header) < BLOCK:
            raise Damaged(_TRUNCATED)
        if not is_header(header):
            raise Damaged(_DAMAGED)
        flag, size = header[156:157], _size(header[124:136])
        if flag in (b"L", b"K", b"x", b"g"):  # says something of the next member, or of all
            content = _extended(stream, size)
            if flag == b"L":
                long_name = content.rstrip(b"\0")
            elif flag != b"K":
                said = dict(_records(content))
                if flag == b"g" and not said.keys().isdisjoint((b"path", b"size", b"linkpath")):
                    raise Damaged("a pax header gives all members one name or size; pack it again (tar --format=gnu)")
                pax = said if flag == b"x" else pax
            continue
        raw = pax.get(b"path") or long_name or _name(header)
        path = os.fsdecode(raw)
        kind = _KINDS.get(flag, f"of an unknown type {flag!r}")
        if any(key.startswith(b"GNU.sparse.") for key in pax):
            kind = "a sparse file"
        elif kind == FILE and raw.endswith(b"/"):  # the old form has no type for a folder
            kind = FOLDER
        if b"size" in pax:
            size = _decimal(pax[b"size"])
        if kind != FILE:
            size = 0  # a link may say how large its target is
        elif size > _MOST_CONTENT:
            raise Damaged(_DAMAGED, path)
        start = stream.position
        yield Entry(path, kind, size, start)
        long_name, pax = None, {}
        stream.skip(start + size + -size % BLOCK - stream.position)
    while rest := stream.read(1 << 20):  # to the end: there a compressed file has its checksum
        if rest.count(0) != len(rest):
            raise Damaged("goes on after its end, as joined archives do; pack everything into one")


def _extended(stream: Stream, size: int) -> bytes:
    if size > _MOST_EXTENDED:
        raise Damaged(f"a header of {size} bytes, more than {_MOST_EXTENDED}; {_DAMAGED}")
    content = stream.read(size)
    if len(content) < size:
        raise Damaged(_TRUNCATED)
    stream.skip(-size % BLOCK)
    return content


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """pax records: "LENGTH KEY=VALUE\\n", LENGTH that of the whole record."""
    while content:
        digits, _, _ = content.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) <= 8 else 0
        key, equals, value = content[len(digits) + 1 : length].partition(b"=")
        if not equals or not value.endswith(b"\n") or length > len(content):
            raise Damaged("damaged (an extended header); copy or download it again")
        yield key, value[:-1]
        content = content[length:]


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].partition(b"\0")[0]):
        return prefix + b"/" + name
    return name


def _size(field: bytes) -> int:
    if field[0] == 0x80:  # GNU: a number that octal digits cannot hold, as bytes
        return int.from_bytes(field[1:], "big")
    return _octal(field)


def _octal(field: bytes) -> int:
    text = field.strip(b" \0")
    if text.strip(b"01234567"):
        raise Damaged(_DAMAGED)
    return int(text, 8) if text else 0


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise Damaged(_DAMAGED)
    return int(text)
