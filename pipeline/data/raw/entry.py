"""What an archive says of one of its members, and which of them are refused."""

import posixpath
from collections.abc import Iterable
from typing import NamedTuple

from pipeline.data.raw.streams import Damaged

FILE, FOLDER = "file", "folder"


class Entry(NamedTuple):
    """A member of an archive."""

    path: str  # "/" between; undecodable bytes as os.fsdecode gives them
    kind: str  # FILE, FOLDER, or in words what else it is: "a symbolic link"
    size: int  # bytes of its content
    offset: int  # bytes from the archive's start: of a zip's local header; of a tar's content, unpacked
    packed: int | None = None  # bytes in the archive, where a zip has compressed it
    checksum: int | None = None  # a zip's CRC-32 of the content
    sha256: str | None = None  # where listing had to read the content


def cleaned(path: str) -> str:
    """A member's name without `./` and doubled slashes; "" for the top itself. Raises Damaged for a hostile one."""
    if path.startswith("/") or path[1:3] in (":/", ":\\"):
        raise Damaged("an absolute name; pack names relative to the folder (tar -C FOLDER -cf NAME.tar .)", path)
    if "\0" in path:
        raise Damaged("a zero byte in its name; rename it and pack again", path)
    plain = posixpath.normpath(path)
    if ".." in path.split("/"):
        raise Damaged("a name that climbs out of its folder (..); pack it again with plain names", path)
    return "" if plain == "." else plain


def checked(entries: Iterable[Entry]) -> list[Entry]:
    """Files and folders with clean names. Raises Damaged for what no set of images needs, naming the member."""
    kept: dict[str, Entry] = {}
    for entry in entries:
        path = cleaned(entry.path)
        if entry.kind not in (FILE, FOLDER):
            raise Damaged(f"{entry.kind}; pack the files themselves (tar --dereference --hard-dereference)", entry.path)
        if path == "":
            continue
        if path in kept and (entry.kind == FILE or kept[path].kind == FILE):
            raise Damaged("twice in the archive; keep one of them", entry.path)
        kept[path] = entry._replace(path=path)
    folders = {path.rpartition("/")[0] for path in kept}
    for folder in folders:
        while folder:
            if folder in kept and kept[folder].kind == FILE:
                raise Damaged("both a file and a folder; rename one of them", folder)
            folder = folder.rpartition("/")[0]
    return list(kept.values())
