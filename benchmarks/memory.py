"""What memory a process and all that it starts take together, looked at while they run."""

import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import psutil

_SECONDS = 0.1  # between two looks

HAS_PSS = Path("/proc/self/smaps_rollup").exists()
KIND = (
    "PSS: pages that processes share count once; of mapped files, those in memory, which the system may drop"
    if HAS_PSS
    else "RSS: pages that processes share count once for each of them; pages of mapped files count"
)


class Taken(NamedTuple):
    """Bytes of a whole tree of processes at one moment."""

    whole: int = 0
    own: int = 0  # of no file: what cannot be dropped
    processes: tuple[tuple[str, int], ...] = ()  # what each is, its part of the whole


class Watch:
    """The most that the tree below a process took while this was entered."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)
        self.most = Taken()

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()

    def _keep_looking(self) -> None:
        while not self._ending.wait(_SECONDS):
            with suppress(psutil.NoSuchProcess):
                self.most = max(self.most, _taken(self._root), key=lambda taken: taken.whole)


def _taken(root: psutil.Process) -> Taken:
    processes = []
    own = 0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
            whole, anonymous = _of_one(process)
            name = "sender" if "pipeline.tracking.sender" in process.cmdline() else "worker"
            processes.append(("stage" if process == root else name, whole))
            own += anonymous
    return Taken(sum(size for _, size in processes), own, tuple(processes))


def _of_one(process: psutil.Process) -> tuple[int, int]:
    if not HAS_PSS:
        info = process.memory_info()
        return info.rss, info.rss - getattr(info, "shared", 0)
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in lines)}
    return sizes["Pss"], sizes.get("Pss_Anon", sizes["Anonymous"])
