"""Weights to start from: brought by source, whose copy counts by content; used by a fit, exactly."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline import initial, paths, search, source
from pipeline.errors import Mistake
from pipeline.params import Params
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.fit import TrainingData, fit
from pipeline.training.network import initialised_network


@pytest.fixture
def data(project: Path) -> TrainingData:
    return TrainingData.open()


def saved(params: Params, data: TrainingData, file: Path, seed: int = 5) -> dict[str, torch.Tensor]:
    """The weights of another seed, in a file."""
    network = initialised_network(params.overlaid({"seed": seed}), data.seen(params))
    network(torch.rand(8, data.shape.channels, data.shape.image_size, data.shape.image_size))
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, file)
    return weights


def starting(small_params, **changes) -> Params:
    wanted = {"weights": "w.safetensors", "up_to": None, "frozen": False, **changes}
    return small_params(model={"init_from": wanted}, train={"epochs": 2}, optimizer={"lr": 0.001})


def state(fitted) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in fitted.network.state_dict().items()}


# --- brought by source ------------------------------------------------------------------------------------------------


class TestContent:
    def test_none_is_a_file_without_weights(self, small_params, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("none").write_bytes(initial.content(small_params()))
        assert load_file("none") == {}

    @pytest.mark.parametrize("name", ["model", "model/weights.safetensors"])
    def test_a_folder_or_a_file_is_copied_byte_for_byte(self, data, small_params, name):
        saved(small_params(), data, Path("model/weights.safetensors"))
        found = initial.content(starting(small_params, weights=name))
        assert found == Path("model/weights.safetensors").read_bytes()

    def test_what_is_not_there_is_told_with_the_remedy(self, project, small_params):
        with pytest.raises(Mistake, match=r"model.init_from.weights: .*w.safetensors: not found; name a folder with"):
            initial.content(starting(small_params))

    def test_another_format_is_refused(self, project, small_params):
        torch.save({"a": torch.zeros(2)}, "w.safetensors")
        with pytest.raises(Mistake, match=r"no safetensors file: .*no other format is read"):
            initial.content(starting(small_params))

    def test_a_run_without_a_database_is_told(self, project, small_params):
        with pytest.raises(Mistake, match="no runs here"):
            initial.content(starting(small_params, weights="0" * 32))


def test_source_brings_the_weights_and_sees_that_they_changed(data, small_params, monkeypatch):
    monkeypatch.setattr(source, "_RACY_NS", -(10**9))
    params = starting(small_params)
    text = (Path(__file__).parents[2] / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("weights: null", "weights: w.safetensors"))
    saved(params, data, Path("w.safetensors"))
    source.run(params)
    assert paths.INITIAL.read_bytes() == Path("w.safetensors").read_bytes()
    assert source._is_as_left()
    times = paths.INITIAL.stat().st_mtime_ns
    source.run(params)
    assert paths.INITIAL.stat().st_mtime_ns == times  # left alone
    saved(params, data, Path("w.safetensors"), seed=6)
    assert not source._is_as_left()
    source.run(params)
    assert paths.INITIAL.read_bytes() == Path("w.safetensors").read_bytes()
    assert source._is_as_left()
    paths.INITIAL.write_bytes(b"damaged")
    assert not source._is_as_left()
    os.unlink("w.safetensors")
    assert not source._is_as_left()


# --- used by a fit ----------------------------------------------------------------------------------------------------


def test_a_fit_starts_from_the_weights_and_repeats(data, small_params):
    params = starting(small_params)
    weights = saved(params, data, paths.INITIAL)
    still = params.overlaid({"optimizer": {"lr": 1e-12}, "train": {"epochs": 1}, "regularization": {"l2": 0.0}})
    found = state(fit(still, data))
    assert all(
        torch.allclose(found[name], weights[name], atol=1e-6) for name in weights if name.endswith((".weight", ".bias"))
    )
    first, second, other = state(fit(params, data)), state(fit(params, data)), state(fit(small_params(), data))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_frozen_layers_stay_bit_for_bit_with_their_statistics(data, small_params, optimizer):
    params = starting(small_params, up_to="features", frozen=True)
    momentum = None if optimizer == "adamw" else 0.9
    params = params.overlaid({"optimizer": {"name": optimizer, "momentum": momentum}, "train": {"ema_decay": 0.5}})
    weights = saved(params, data, paths.INITIAL)
    found = state(fit(params, data))
    for name, value in found.items():
        assert torch.equal(value, weights[name]) == name.startswith("features."), name


def test_a_frozen_normalization_uses_its_statistics_in_training_too(data, small_params, monkeypatch):
    params = starting(small_params, up_to="features", frozen=True)
    saved(params, data, paths.INITIAL)
    modes: set[bool] = set()
    forward = torch.nn.BatchNorm2d.forward

    def watched(module, maps):
        modes.add(module.training)
        return forward(module, maps)

    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", watched)
    fit(params, data)
    assert modes == {False}


def test_an_interrupted_fit_goes_on_to_the_same_bits(data, small_params, tmp_path):
    params = starting(small_params, up_to="features.3", frozen=True)
    params = params.overlaid({"train": {"epochs": 3, "checkpoint_seconds": 0.0}})
    saved(params, data, paths.INITIAL)
    expected = state(fit(params, data))

    def stop(epoch):
        if epoch.epoch == 2:
            raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        fit(params, data, on_epoch=stop, checkpoints=Checkpoints(tmp_path / "kept", "a fit"))
    found = state(fit(params, data, checkpoints=Checkpoints(tmp_path / "kept", "a fit")))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_of_another_network_are_refused_before_training(data, small_params):
    params = starting(small_params)
    saved(params.overlaid({"model": {"convnet": {"width": 8}}}), data, paths.INITIAL)
    with pytest.raises(Mistake, match=r"params.yaml: model.init_from: w.safetensors: \d+ tensors do not fit"):
        fit(params, data)


def test_a_missing_copy_is_told(data, small_params):
    with pytest.raises(Mistake, match=r"data/initial.safetensors: not found; `dvc repro source` brings"):
        fit(starting(small_params), data)


def test_a_search_that_reaches_another_network_is_refused_before_its_first_trial(data, small_params):
    params = starting(small_params)
    saved(params, data, paths.INITIAL)
    space = {"model": {"convnet": {"width": {"low": 4, "high": 8}}}}
    params = params.model_copy(update={"search": params.search.model_copy(update={"space": space})})
    with pytest.raises(Mistake, match=r"search\.space: model\.convnet\.width reaches 8; narrow it"):
        search.refuse_impossible_networks(params, data)


def test_the_copys_content_is_what_the_work_depends_on(data, small_params):
    from pipeline.state import work
    from pipeline.training.network import initial_weights

    params = starting(small_params)
    saved(params, data, paths.INITIAL)
    first = work("train", params, initial_weights(params))
    assert initial_weights(small_params()) == []
    saved(params, data, paths.INITIAL, seed=6)
    second = work("train", params, initial_weights(params))
    assert first.fingerprint != second.fingerprint
    digest = hashlib.md5(paths.INITIAL.read_bytes(), usedforsecurity=False).hexdigest()
    assert second.dependencies["data/initial.safetensors"] == digest
