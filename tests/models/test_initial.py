"""Starting from saved weights: whole, up to a layer, frozen; and what does not fit."""

import pytest
import torch
from safetensors.torch import save_file

from models import catalogue
from models.build import build_network
from models.initial import UnfitWeightsError, start_from, start_from_file
from models.networks.shape import Shape

SETTINGS = catalogue.Convnet(
    width=4, stages=2, first_depth=1, depth=1, activation="relu", normalization="batch", pooling="max", pool_size=2
)


def network(seed: int, outputs: int = 5) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_network("convnet", SETTINGS, Shape(3, 8, outputs), 0.0)


def weights(seed: int, outputs: int = 5) -> dict[str, torch.Tensor]:
    module = network(seed, outputs)
    module(torch.randn(8, 3, 8, 8))  # moves the batch statistics
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_whole_weights_are_taken_over_with_their_statistics():
    module, saved = network(0), weights(1)
    assert start_from(module, saved, None, frozen=False) == []
    assert all(torch.equal(value, saved[name]) for name, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_file_is_read_and_one_that_is_none_is_refused(tmp_path):
    module, saved = network(0), weights(1)
    save_file(saved, tmp_path / "weights.safetensors")
    start_from_file(module, tmp_path / "weights.safetensors", None, frozen=False)
    assert torch.equal(module.fc.weight, saved["fc.weight"])
    (tmp_path / "pickle").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(UnfitWeightsError, match="no safetensors file"):
        start_from_file(module, tmp_path / "pickle", None, frozen=False)


@pytest.mark.parametrize(("up_to", "taken"), [
    ("features", {"features.0", "features.2", "features.4", "features.5"}),
    ("features.3", {"features.0", "features.2"}),  # a layer without weights counts too
    ("features.4", {"features.0", "features.2", "features.4"}),
])  # fmt: skip
def test_layers_up_to_one_are_taken_over_and_the_head_may_differ(up_to, taken):
    module, saved, before = network(0, outputs=7), weights(1), network(0, outputs=7).state_dict()
    start_from(module, saved, up_to, frozen=False)
    for name, value in module.state_dict().items():
        source = saved if name.rpartition(".")[0] in taken else before
        assert torch.equal(value, source[name]), name


def test_frozen_layers_learn_nothing_and_their_normalizations_are_named():
    module = network(0)
    still = start_from(module, weights(1), "features.3", frozen=True)
    learned = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert learned == {"features.4.weight", "features.5.weight", "features.5.bias", "fc.weight", "fc.bias"}
    assert still == [module.features[2]]


@pytest.mark.parametrize(("saved", "up_to", "frozen", "message"), [
    (weights(1, outputs=7), None, False, r"2 tensors do not fit this network \(fc.weight: 5x8 here, 7x8 there; fc.bias:"
     " 5 here, 7 there.*up_to with the last layer"),
    ({"features.0.weight": torch.zeros(4, 3, 3, 3)}, "features.2", False, "features.2.weight: 4 here, absent there"),
    ({**weights(1), "fc2.weight": torch.zeros(2, 5)}, None, False, "fc2.weight: 2x5 there, absent here"),
    (weights(1), "feature", False, "'feature' is no layer of this network; its parts are features, dropout, fc"),
    (weights(1), None, True, "frozen leaves nothing to learn"),
    ({}, None, False, "and 6 more\\); use the network that was saved"),
])  # fmt: skip
def test_what_does_not_fit_is_told(saved, up_to, frozen, message):
    with pytest.raises(UnfitWeightsError, match=message):
        start_from(network(0), saved, up_to, frozen)


def test_a_refusal_changes_nothing():
    module, before = network(0), network(0).state_dict()
    with pytest.raises(UnfitWeightsError):
        start_from(module, weights(1, outputs=7), None, frozen=False)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
