"""Hashes of files and folders, as DVC takes them."""

import hashlib
import json
import os
from pathlib import Path


def md5(path: Path) -> str:
    """The hash that dvc.lock holds: of a file's bytes, or of a folder's listing (then ending in `.dir`).

    Raises FileNotFoundError.
    """
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest()
    listing = [
        {"md5": md5(Path(parent, name)), "relpath": Path(parent, name).relative_to(path).as_posix()}
        for parent, _, names in os.walk(path, followlinks=True)
        for name in names
    ]
    # dvc-data's Tree.as_bytes: this very text is what is hashed, spaces and key order included
    text = json.dumps(sorted(listing, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def sha256(path: Path) -> str:
    """A file's SHA-256."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
