"""Tracking: a stage writes its run to a local spool; a process beside it brings the spool to MLflow."""

from pipeline.tracking.courier import Summary, sync
from pipeline.tracking.destination import resolve_tracking
from pipeline.tracking.run import Parent, Run, open_run

__all__ = ["Parent", "Run", "Summary", "open_run", "resolve_tracking", "sync"]
