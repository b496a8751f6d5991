"""This machine and this process, as a run's record tells of them."""

import getpass
import hashlib
import hmac
import os
import platform
import resource
import sys
from contextlib import suppress
from pathlib import Path


def distributions() -> list[str]:
    """Installed distributions as their folders are named: NAME-VERSION, in no order."""
    return [
        entry.name.removesuffix(".dist-info")
        for folder in sys.path
        if os.path.isdir(folder)
        for entry in os.scandir(folder)
        if entry.name.endswith(".dist-info")
    ]


def machine() -> str:
    """Tells this machine from others without naming it: a keyed hash, as machine-id(5) asks for."""
    for name in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with suppress(OSError):
            if content := Path(name).read_bytes().strip():
                return _named(content)
    addresses = []  # containers often have no such file
    for file in sorted(Path("/sys/class/net").glob("*/address")):
        with suppress(OSError):
            addresses.append(file.read_bytes().strip())
    return _named(b"\n".join(addresses) + platform.node().encode())


def _named(what: bytes) -> str:
    return hmac.new(b"retrace", what, hashlib.sha256).hexdigest()[:16]


def processor() -> str:
    """The processor's name as its maker gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "cpu model"):
                return value.strip()
    return platform.processor() or platform.machine()


def peak_memory_bytes() -> int:
    """The most memory that this process has had at once."""
    with suppress(OSError):  # getrusage's figure begins with that of the process that started this one
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def user() -> str:
    """Who runs this; containers often have no name for their user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
