"""Rules of the sections model, loss and regularization that hold between keys, and what null stands for there."""

from collections.abc import Callable

import pytest

from models import catalogue
from pipeline.errors import Mistake
from pipeline.params import Params


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_a_depth_that_is_not_published_for_imagenet_is_refused(small_params: Callable[..., Params], depth: int) -> None:
    with pytest.raises(Mistake, match=rf"model.resnet.form: imagenet is not published for depth {depth}; set it to"):
        small_params(model={"name": "resnet", "resnet": {"depth": depth, "form": "imagenet"}})
    small_params(model={"name": "resnet", "resnet": {"depth": depth, "form": "small"}})
    small_params(model={"resnet": {"depth": depth, "form": "imagenet"}})  # it rests


@pytest.mark.parametrize("change", [{"up_to": "features"}, {"frozen": True}])
def test_how_to_start_without_weights_is_refused(
    small_params: Callable[..., Params], change: dict[str, object]
) -> None:
    (key,) = change
    with pytest.raises(Mistake, match=rf"model.init_from.{key}: has no meaning where init_from.weights is null"):
        small_params(model={"init_from": change})
    small_params(model={"init_from": {**change, "weights": "w.safetensors"}})


def test_class_weights_are_for_classification(
    small_params: Callable[..., Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_params(loss={"class_weights": "balanced"})
    monkeypatch.setattr(catalogue.Softmax, "task", "regression")
    with pytest.raises(
        Mistake, match=r"loss.class_weights: balanced has no meaning for softmax, which is for regression"
    ):
        small_params(loss={"class_weights": "balanced"})


@pytest.mark.parametrize(("name", "own"), [("alexnet", 0.5), ("vgg", 0.5), ("resnet", 0.0), ("convnet", 0.0)])
def test_dropout_null_is_the_networks_own(small_params: Callable[..., Params], name: str, own: float) -> None:
    assert small_params(model={"name": name}, regularization={"dropout": None}).dropout == own
    assert small_params(model={"name": name}, regularization={"dropout": 0.2}).dropout == 0.2


def test_a_range_for_weights_that_are_not_there_is_skipped(small_params: Callable[..., Params]) -> None:
    space = {"model": {"init_from": {"frozen": {"choices": [True, False]}}}}
    params = small_params()
    params = params.model_copy(update={"search": params.search.model_copy(update={"space": space})})
    (dimension,) = params.space
    assert dimension.meaning_in(params) == "model.init_from.weights is null"
