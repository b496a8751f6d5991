"""MLflow's model from what a run kept of it: weights, description and an input example."""

import importlib
import shutil
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pipeline.tracking.delivery import Connection

NAME = "model"
_SHA256_TAG = "retrace.weights_sha256"
_SCRATCH = "export-"


def preload() -> None:
    """Import what sending a model needs: seconds, better spent while the model is being trained."""
    importlib.import_module("mlflow.pytorch")
    importlib.import_module("models.build")


def send_model(connection: "Connection", run_id: str, folder: Path, sha256: str) -> str | None:
    """Make the LoggedModel of a run from its kept `folder`, unless the run has it already.

    The model takes raw uint8 images N x H x W x C, N free, and returns what its task answers with (docs/tasks.md); its
    format (pt2) holds a graph and numbers, and needs neither pickle nor this project's code. Returns what is wrong with
    a model that cannot be exported (the run is then sent without it), None if nothing. Raises what mlflow raises when
    it cannot be sent.
    """
    client = connection.client
    already = client.search_logged_models(
        [connection.experiment_id], f"source_run_id = '{run_id}' AND tags.`{_SHA256_TAG}` = '{sha256}'"
    )
    if any(str(model.status) == "READY" for model in already):
        return None
    if not folder.is_dir():
        connection.notes.append(f"{folder}: gone before it was sent")
        return None
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    model = already[0] if already else None
    if model is None:
        model = client.create_logged_model(
            connection.experiment_id, NAME, source_run_id=run_id, tags={_SHA256_TAG: sha256}
        )
    for left in folder.parent.glob(f"{_SCRATCH}*"):  # of a sender that was ended in the middle
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=_SCRATCH, dir=folder.parent) as scratch:
        target = Path(scratch, NAME)
        try:
            _export(folder, target, run_id, model)
        except Exception as error:  # whatever torch.export finds: the run must not stay unfinished for it
            connection.notes.append(f"{folder}: not exported\n{traceback.format_exc()}")
            client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
            return f"{type(error).__name__}: {error}"[:2000]
        client.log_model_artifacts(model.model_id, str(target))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return None


def take_models(connection: "Connection", from_run: str, to_run: str) -> None:
    """Give a run the models of another that is about to be deleted, except those of weights that it has already."""
    from mlflow.entities import LoggedModelOutput

    client = connection.client
    has = {model.tags.get(_SHA256_TAG) for model in _models_of(connection, to_run)}
    for model in _models_of(connection, from_run):
        if model.tags.get(_SHA256_TAG) in has or str(model.status) != "READY":
            client.delete_logged_model(model.model_id)
        else:
            client.log_outputs(to_run, [LoggedModelOutput(model.model_id, step=0)])


def _models_of(connection: "Connection", run_id: str) -> list[Any]:
    return list(connection.client.search_logged_models([connection.experiment_id], f"source_run_id = '{run_id}'"))


def _export(folder: Path, target: Path, run_id: str, logged: Any) -> None:
    import mlflow.pytorch
    import torch
    from mlflow.models import Model
    from mlflow.models.signature import infer_signature

    from models.build import load_model

    example = np.load(folder / "example.npy", allow_pickle=False)
    module = load_model(folder).eval()
    with torch.no_grad():
        answers = module(torch.from_numpy(example)).numpy()
    mlflow.pytorch.save_model(
        module,
        str(target),
        mlflow_model=Model(
            artifact_path=logged.artifact_location, model_uuid=logged.model_id, run_id=run_id, model_id=logged.model_id
        ),
        signature=infer_signature(example, answers),
        input_example=example,
        # said, not inferred: mlflow would load the model in a fresh process for that
        pip_requirements=[f"mlflow=={mlflow.__version__}", f"torch=={torch.__version__.partition('+')[0]}", "numpy"],
    )
