"""augment.crop_size through a whole fit: the network sees the crop, the saved model takes the stored image."""

import numpy as np
import pytest
import torch

from models.build import ModelFileError, load_model, save_model
from pipeline.data.augmentation import render
from pipeline.errors import Mistake
from pipeline.inference import predict
from pipeline.params import Params
from pipeline.training.fit import TrainingData, describe, fit
from pipeline.training.network import initialised_network


@pytest.fixture
def data(project) -> TrainingData:
    return TrainingData.open()


def saved(params: Params, data: TrainingData, folder):
    fitted = fit(params, data)
    folder.mkdir()
    save_model(folder, fitted.network, describe(params, data))
    return fitted.network.eval(), load_model(folder)


@pytest.mark.parametrize("crop_size", [5, 6, None])
def test_the_model_takes_stored_images_and_sees_their_centre(data, small_params, tmp_path, crop_size):
    params = small_params(augment={"crop_size": crop_size, "horizontal_flip": True}, model={"name": "mlp"})
    network, model = saved(params, data, tmp_path / "model")
    side = crop_size or 8
    assert next(network.parameters()).shape[1] == side**2
    assert model.image_shape == (8, 8, 1)
    batch, maps = data.policy(params).plain(data.validation.images, np.arange(30))
    start = (8 - side) // 2
    assert np.array_equal(batch, data.validation.images[:, start : start + side, start : start + side])
    with torch.no_grad():
        expected = network(render(torch.from_numpy(batch), maps)).softmax(1).numpy()
    assert np.allclose(predict(model, data.validation, "cpu", "test"), expected, atol=1e-5)


def test_what_is_around_the_centre_does_not_count(data, small_params, tmp_path):
    _, model = saved(small_params(augment={"crop_size": 6}), data, tmp_path / "model")
    images = torch.from_numpy(np.array(data.validation.images[:4]))
    changed = torch.full_like(images, 255)
    changed[:, 1:7, 1:7] = images[:, 1:7, 1:7]
    assert torch.equal(model(changed), model(images))


def test_a_models_crop_cannot_be_larger_than_its_images(data, small_params, tmp_path):
    saved(small_params(augment={"crop_size": 6}, model={"name": "linear"}), data, tmp_path / "model")
    description = tmp_path / "model" / "model.yaml"
    description.write_text(description.read_text().replace("crop_size: 6", "crop_size: 9"))
    with pytest.raises(ModelFileError, match=r"crop_size: 9 must lie between 1 and image_size, 8"):
        load_model(tmp_path / "model")


def test_a_model_without_the_key_sees_whole_images(data, small_params, tmp_path):
    """As models were described before it."""
    _, model = saved(small_params(model={"name": "linear"}), data, tmp_path / "model")
    description = tmp_path / "model" / "model.yaml"
    text = description.read_text()
    assert "crop_size: null\n" in text
    description.write_text(text.replace("crop_size: null\n", ""))
    images = torch.from_numpy(np.array(data.validation.images[:4]))
    assert torch.equal(load_model(tmp_path / "model")(images), model(images))


def test_networks_and_images_too_small_are_refused(data, small_params):
    params = small_params(augment={"crop_size": 2}, model={"convnet": {"stages": 4}})
    with pytest.raises(Mistake, match=r"augment\.crop_size"):
        initialised_network(params, data.seen(params))
    with pytest.raises(Mistake, match=r"augment\.crop_size: 9 is more than the images' 8 pixels"):
        data.policy(small_params(augment={"crop_size": 9}))


def test_strengths_of_classes_and_images_reach_the_fit(data, small_params):
    """The classes of the project's data are dark, light and striped."""
    policy = data.policy(small_params(augment={"per_class": {"light": {"cutout_size": 8}}}))
    batch, maps = policy.augmented(data.train.images, 0, np.arange(30))
    blank = (render(torch.from_numpy(batch), maps) == 0).flatten(1).float().mean(1)
    light = data.train.labels[:30] == 1
    assert (blank[light] >= 0.25).all()
    assert (blank[~light] == 0).all()
    with pytest.raises(Mistake, match=r"augment\.per_class\.ligth: no such class; did you mean 'light'"):
        data.policy(small_params(augment={"per_class": {"ligth": {}}}))
    path = data.train.paths()[0]
    policy = data.policy(small_params(augment={"crop_padding": 3, "per_image": {path: {"crop_padding": 0}}}))
    batch, _ = policy.augmented(data.train.images, 0, np.arange(30))
    assert np.array_equal(batch[0], data.train.images[0])
    assert not np.array_equal(batch[1:], data.train.images[1:30])
