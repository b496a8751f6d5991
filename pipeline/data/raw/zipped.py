"""The members of a .zip file: its directory by the standard library, contents by hand so that none grows too large.

Format: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header) and 4.4.4 (flags).
"""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.data.raw.entry import FILE, FOLDER, Entry
from pipeline.data.raw.streams import Damaged, pread, refuse_bomb

MAGIC = (b"PK\x03\x04", b"PK\x05\x06")  # the second is an empty archive

_LOCAL = struct.Struct("<4s22xHH")  # signature, ..., length of the name, of what follows it
_ENCRYPTED = 0x1 | 0x40
_UTF_8 = 0x800
_DAMAGED = "damaged, or truncated; copy or download it again"
_BROKEN = "damaged: its content is not what its checksum says; copy or download the archive again"


def entries(file: BinaryIO, packed_bytes: int) -> Iterator[Entry]:
    """Every member, by the directory at the file's end. Raises Damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            end = archive.start_dir
    # what the standard library raises at damaged directories, seen in fuzzing
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError, IndexError) as error:
        raise Damaged(f"{_DAMAGED} ({error})") from None
    refuse_bomb(sum(member.file_size for member in members), packed_bytes)
    before = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        # one content under many names: how a small file makes a large bomb
        if member.header_offset < before:
            raise Damaged(f"its content lies in another member's; {_DAMAGED}", member.filename)
        before = member.header_offset + _LOCAL.size + member.compress_size
    if before > end:
        raise Damaged(_DAMAGED)
    for member in members:
        yield _entry(member)


def _entry(member: zipfile.ZipInfo) -> Entry:
    path = _path(member)
    if member.flag_bits & _ENCRYPTED:
        raise Damaged("encrypted; pack it again without a password", path)
    mode = member.external_attr >> 16
    kind = FOLDER if path.endswith("/") else FILE
    if stat.S_ISLNK(mode):
        kind = "a symbolic link"
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "a device"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Damaged(f"compressed by method {member.compress_type}; pack it again with deflate (method 8)", path)
    deflated = member.compress_type == zipfile.ZIP_DEFLATED
    if not deflated and member.file_size != member.compress_size:
        raise Damaged(_DAMAGED, path)
    packed = member.compress_size if deflated else None
    return Entry(path, kind, member.file_size, member.header_offset, packed, member.CRC)


def _path(member: zipfile.ZipInfo) -> str:
    """The name by its own bytes: the standard library takes what is not marked as UTF-8 for a code page of 1981."""
    raw = member.orig_filename.encode("utf-8" if member.flag_bits & _UTF_8 else "cp437")
    path = os.fsdecode(raw)
    return path.replace("\\", "/") if member.create_system == 0 else path  # older Windows tools write backslashes


def content(descriptor: int, entry: Entry) -> bytes:
    """A member's content, by its place alone: safe in several processes that share a descriptor. Raises Damaged."""
    signature, name, extra = _LOCAL.unpack(os.pread(descriptor, _LOCAL.size, entry.offset).ljust(_LOCAL.size, b"\0"))
    if signature != MAGIC[0]:
        raise Damaged(_DAMAGED, entry.path)
    start = entry.offset + _LOCAL.size + name + extra
    data = pread(descriptor, entry.size if entry.packed is None else entry.packed, start)
    if entry.packed is not None:
        inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        try:
            data = inflater.decompress(data, entry.size + 1)  # one more, to see that it does not go on
        except zlib.error:
            raise Damaged(_BROKEN, entry.path) from None
    if len(data) != entry.size or zlib.crc32(data) != entry.checksum:
        raise Damaged(_BROKEN, entry.path)
    return data
