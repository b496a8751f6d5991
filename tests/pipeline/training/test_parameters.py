"""What stands beside the weights: what was in force, and what the search changed."""

from pathlib import Path

import pytest

from pipeline.errors import Mistake
from pipeline.training.parameters import FILE, Searched, read_training_parameters, training_parameters


def test_comes_back_from_its_file(small_params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = training_parameters(small_params(), {"optimizer": {"lr": 0.25, "momentum": 0.9}})
    FILE.parent.mkdir(parents=True)
    FILE.write_text(written.to_json())
    assert read_training_parameters() == written
    assert written.in_force["optimizer.lr"] == 0.25
    in_force = written.laid_over(small_params())
    assert (in_force.optimizer.lr, in_force.optimizer.momentum, in_force.train) == (0.25, 0.9, small_params().train)
    assert written.searched == (Searched("optimizer.lr", 0.1, 0.25), Searched("optimizer.momentum", 0.9, 0.9))


def test_names_only_what_training_depends_on(small_params):
    """Anything else would stand there stale, or make equal models differ."""
    names = training_parameters(small_params(), {}).in_force
    assert {name.split(".")[0] for name in names} == {
        "seed", "augment", "model", "loss", "regularization", "optimizer", "schedule", "train",
    }  # fmt: skip
    assert "model.convnet.width" in names
    assert "model.mlp.width" not in names


def test_of_what_memorises_only_what_counts_is_in_force(small_params):
    names = set(training_parameters(small_params(model={"name": "neighbours"}), {}).in_force)
    assert {name for name in names if not name.startswith("model.")} == {
        "seed", "augment.crop_size", "augment.copies", "train.threads", "train.accelerator",
    }  # fmt: skip
    assert {"model.name", "model.neighbours.k", "model.neighbours.distance"} <= names


@pytest.mark.parametrize(("content", "said"), [(None, "not found"), ("{", "damaged"), ('{"in_force": {}}', "damaged")])
def test_a_missing_or_damaged_file_is_named(tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    FILE.parent.mkdir(parents=True)
    if content is not None:
        Path(FILE).write_text(content)
    with pytest.raises(Mistake, match=rf"parameters\.json: {said}.*dvc repro --force train"):
        read_training_parameters()
