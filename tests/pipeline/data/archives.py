"""One small set of images as a folder, as every kind of archive, and as tables: what tests of sources start from."""

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import zstandard
from PIL import Image

Files = Mapping[str, bytes]


def png(seed: int, size: int = 8) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def images() -> dict[str, bytes]:
    """Four images of each of three classes; one name is not UTF-8, one is longer than ustar takes."""
    files = {f"{label}/{n}.png": png(10 * ord(label[0]) + n) for label in ("cat", "dog", "émeu") for n in range(3)}
    long = f"cat/{'deep/' * 30}3.png"
    return files | {long: png(1), "dog/\udcff\n3.png": png(2), "émeu/3": png(3)}


def folder(files: Files, place: Path) -> Path:
    for name, content in files.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return place


def tar(files: Files, form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def zipped(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
            archive.writestr(member, content, method)
    return stream.getvalue()


def with_raw_names(files: Files) -> bytes:
    """As tools write that put a name's bytes as they are, and do not say in which encoding."""
    plain = {f"{number:03d}" + "x" * (len(_raw(name)) - 3): name for number, name in enumerate(files)}
    content = zipped({stand_in: files[name] for stand_in, name in plain.items()})
    for stand_in, name in plain.items():
        content = content.replace(stand_in.encode(), _raw(name))
    return content


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


ARCHIVES: dict[str, Callable[[Files], bytes]] = {
    "zip": with_raw_names,
    "tar": tar,
    "gnu.tar": lambda files: tar(files, tarfile.GNU_FORMAT),
    "tar.gz": lambda files: gzip.compress(tar(files), mtime=0),
    "tar.xz": lambda files: lzma.compress(tar(files)),
    "tar.zst": lambda files: zstandard.ZstdCompressor(write_checksum=True).compress(tar(files)),  # as its tool does
}
