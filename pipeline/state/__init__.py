"""What a stage keeps while it works, so that a kill at any moment costs nothing: `.retrace/state/STAGE/FINGERPRINT/`.

The fingerprint is a hash of all that the result is a function of: parameters, dependencies, environment. Whoever starts
the same work goes on with the same state: its MLflow run, its checkpoints. If anything has changed, the fingerprint is
another, and nothing stale is resumed. DVC knows nothing of the folder: deleting a stage's outputs leaves it alone.

A state outlives its stage until dvc.lock has the result: DVC may be killed in between, and would delete the outputs and
run the stage anew, which then takes them from the state. It is deleted once the result has landed in dvc.lock, so that
`dvc repro --force` really runs.
"""

from pipeline.state.kept import Kept, State, delete, held, kept, sweep_landed
from pipeline.state.work import Work, environment, refuse_changes, what_changed, work

__all__ = [
    "Kept",
    "State",
    "Work",
    "delete",
    "environment",
    "held",
    "kept",
    "refuse_changes",
    "sweep_landed",
    "what_changed",
    "work",
]
