"""The stage `source`: lists and hashes the raw images into data/source.json, a stat a file when nothing changed.

It runs at every `dvc repro`, so it begins with what is cheap: when params.yaml, this code and every file's stat are as
they were at the end of the last run, it ends before the parameter tree is even imported.
"""

import hashlib
import json
import sys
import time
from array import array
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import paths, reuse
from pipeline.data.listing import Item, Listing
from pipeline.data.sources import open_source
from pipeline.data.sources.base import Found, Scan, Source
from pipeline.data.text import shown
from pipeline.errors import Mistake

if TYPE_CHECKING:
    from pipeline.params import Params

# A file written again within a clock tick keeps its times. One that was this young when its hash was taken is hashed
# again next time (git calls such entries racily clean).
_RACY_NS = 2_000_000_000


# --- listing ----------------------------------------------------------------------------------------------------------


def listed(kind: str, source: Source, scan: Scan, known: Mapping[str, list[Any]]) -> tuple[Listing, dict[str, Any]]:
    """The listing of a scan, and the hashes to remember: path -> [size, mtime, ctime, inode, sha256].

    known: the remembered hashes of an earlier run. A file is read unless its stamp is as remembered.
    Raises OSError for a file that is there and cannot be read, Mistake for one that has gone since the scan.
    """
    remembered: dict[str, Any] = {}
    items = []
    for found in _with_progress(scan.found, known):
        entry = known.get(found.path)
        if found.problem is not None:
            items.append(Item(found.path, 0, None, found.label, found.split, found.problem))
            continue
        if entry is not None and tuple(entry[:4]) == found.stamp:
            size, digest = found.stamp.size, entry[4]
            remembered[found.path] = entry
        else:
            start = time.time_ns()
            try:
                content = source.read(found.path)
            except FileNotFoundError:
                raise Mistake(f"{source.place}: {shown(found.path)}: gone while it was listed; run again") from None
            size, digest = len(content), hashlib.sha256(content).hexdigest()
            if size == found.stamp.size and not _is_racy(found, start):
                remembered[found.path] = [*found.stamp, digest]
        items.append(Item(found.path, size, digest, found.label, found.split))
    return Listing(kind, scan.classes, tuple(items), scan.ignored), remembered


def _is_racy(found: Found, at_ns: int) -> bool:
    return max(found.stamp.ctime_ns, found.stamp.mtime_ns) > at_ns - _RACY_NS


def _with_progress(found: tuple[Found, ...], known: Mapping[str, list[Any]]) -> Any:
    if len(known) >= len(found):
        return found  # little to read: no bar
    from tqdm import tqdm

    return tqdm(found, desc="source: hashing", unit=" files", file=sys.stderr, mininterval=0.2)


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


def _digest_of_scan(scan: Scan) -> str:
    """A hash of every name and stamp: equal only when nothing was touched."""
    digest = hashlib.sha256()
    numbers: array[int] = array("q")
    for found in scan.found:
        numbers.extend(found.stamp)
    digest.update(numbers.tobytes())
    names = ["\0".join((found.path, found.label, found.split or "", found.problem or "")) for found in scan.found]
    digest.update("\0\0".join(names).encode("utf-8", "surrogatepass"))
    digest.update(repr((scan.classes, scan.ignored)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _digest_of_params() -> str:
    """A hash of params.yaml and of all that decides whether it is valid and how a source is listed."""
    top = Path(__file__).parent
    code = [*(top / "params").glob("*.py"), *(top / "data" / "sources").glob("*.py"), Path(__file__)]
    code += [top.parent / "models" / "catalogue.py", top / "data" / "listing.py", top / "data" / "text.py"]
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
        scan = open_source(last["kind"], last["path"], paths.root()).scan()
        if last["scan"] != _digest_of_scan(scan) or last["source"] != _digest_of_file(paths.SOURCE):
            return False
    except (Mistake, OSError, KeyError, TypeError):
        return False  # the full way tells what is wrong
    _say(len(scan.found), scan.classes, "unchanged")
    return True


def _remember(kind: str, path: str | None, scan: Scan, remembered: Mapping[str, Any], changed: bool) -> None:
    """Keep hashes for the next run; and, where every file's stamp can be trusted, what a run without changes sees."""
    if changed:
        paths.write_atomically(paths.hashes_of_source(kind, path), json.dumps(remembered).encode("ascii"))
    if len(remembered) == sum(found.problem is None for found in scan.found):
        last = {
            "params": _digest_of_params(),
            "kind": kind,
            "path": path,
            "scan": _digest_of_scan(scan),
            "source": _digest_of_file(paths.SOURCE),
        }
        paths.write_atomically(_memory() / "last.json", json.dumps(last).encode("ascii"))


# --- the stage --------------------------------------------------------------------------------------------------------


def run(params: "Params") -> None:
    kind, path = params.data.source, params.data.path
    source = open_source(kind, path, paths.root())
    scan = source.scan()
    known = _load(paths.hashes_of_source(kind, path))
    listing, remembered = listed(kind, source, scan, known)
    content = listing.to_bytes()
    if not paths.SOURCE.is_file() or paths.SOURCE.read_bytes() != content:
        _write(params, listing, content)
        state = "listed"
    else:
        state = "unchanged"
    _remember(kind, path, scan, remembered, changed=remembered != known)
    _say(len(listing.items), listing.classes, state)


def _write(params: "Params", listing: Listing, content: bytes) -> None:
    from pipeline.tracking import open_run

    contents = {"data.path": hashlib.sha256(content).hexdigest()}
    with open_run("source", params, inputs=[], outputs=[paths.SOURCE], contents=contents) as tracked:
        paths.write_atomically(paths.SOURCE, content)
        counts = {
            "images": len(listing.items),
            "classes": len(listing.classes),
            "ignored": len(listing.ignored),
            "bytes": sum(item.size for item in listing.items),
        }
        tracked.log_metrics({f"source/{name}": float(count) for name, count in counts.items()}, step=0)


def _say(images: int, classes: tuple[str, ...], state: str) -> None:
    print(f"source: {images} images of {len(classes)} classes, {state}", flush=True)


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
