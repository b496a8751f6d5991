"""Conformance: whatever stands in the catalogue is built, learns, is saved and loaded, and is deterministic."""

import numpy as np
import pytest
import torch

from models import catalogue
from models.build import Description, ModelFileError, Predictor, build_network, load_model, save_model
from models.losses import LOSSES
from models.networks.shape import ImageTooSmallError, Shape
from models.optimizers import OPTIMIZERS
from models.schedules import SCHEDULES

SMALL = {  # a family, and what is particular: "mlp", "mlp activation=tanh"
    f"{name} {variant.choice}".rstrip(): variant
    for name, entry in catalogue.NETWORKS.items()
    for variant in entry.small_variants()
}
SHAPE = Shape(channels=3, image_size=8, outputs=5)
CONVNET = SMALL["convnet"].settings
# Deep and without batch normalization: at higher rates all units die.
CAREFUL = [name for name in SMALL if name.startswith(("alexnet", "vgg")) and "batch_norm" not in name]


def family(name: str) -> str:
    return name.partition(" ")[0]


def shape_of(name: str) -> Shape:
    return SHAPE._replace(image_size=SMALL[name].image_size)


def noise(name: str, count: int, seed: int = 0) -> torch.Tensor:
    _, size, _ = shape_of(name)
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def network(name: str, seed: int = 0, dropout: float = 0.0) -> torch.nn.Module:
    torch.manual_seed(seed)
    module = build_network(family(name), SMALL[name].settings, shape_of(name), dropout)
    if SMALL[name].settings.memorises:
        module.reserve(20)
        module.memorise(torch.randint(256, (20, 3, 8, 8)), torch.arange(20) % 5, 0)
    return module


def needs_parameters(name: str) -> None:
    if SMALL[name].settings.memorises:
        pytest.skip("it memorises: it has no parameters, and so no first values and no gradients")


def description(name: str) -> Description:
    raw = SMALL[name].settings.memorises  # it takes pixels in [0, 255]
    return Description(
        network=family(name),
        network_settings=SMALL[name].settings.model_dump(),
        dropout=0.0,
        loss="softmax",
        loss_settings={"label_smoothing": 0.0},
        classes=[f"class {i}" for i in range(SHAPE.outputs)],
        image_size=shape_of(name).image_size,
        channels=SHAPE.channels,
        mean=[0.0, 0.0, 0.0] if raw else [0.5, 0.4, 0.3],
        std=[1 / 255] * 3 if raw else [0.2, 0.3, 0.4],
    )


def test_every_entry_of_the_catalogue_can_be_built():
    assert {family(name) for name in SMALL} == set(catalogue.NETWORKS)
    assert set(LOSSES) == set(catalogue.LOSSES)
    assert set(OPTIMIZERS) == set(catalogue.OPTIMIZERS)
    assert set(SCHEDULES) == set(catalogue.SCHEDULES)


@pytest.mark.parametrize("name", SMALL)
class TestNetwork:
    def test_scores_every_class(self, name):
        assert network(name)(torch.zeros_like(noise(name, 2))).shape == (2, 5)

    def test_is_a_function_of_torchs_seed(self, name):
        needs_parameters(name)
        first, second, other = network(name).state_dict(), network(name).state_dict(), network(name, 1).state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)

    def test_every_parameter_has_a_gradient(self, name):
        needs_parameters(name)
        module = network(name)
        module(noise(name, 4)).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())

    def test_learns_a_handful_of_images_by_heart(self, name):
        needs_parameters(name)
        module = network(name).train()
        images = noise(name, 10)
        labels = torch.arange(10) % 5
        settings, rate = catalogue.Adam(beta1=0.9, beta2=0.99, eps=1e-8), 0.002 if name in CAREFUL else 0.02
        optimizer = OPTIMIZERS["adam"](module.parameters(), settings, rate, None)
        loss = LOSSES["softmax"](catalogue.Softmax(label_smoothing=0.0))
        for _ in range(100):
            optimizer.zero_grad()
            loss(module(images), labels).mean().backward()
            optimizer.step()
        assert (module(images).argmax(1) == labels).all()

    def test_comes_back_from_its_files_bit_for_bit(self, name, tmp_path):
        module = network(name)
        module(noise(name, 16))  # moves the batch statistics
        save_model(tmp_path, module, description(name))
        first = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        loaded = load_model(tmp_path)
        assert not loaded.training
        assert loaded.classes == tuple(description(name).classes)
        state, expected = loaded.network.state_dict(), module.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in state)
        save_model(tmp_path, loaded.network, description(name))
        assert first == {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def test_predicts_from_raw_bytes_what_it_predicts_from_normalised_images(self, name):
        module = network(name).eval()
        predictor = Predictor(module, description(name)).eval()
        size = SMALL[name].image_size
        images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
        normalised = (images / 255.0 - description(name).mean) / description(name).std
        expected = module(torch.from_numpy(normalised).permute(0, 3, 1, 2).float()).softmax(1)
        found = predictor(torch.from_numpy(images))
        torch.testing.assert_close(found, expected)
        assert found.sum(1).tolist() == pytest.approx([1.0] * 3)
        loss = predictor.loss_per_image(torch.from_numpy(images), torch.tensor([0, 1, 2]))
        assert loss.tolist() == pytest.approx((-expected.log())[range(3), range(3)].tolist(), rel=1e-4)


@pytest.mark.parametrize("name", ["mlp", "convnet", "alexnet", "vgg", "vgg form=imagenet", "resnet", "preresnet"])
def test_dropout_changes_training_and_not_evaluation(name):
    module = network(name, dropout=0.5)
    images = noise(name, 4)
    module.train()
    assert not torch.equal(module(images), module(images))
    module.eval()
    assert torch.equal(module(images), module(images))


@pytest.mark.parametrize(("name", "settings"), [
    ("convnet", CONVNET.model_copy(update={"stages": 5})),
    ("preresnet", catalogue.Preresnet(width=4, stages=5, depth=1)),
])  # fmt: skip
def test_too_small_an_image_names_the_smallest_that_works(name, settings):
    with pytest.raises(ImageTooSmallError, match="at least 16x16 pixels, not 8x8"):
        build_network(name, settings, SHAPE, 0.0)
    build_network(name, settings, SHAPE._replace(image_size=16), 0.0)


def test_hidden_units_begin_without_a_bias():
    hidden = build_network("mlp", SMALL["mlp"].settings, SHAPE, 0.0).hidden
    assert all((layer.bias == 0).all() for layer in hidden if isinstance(layer, torch.nn.Linear))


def test_convnet_has_the_depths_and_widths_it_is_told():
    settings = CONVNET.model_copy(update={"stages": 3, "depth": 2})
    module = build_network("convnet", settings, SHAPE, 0.0)
    convolutions = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)]
    widths = [(layer.in_channels, layer.out_channels) for layer in convolutions]
    assert widths == [(3, 4), (4, 8), (8, 8), (8, 16), (16, 16)]
    assert module.features(torch.zeros(2, 3, 8, 8)).shape == (2, 16, 2, 2)  # halved between the stages


def test_preresnet_adds_to_its_input_and_halves_between_stages():
    module = build_network("preresnet", catalogue.Preresnet(width=4, stages=3, depth=2), SHAPE, 0.0).eval()
    images = torch.randn(2, 4, 8, 8)
    sizes = []
    for block in module.blocks:
        images = block(images)
        sizes.append(tuple(images.shape[1:]))
    assert sizes == [(4, 8, 8), (4, 8, 8), (8, 4, 4), (8, 4, 4), (16, 2, 2), (16, 2, 2)]
    same = module.blocks[1]
    torch.nn.init.zeros_(same.conv2.weight)
    images = torch.randn(2, 4, 8, 8)
    assert torch.equal(same(images), images)  # the identity, where nothing changes in size


def test_linear_is_wx_plus_b():
    module = build_network("linear", catalogue.Linear(), Shape(channels=1, image_size=2, outputs=3), 0.0)
    weights = [[0.2, -0.5, 0.1, 2], [1.5, 1.3, 2.1, 0], [0, 0.25, 0.2, -0.3]]
    module.load_state_dict({"fc.weight": torch.tensor(weights), "fc.bias": torch.tensor([1.1, 3.2, -1.2])})
    scores = module(torch.tensor([[[[56.0, 231], [24, 2]]]]))
    assert scores[0].tolist() == pytest.approx([-96.8, 437.9, 60.75], rel=1e-6)
    weights = [[0.01, -0.05, 0.1, 0.05], [0.7, 0.2, 0.05, 0.16], [0, -0.45, -0.2, 0.03]]
    module.load_state_dict({"fc.weight": torch.tensor(weights), "fc.bias": torch.tensor([0, 0.2, -0.3])})
    scores = module(torch.tensor([[[[-15.0, 22], [-44, 56]]]]))
    assert scores[0].tolist() == pytest.approx([-2.85, 0.86, 0.28], rel=1e-5)


def test_sizes_worked_out_by_hand():
    """Built without memory."""

    def sizes(name: str, settings: catalogue.Settings, shape: Shape) -> list[int]:
        with torch.device("meta"):
            return [p.numel() for p in build_network(name, settings, shape, 0.0).parameters()]

    assert sum(sizes("linear", catalogue.Linear(), Shape(3, 32, 10))) == 10 * 3073  # CIFAR-10, with the bias trick
    assert sizes("linear", catalogue.Linear(), Shape(3, 224, 1000))[0] == 150_528_000
    wide = catalogue.Mlp(width=40_000, depth=1, activation="relu")
    assert sizes("mlp", wide, Shape(1, 200, 10))[0] == 1_600_000_000
    assert sizes("mlp", wide, Shape(3, 200, 10))[0] == 4_800_000_000


class TestBadModelFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        save_model(tmp_path, network("mlp"), description("mlp"))
        return tmp_path

    def test_missing(self, folder):
        (folder / "weights.safetensors").unlink()
        with pytest.raises(ModelFileError, match=r"weights\.safetensors: not found"):
            load_model(folder)

    def test_truncated_weights(self, folder):
        file = folder / "weights.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
        with pytest.raises(ModelFileError, match=r"weights\.safetensors: does not fit"):
            load_model(folder)

    def test_weights_of_another_network(self, folder):
        save_model(folder, network("linear"), description("mlp"))
        with pytest.raises(ModelFileError, match=r"weights\.safetensors: does not fit"):
            load_model(folder)

    @pytest.mark.parametrize("text", ["", "[]", "a: [", "network: mlp\n", "network: ../../evil\n"])
    def test_description_that_is_none(self, folder, text):
        (folder / "model.yaml").write_text(text)
        with pytest.raises(ModelFileError, match=r"model\.yaml: not a model's description"):
            load_model(folder)

    def test_unknown_network_is_never_imported(self, folder):
        raw = (folder / "model.yaml").read_text().replace("network: mlp", "network: shape")
        (folder / "model.yaml").write_text(raw)
        with pytest.raises(ModelFileError, match="'shape' is not one of"):
            load_model(folder)
