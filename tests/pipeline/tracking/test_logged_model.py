import numpy as np
import pytest

from pipeline.tracking import open_run, resolve_tracking, sync


@pytest.fixture
def model_folder(tmp_path):
    """A small trained-looking model, as the train stage writes it."""
    import torch

    from models import catalogue
    from models.build import Description, build_network, save_model
    from models.networks.shape import Shape

    settings = catalogue.NETWORKS["mlp"](width=8, depth=1, activation="relu")
    torch.manual_seed(0)
    network = build_network("mlp", settings, Shape(3, 8, 4), 0.1)
    folder = tmp_path / "artifacts" / "model"
    folder.mkdir(parents=True)
    described = Description(
        network="mlp", network_settings=settings.model_dump(), dropout=0.1, loss="softmax",
        loss_settings={"label_smoothing": 0.0}, classes=["a", "b", "c", "d"], image_size=8, channels=3,
        mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2],
    )  # fmt: skip
    save_model(folder, network, described)
    return folder


def test_the_model_is_exported_once_and_predicts_the_same(project, chosen, model_folder, monkeypatch):
    import mlflow
    import torch
    from mlflow import MlflowClient

    from models.build import load_model

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    quick = chosen(drain_seconds=0.0)
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
    with open_run("train", quick, [], name="train") as run:
        with pytest.raises(ValueError, match="two images"):
            run.log_model(model_folder, images[:1])
        run.log_model(model_folder, images[:2])
    assert len(sync(quick).sent) == 1

    uri, _ = resolve_tracking(quick)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("retrace")
    (found,) = client.search_runs([experiment.experiment_id])
    assert "retrace.model_error" not in found.data.tags
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert (model.source_run_id, str(model.status)) == (found.info.run_id, "READY")
    assert [output.model_id for output in found.outputs.model_outputs] == [model.model_id]

    mlflow.set_tracking_uri(uri)
    address = f"models:/{model.model_id}"
    with torch.no_grad():
        expected = load_model(model_folder)(torch.from_numpy(images)).numpy()
        loaded = mlflow.pytorch.load_model(address)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(loaded, expected, rtol=1e-5, atol=1e-7)
    served = mlflow.pyfunc.load_model(address)
    np.testing.assert_allclose(served.predict(images), expected, rtol=1e-5, atol=1e-7)
    (signature,) = served.metadata.signature.inputs.to_dict()
    assert signature["tensor-spec"] == {"dtype": "uint8", "shape": (-1, 8, 8, 3)}

    (spool,) = (project / ".retrace" / "runs").iterdir()
    assert not (spool / "model").exists()
    (spool / "sent.json").unlink()
    assert len(sync(quick).sent) == 1
    assert len(client.search_logged_models([experiment.experiment_id])) == 1
    assert len(client.get_run(found.info.run_id).outputs.model_outputs) == 1


def test_a_model_that_cannot_be_exported_leaves_a_note_and_a_finished_run(project, chosen, model_folder):
    from mlflow import MlflowClient

    (model_folder / "weights.safetensors").write_bytes(b"no weights")
    quick = chosen(drain_seconds=0.0)
    with open_run("train", quick, []) as run:
        run.log_model(model_folder, np.zeros((2, 8, 8, 3), np.uint8))
    assert len(sync(quick).sent) == 1
    client = MlflowClient(resolve_tracking(quick)[0])
    (found,) = client.search_runs([client.get_experiment_by_name("retrace").experiment_id])
    assert found.info.status == "FINISHED"
    assert "weights.safetensors" in found.data.tags["retrace.model_error"]
