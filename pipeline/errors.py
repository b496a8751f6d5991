"""What can go wrong, and the exit status that says so.

Every command and every stage ends with one of these; `dvc` turns all but 0 into 255.
"""

import enum
import errno
import os
from pathlib import Path
from typing import Any


class ExitStatus(enum.IntEnum):
    SUCCESS = 0
    NEGATIVE_VERDICT = 1
    MISTAKE = 2
    NOT_COMPARABLE = 3
    INTERNAL_ERROR = 70
    INTERRUPTED = 130  # the shell's convention: 128 + SIGINT


class Mistake(Exception):
    """Something only the user can mend. Each line names a file, key or image and the remedy; no traceback is shown."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def mistake_in_environment(error: OSError) -> Mistake | None:
    """The operating system's refusals that a user can mend, as such; None for those that are ours."""
    place = error.filename if error.filename is not None else "the working directory"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Mistake(f"{place}: no space left on the disk; free some and run the same command again")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return Mistake(f"{_in_the_way(place)}: in the way ({error.strerror}); move it elsewhere, then run again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Mistake(f"{place}: not permitted ({error.strerror}); make it accessible to this user, then run again")
    return None


def _in_the_way(place: Any) -> Any:
    """The file that stands where a folder should be, of a path that goes through it."""
    ancestors = reversed(Path(os.fsdecode(place)).parents)
    return next((ancestor for ancestor in ancestors if ancestor.exists() and not ancestor.is_dir()), place)
