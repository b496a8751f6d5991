"""The stage `source`: lists and hashes the raw images into data/source.json, a stat a file when nothing changed.

It runs at every `dvc repro`, so it begins with what is cheap: when params.yaml, this code and every file's stat are as
they were at the end of the last run, it ends before the parameter tree is even imported.
"""

import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.data.listing import Item, Listing
from pipeline.data.raw.base import Found, Scan, Source
from pipeline.data.sources import open_source
from pipeline.data.text import shown
from pipeline.errors import Mistake
from pipeline.lineage import reuse

if TYPE_CHECKING:
    from pipeline.params import Params

# A file written again within a clock tick keeps its times. One that was this young when its hash was taken is hashed
# again next time (git calls such entries racily clean).
_RACY_NS = 2_000_000_000


# --- listing ----------------------------------------------------------------------------------------------------------


def listed(kind: str, source: Source, scan: Scan, known: Mapping[str, list[Any]]) -> tuple[Listing, dict[str, Any]]:
    """The listing of a scan, and the hashes to remember: path -> [size, mtime, ctime, inode, sha256].

    known: the remembered hashes of an earlier run. A file is read unless its stamp is as remembered, or the scan brings
    its hash.
    Raises OSError for a file that is there and cannot be read, Mistake for one that has gone since the scan.
    """
    start = time.time_ns()  # before the first read: a file that is written while we read is younger
    fresh = {
        found.path: found
        for found in scan.found
        if found.problem is None
        and found.path not in scan.hashes
        and tuple(known.get(found.path, ())[:4]) != found.stamp
    }
    read = {
        found.path: (found.stamp.size, scan.hashes[found.path])
        for found in scan.found
        if found.problem is None and found.path in scan.hashes
    }
    try:
        for path, content in _with_progress(source.contents(fresh), len(fresh)):
            read[path] = (len(content), hashlib.sha256(content).hexdigest())
    except FileNotFoundError as error:
        name = shown(str(error.filename or ""))
        raise Mistake(f"{source.place}: {name}: gone while it was listed; run again") from None
    remembered: dict[str, Any] = {}
    items = []
    for found in scan.found:
        size, digest = 0, None
        if found.path in read:
            size, digest = read[found.path]
            if size == found.stamp.size and not _is_racy(found, start):
                remembered[found.path] = [*found.stamp, digest]
        elif found.problem is None:
            size, digest = found.stamp.size, known[found.path][4]
            remembered[found.path] = known[found.path]
        items.append(Item(found.path, size, digest, *found[2:]))
    return Listing(kind, scan.classes, tuple(items), scan.ignored, scan.targets), remembered


def _is_racy(found: Found, at_ns: int) -> bool:
    return max(found.stamp.ctime_ns, found.stamp.mtime_ns) > at_ns - _RACY_NS


def _with_progress(contents: Iterator[tuple[str, bytes]], count: int) -> Iterable[tuple[str, bytes]]:
    if not count:
        return contents
    from tqdm import tqdm

    return tqdm(contents, desc="source: hashing", total=count, unit=" files", file=sys.stderr, mininterval=0.2)


# --- what is remembered between runs ----------------------------------------------------------------------------------


def _memory() -> Path:
    return paths.source_memory()


def _load(file: Path) -> dict[str, Any]:
    """A cache: what is missing or damaged is empty, and is made again."""
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _digest_of_params() -> str:
    """A hash of params.yaml and of all that decides whether it is valid and how a source is listed."""
    top = Path(__file__).parent
    code = [*(top / "params").glob("*.py"), Path(__file__)]
    code += [*(top / "data" / "sources").glob("*.py"), *(top / "data" / "raw").glob("*.py")]
    code += [*(top.parent / "models" / "catalogue").glob("*.py"), top / "data" / "listing.py", top / "data" / "text.py"]
    digest = hashlib.sha256(sys.version.encode())
    for file in (paths.PARAMS, *sorted(code)):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    pydantic = find_spec("pydantic")
    if pydantic is not None and pydantic.origin is not None:
        digest.update(str(Path(pydantic.origin).stat().st_mtime_ns).encode())
    return digest.hexdigest()


def _digest_of_file(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _is_as_left() -> bool:
    """Whether params.yaml (then found valid), all files' stats and data/source.json are as the last run left them."""
    last = _load(_memory() / "last.json")
    try:
        if not last or last["params"] != _digest_of_params():
            return False
        source = open_source(last["kind"], last["path"], paths.root(), last["settings"])
        if last["stamp"] != source.stamp().hex() or last["source"] != _digest_of_file(paths.SOURCE):
            return False
        if any(_stamp(Path(file)) != stamp for file, stamp in last["weights"].items()):
            return False
    except (Mistake, OSError, KeyError, TypeError):
        return False  # the full way tells what is wrong
    _say(last["images"], last["classes"], "unchanged")
    return True


def _stamp(file: Path) -> list[int]:
    told = file.stat()
    return [told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino]


def _remember(
    params: "Params",
    stamp: bytes,
    scan: Scan,
    remembered: Mapping[str, Any],
    changed: bool,
    weights: Mapping[str, list[int]] | None,
) -> None:
    """Keep hashes for the next run; and, where every file's stamp can be trusted, what a run without changes sees.

    stamp: the source's, taken before the scan. weights: those of the files of initial weights; None: not to be trusted.
    """
    kind, path = params.data.source, params.data.path
    if changed:
        paths.write_atomically(paths.hashes_of_source(kind, path), json.dumps(remembered).encode("ascii"))
    if weights is not None and len(remembered) == sum(found.problem is None for found in scan.found):
        last = {
            "params": _digest_of_params(),
            "kind": kind,
            "path": path,
            "settings": params.data.settings.model_dump(),
            "stamp": stamp.hex(),
            "source": _digest_of_file(paths.SOURCE),
            "weights": weights,
            "images": len(scan.found),
            "classes": len(scan.classes),
        }
        paths.write_atomically(_memory() / "last.json", json.dumps(last).encode("ascii"))


# --- the stage --------------------------------------------------------------------------------------------------------


def run(params: "Params") -> None:
    from pipeline import initial

    origin = initial.origin(params)
    stamps = {} if origin is None else {str(origin): _stamp(origin)}
    weights, start = initial.content(params), time.time_ns()
    kind, path = params.data.source, params.data.path
    source = open_source(kind, path, paths.root(), params.data.settings.model_dump())
    stamp = source.stamp()
    scan = source.scan()
    known = _load(paths.hashes_of_source(kind, path))
    listing, remembered = listed(kind, source, scan, known)
    content = listing.to_bytes()
    if not _holds(paths.SOURCE, content) or not _holds(paths.INITIAL, weights):
        _write(params, listing, content, weights)
        state = "listed"
    else:
        state = "unchanged"
    trusted = all(max(times[1:3]) <= start - _RACY_NS for times in stamps.values())
    stamps[str(paths.INITIAL)] = _stamp(paths.INITIAL)
    _remember(params, stamp, scan, remembered, changed=remembered != known, weights=stamps if trusted else None)
    _say(len(listing.items), len(listing.classes), state)


def _holds(file: Path, content: bytes) -> bool:
    return file.is_file() and file.stat().st_size == len(content) and file.read_bytes() == content


def _write(params: "Params", listing: Listing, content: bytes, weights: bytes) -> None:
    from pipeline.tracking import open_run

    contents = {"data.path": hashlib.sha256(content).hexdigest()}
    if params.model.init_from.weights is not None:
        contents["model.init_from.weights"] = hashlib.sha256(weights).hexdigest()
    outputs = [paths.SOURCE, paths.INITIAL]
    with open_run("source", params, inputs=[], outputs=outputs, contents=contents) as tracked:
        paths.write_atomically(paths.SOURCE, content)
        paths.write_atomically(paths.INITIAL, weights)
        counts = {
            "images": len(listing.items),
            "classes": len(listing.classes),
            "ignored": len(listing.ignored),
            "bytes": sum(item.size for item in listing.items),
        }
        tracked.log_metrics({f"source/{name}": float(count) for name, count in counts.items()}, step=0)


def _say(images: int, classes: int, state: str) -> None:
    of = f" of {classes} classes" if classes else ""
    print(f"source: {images} images{of}, {state}", flush=True)


def _ended_by(error: BaseException) -> int:
    """Say what went wrong before the stage's work began; its exit status."""
    from pipeline import stage

    def again() -> None:
        raise error

    return stage.guarded(again)


def main() -> int:
    """Run the stage; its exit status."""
    try:
        if reuse.look():  # the one stage that runs whatever DVC has restored meanwhile
            from pipeline import state

            state.sweep_landed()  # while dvc.lock has their results still
        if _is_as_left():
            return 0
    except (OSError, KeyboardInterrupt) as error:
        return _ended_by(error)
    from pipeline import stage  # which imports the whole parameter tree

    return stage.main(run)


if __name__ == "__main__":
    sys.exit(main())
