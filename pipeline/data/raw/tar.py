"""The members of a tar file that is read by offset, also of one that is itself a member of another."""

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.data.raw import tarball
from pipeline.data.raw.entry import FILE, FOLDER
from pipeline.data.raw.streams import Damaged
from pipeline.data.raw.unpacked import Unpacked
from pipeline.data.text import shown
from pipeline.errors import Mistake


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    offset: int  # of its content, in the archive's file
    size: int


class _Part:
    """Some bytes of a file as a stream; positions are those in the file. What is skipped is not read."""

    def __init__(self, content: Unpacked, start: int, end: int | None) -> None:
        self._content, self._end = content, end
        self.position = start

    def read(self, count: int) -> bytes:
        if self._end is not None:
            count = max(0, min(count, self._end - self.position))
        content = self._content.read(self.position, count)
        self.position += len(content)
        return content

    def skip(self, count: int) -> None:
        self.position += count


def members(content: Unpacked, within: Member | None = None) -> Iterator[Member]:
    """Every file of an archive, in order; `within`: of the archive that is itself a member of another.

    Raises Mistake, naming archive and member, for links, devices, names that lead out of the archive, and what is cut
    short or damaged.
    """
    place = content.place if within is None else f"{content.place}: {shown(within.name)}"
    start, end = (0, None) if within is None else (within.offset, within.offset + within.size)
    if not _begins(_Part(content, start, end).read(tarball.BLOCK)):
        raise Mistake(f"{place}: no tar archive; fetch it again")
    try:
        for entry in tarball.entries(_Part(content, start, end)):
            if entry.kind == FOLDER:
                continue
            if entry.kind != FILE:
                raise Mistake(f"{place}: {shown(entry.path)}: {entry.kind}, no file; fetch the archive anew")
            if entry.path.startswith("/") or ".." in entry.path.split("/"):
                raise Mistake(f"{place}: {shown(entry.path)}: leads out of the archive; fetch the archive anew")
            if end is not None and entry.offset + entry.size > end:
                raise Mistake(f"{place}: {shown(entry.path)}: goes on beyond the archive's end; fetch it again")
            yield Member(entry.path.removeprefix("./"), entry.offset, entry.size)
    except Damaged as damage:
        member = f": {shown(damage.member)}" if damage.member else ""
        raise Mistake(f"{place}{member}: {damage.why}") from None


def _begins(block: bytes) -> bool:
    """Whether an archive may begin so: with a member's header, or, holding nothing, with its end."""
    return len(block) == tarball.BLOCK and (not any(block) or tarball.is_header(block))
