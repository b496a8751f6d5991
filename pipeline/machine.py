"""What this machine has to work with."""

import os

from pipeline.errors import Mistake


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Of the machine, whoever uses it."""
    import psutil

    return int(psutil.virtual_memory().total)


def torch_device(accelerator: str) -> str | None:
    """What train.accelerator means here: "cuda", "mps" or "cpu"; None for one that is not to be had."""
    import torch

    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu" if accelerator in ("auto", "cpu") else None


def required_device(accelerator: str) -> str:
    """As `torch_device`. Raises Mistake for one that is not to be had."""
    device = torch_device(accelerator)
    if device is None:
        raise Mistake(
            f"params.yaml: train.accelerator: {accelerator} is not to be had with this torch on this machine;"
            " `retrace doctor` says more; cpu and auto work here"
        )
    return device
