"""Lightning's logger that writes to a run's spool: no network, no thread, microseconds a call."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from pipeline.tracking.run import Run


class SpoolLogger(Logger):
    """Writes what a LightningModule logs to `run`; its parameters were recorded when the run was opened."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    @property
    def name(self) -> str:
        return "retrace"

    @property
    def version(self) -> str:
        return self._run.key

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics at `step`, the optimizer steps done, as our own code gives it (Lightning counts one less)."""
        self._run.log_metrics(metrics, step or 0)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run has them."""
