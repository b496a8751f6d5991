"""The published networks against their papers: numbers of weights, maps layer by layer, initialisation, local response,
stochastic depth, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from models import catalogue
from models.build import build_network
from models.networks import layers
from models.networks.resnet import Block
from models.networks.shape import ImageTooSmallError, Shape

IMAGENET, CIFAR = Shape(3, 224, 1000), Shape(3, 32, 10)


def alexnet(version: str, form: str = "imagenet", width_factor: float = 1.0) -> catalogue.Alexnet:
    return catalogue.Alexnet(version=version, form=form, width_factor=width_factor)


def vgg(depth: int, batch_norm: bool = False, form: str = "imagenet", width_factor: float = 1.0) -> catalogue.Vgg:
    return catalogue.Vgg(depth=depth, batch_norm=batch_norm, form=form, width_factor=width_factor)


def resnet(
    depth: int, form: str = "imagenet", stochastic_depth: float = 0.0, width_factor: float = 1.0
) -> catalogue.Resnet:
    return catalogue.Resnet(depth=depth, form=form, stochastic_depth=stochastic_depth, width_factor=width_factor)


def on_paper(settings: catalogue.Network, shape: Shape) -> nn.Module:
    """Built without memory."""
    with torch.device("meta"):
        return build_network(type(settings).__name__.lower(), settings, shape, 0.0)


def built(settings: catalogue.Network, shape: Shape, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(type(settings).__name__.lower(), settings, shape, 0.0)


def maps(network: nn.Module, shape: Shape, kinds: tuple[type[nn.Module], ...]) -> list[tuple[int, ...]]:
    """The shape, without the batch, of what each layer of these kinds makes, in their order."""
    found: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda module, inputs, output: found.append(tuple(output.shape[1:])))
    network(torch.empty(2, shape.channels, shape.image_size, shape.image_size, device="meta"))
    return found


# --- numbers of weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settings", "shape", "count"), [
    (alexnet("two_towers_2012"), IMAGENET, 60_965_224),
    (alexnet("one_tower_2014"), IMAGENET, 61_100_840),
    (vgg(11), IMAGENET, 132_863_336),  # the paper's table 2, in millions: 133, 133, 138, 144
    (vgg(13), IMAGENET, 133_047_848),
    (vgg(16), IMAGENET, 138_357_544),
    (vgg(19), IMAGENET, 143_667_240),
    (vgg(16, batch_norm=True), IMAGENET, 138_357_544 + 2 * 4224),  # 4,224 channels with a scale and a shift each
    (vgg(16, form="small"), CIFAR, 14_714_688 + 512 * 10 + 10),
    (resnet(18), IMAGENET, 11_689_512),
    (resnet(34), IMAGENET, 21_797_672),
    (resnet(50), IMAGENET, 25_557_032),
    (resnet(20, "small"), CIFAR, 269_722),  # the paper's table 6, in millions: 0.27, 0.46, 0.85
    (resnet(32, "small"), CIFAR, 464_154),
    (resnet(56, "small"), CIFAR, 853_018),
    (resnet(18, "small"), CIFAR, 11_689_512 - 3 * 64 * (49 - 9) - 990 * 513),  # another first convolution and head
], ids=repr)  # fmt: skip
def test_as_many_weights_as_published(settings, shape, count):
    assert sum(parameter.numel() for parameter in on_paper(settings, shape).parameters()) == count


# --- layer by layer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "widths"), [
    ("two_towers_2012", (96, 256, 384, 384, 256)), ("one_tower_2014", (64, 192, 384, 256, 256)),
])  # fmt: skip
def test_alexnets_maps(version, widths):
    first, second, third, fourth, fifth = widths
    network = on_paper(alexnet(version), IMAGENET)
    assert maps(network, IMAGENET, (nn.Conv2d, nn.MaxPool2d, nn.Linear)) == [
        (first, 55, 55), (first, 27, 27),
        (second, 27, 27), (second, 13, 13),
        (third, 13, 13), (fourth, 13, 13), (fifth, 13, 13), (fifth, 6, 6),
        (4096,), (4096,), (1000,),
    ]  # fmt: skip
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    grouped = [number for number, layer in enumerate(convolutions, 1) if layer.groups == 2]
    pools = {(layer.kernel_size, layer.stride) for layer in network.modules() if isinstance(layer, nn.MaxPool2d)}
    responses = sum(isinstance(layer, layers.LocalResponse) for layer in network.modules())
    assert pools == {(3, 2)}  # they overlap
    assert (grouped, responses) == (([2, 4, 5], 2) if version == "two_towers_2012" else ([], 0))


def test_alexnets_local_response_stands_between_activation_and_pooling():
    kinds = [type(layer).__name__ for layer in on_paper(alexnet("two_towers_2012"), IMAGENET).features]
    assert kinds[:8] == ["Conv2d", "ReLU", "LocalResponse", "MaxPool2d"] * 2


@pytest.mark.parametrize(("depth", "stages"), [
    (11, (1, 1, 2, 2, 2)), (13, (2, 2, 2, 2, 2)), (16, (2, 2, 3, 3, 3)), (19, (2, 2, 4, 4, 4)),
])  # fmt: skip
def test_vggs_maps(depth, stages):
    expected = []
    for count, width, side in zip(stages, (64, 128, 256, 512, 512), (224, 112, 56, 28, 14), strict=True):
        expected += [(width, side, side)] * count + [(width, side // 2, side // 2)]
    found = maps(on_paper(vgg(depth), IMAGENET), IMAGENET, (nn.Conv2d, nn.MaxPool2d, nn.Linear))
    assert found == [*expected, (4096,), (4096,), (1000,)]
    assert len(found) - 5 == depth  # layers with weights: all but the pools


@pytest.mark.parametrize(("depth", "widths", "blocks"), [
    (18, (64, 128, 256, 512), (2, 2, 2, 2)),
    (34, (64, 128, 256, 512), (3, 4, 6, 3)),
    (50, (256, 512, 1024, 2048), (3, 4, 6, 3)),
])  # fmt: skip
def test_resnets_maps(depth, widths, blocks):
    network = on_paper(resnet(depth), IMAGENET)
    expected = [
        (width, side, side)
        for width, side, count in zip(widths, (56, 28, 14, 7), blocks, strict=True)
        for _ in range(count)
    ]
    assert maps(network, IMAGENET, (Block, nn.Linear)) == [*expected, (1000,)]
    network = on_paper(resnet(depth), IMAGENET)
    assert maps(network, IMAGENET, (nn.Conv2d, nn.MaxPool2d))[:2] == [(64, 112, 112), (64, 56, 56)]
    weighted = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    projections = sum(block.shortcut is not None for block in network.blocks)
    assert len(weighted) - projections == depth
    assert projections == (4 if depth == 50 else 3)  # only where the width or the size changes


@pytest.mark.parametrize(("depth", "billions"), [(18, 1.8), (34, 3.6), (50, 3.8)])
def test_resnets_multiplications_are_those_of_the_papers_table_1(depth, billions):
    network, total = on_paper(resnet(depth), IMAGENET), 0

    def count(module, inputs, output):
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network(torch.empty(2, 3, 224, 224, device="meta"))
    assert total / 1e9 == pytest.approx(billions, abs=0.11)


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_cifars_resnets_have_three_stages_and_shortcuts_without_parameters(depth):
    network = on_paper(resnet(depth, "small"), CIFAR)
    each = (depth - 2) // 6
    expected = [(width, side, side) for width, side in ((16, 32), (32, 16), (64, 8)) for _ in range(each)]
    assert maps(network, CIFAR, (Block,)) == expected
    assert all(block.shortcut is None for block in network.blocks)


def test_a_shortcut_across_two_widths_takes_every_second_pixel_and_adds_zeros():
    block = built(resnet(20, "small"), CIFAR).blocks[3].eval()  # 16 to 32 channels
    nn.init.zeros_(block.branch[-1].weight)  # the branch's last normalization: it adds nothing
    images = torch.rand(2, 16, 8, 8)
    found = block(images)
    assert torch.equal(found[:, :16], images[:, :, ::2, ::2])
    assert (found[:, 16:] == 0).all()


def test_a_bottlenecks_first_convolution_has_the_stride():
    first = built(resnet(50, width_factor=1 / 16), IMAGENET).blocks[3].branch
    assert [layer.stride for layer in first if isinstance(layer, nn.Conv2d)] == [(2, 2), (1, 1), (1, 1)]
    assert [layer.kernel_size for layer in first if isinstance(layer, nn.Conv2d)] == [(1, 1), (3, 3), (1, 1)]


# --- initialisation ---------------------------------------------------------------------------------------------------


def weighted(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("version", ["two_towers_2012", "one_tower_2014"])
def test_alexnet_begins_as_published(version):
    shape = Shape(3, 63, 100)
    for number, layer in enumerate(weighted(built(alexnet(version, width_factor=0.25), shape)), 1):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert layer.weight.mean().item() == pytest.approx(0.0, abs=0.001)
        assert (layer.bias == (1 if number in (2, 4, 5, 6, 7) else 0)).all()


def test_vgg_begins_as_published():
    for layer in weighted(built(vgg(11, width_factor=0.25), Shape(3, 32, 100))):
        window = layer.weight[0, 0].numel()
        fans = window * (layer.weight.shape[0] + layer.weight.shape[1])
        assert layer.weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.1)
        assert layer.weight.abs().max().item() <= (6 / fans) ** 0.5  # uniform
        assert (layer.bias == 0).all()


def test_resnet_begins_as_published():
    for layer in weighted(built(resnet(18, width_factor=0.25), Shape(3, 32, 100))):
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.15)


@pytest.mark.parametrize(("activation", "variance"), [
    ("relu", 2 / 400), ("gelu", 2 / 400), ("leaky_relu", 2 / (400 * (1 + 0.01**2))),
    ("tanh", 2 / (400 + 300)), ("sigmoid", 2 / (400 + 300)),
])  # fmt: skip
def test_weights_begin_as_the_activation_needs(activation, variance):
    torch.manual_seed(0)
    weight = torch.empty(300, 400)
    layers.initialise(weight, activation, "fan_in")
    assert weight.var().item() == pytest.approx(variance, rel=0.02)


# --- local response ---------------------------------------------------------------------------------------------------


def test_local_response_is_the_papers_formula():
    generator = np.random.default_rng(0)
    a = generator.normal(size=(2, 11, 3, 3)) * 30  # so large that the sum counts
    expected = np.empty_like(a)
    for i in range(11):
        total = sum(a[:, j] ** 2 for j in range(max(0, i - 2), min(10, i + 2) + 1))
        expected[:, i] = a[:, i] / (2 + 1e-4 * total) ** 0.75
    np.testing.assert_allclose(layers.LocalResponse()(torch.from_numpy(a)).numpy(), expected, rtol=1e-12)
    torchs = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)  # which divides alpha by the five channels
    np.testing.assert_allclose(torchs(torch.from_numpy(a)).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_local_response_of_fewer_channels_than_its_window(channels):
    a = torch.full((1, channels, 1, 1), 100.0, dtype=torch.float64)
    found = layers.LocalResponse()(a)
    reached = [sum(abs(i - j) <= 2 for j in range(channels)) for i in range(channels)]
    assert found.flatten().tolist() == pytest.approx([100 / (2 + 1e-4 * 1e4 * n) ** 0.75 for n in reached])


# --- stochastic depth -------------------------------------------------------------------------------------------------


def test_the_chance_to_survive_falls_linearly_to_the_last_block():
    network = on_paper(resnet(20, "small", stochastic_depth=0.5), CIFAR)
    assert [block.survival for block in network.blocks] == pytest.approx([1 - n / 9 * 0.5 for n in range(1, 10)])


def test_a_block_left_out_hands_on_what_it_was_given_and_learns_nothing():
    block = built(resnet(20, "small", stochastic_depth=0.9, width_factor=0.25), CIFAR).blocks[-1].train()
    images = torch.rand(4, 16, 4, 4)
    outcomes = set()
    for seed in range(40):
        torch.manual_seed(seed)
        block.zero_grad()
        found = block(images)
        found.square().sum().backward()
        left_out = torch.equal(found, images)
        still = all((parameter.grad == 0).all() for parameter in block.parameters())
        assert left_out == still
        outcomes.add(left_out)
    assert outcomes == {False, True}


def test_stochastic_depth_is_a_function_of_torchs_seed():
    network = built(resnet(20, "small", stochastic_depth=0.5, width_factor=0.25), CIFAR).train()
    images = torch.rand(4, 3, 8, 8)

    def answer(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return network(images)

    assert torch.equal(answer(3), answer(3))
    assert any(not torch.equal(answer(3), answer(seed)) for seed in range(4, 8))


def test_in_evaluation_a_branch_counts_as_much_as_it_does_in_training_on_average():
    block = built(resnet(20, "small", stochastic_depth=0.4, width_factor=0.25), CIFAR).blocks[-1].double()
    nn.init.constant_(block.branch[-1].weight, 0.001)  # too little for the ReLU behind the sum to cut anything off
    images = 1 + torch.rand(2, 16, 4, 4, dtype=torch.float64)
    block.branch.eval()  # so that training and evaluation normalize alike
    torch.manual_seed(0)
    block.training = True
    drawn = [block(images) for _ in range(1000)]
    whole = next(output for output in drawn if not torch.equal(output, images))
    assert all(torch.equal(output, images) or torch.equal(output, whole) for output in drawn)
    share = sum(torch.equal(output, whole) for output in drawn) / len(drawn)
    assert share == pytest.approx(0.6, abs=0.05)  # three standard deviations
    block.training = False
    torch.testing.assert_close(block(images), 0.4 * images + 0.6 * whole)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settings", "smallest"), [
    (alexnet("two_towers_2012", width_factor=1 / 16), 63),
    (alexnet("one_tower_2014", width_factor=1 / 16), 63),
    (alexnet("two_towers_2012", "small", width_factor=1 / 16), 15),
    (vgg(11, width_factor=1 / 16), 32),
    (vgg(19, form="small", width_factor=1 / 16), 32),
    (resnet(18, width_factor=1 / 16), 32),
    (resnet(18, "small", width_factor=1 / 16), 8),
    (resnet(20, "small", width_factor=1 / 4), 4),
], ids=repr)  # fmt: skip
def test_the_smallest_image_works_and_one_pixel_less_is_refused(settings, smallest):
    network = built(settings, Shape(3, smallest, 5)).eval()
    assert network(torch.zeros(2, 3, smallest, smallest)).shape == (2, 5)
    less = smallest - 1
    with pytest.raises(ImageTooSmallError, match=f"at least {smallest}x{smallest} pixels, not {less}x{less}; use"):
        built(settings, Shape(3, less, 5))


@pytest.mark.parametrize("size", [64, 97, 224])
@pytest.mark.parametrize("settings", [
    alexnet("two_towers_2012", width_factor=1 / 16), vgg(11, width_factor=1 / 16), resnet(18, width_factor=1 / 16),
    alexnet("one_tower_2014", "small", width_factor=1 / 16), vgg(11, form="small", width_factor=1 / 16),
], ids=repr)  # fmt: skip
def test_larger_images_of_any_size_work(settings, size):
    with torch.device("meta"):
        assert on_paper(settings, Shape(1, size, 5))(torch.empty(2, 1, size, size)).shape == (2, 5)


@pytest.mark.parametrize("factor", [0.01, 0.25, 0.33, 1.0, 2.0])
def test_widths_times_a_factor_fit_together(factor):
    for settings in (alexnet("two_towers_2012", "small", factor), vgg(11, True, "small", factor),
                     resnet(50, "small", 0.0, factor), resnet(20, "small", 0.0, factor)):  # fmt: skip
        with torch.device("meta"):
            assert on_paper(settings, CIFAR)(torch.empty(2, 3, 32, 32)).shape == (2, 10)


# --- what a convnet is told -------------------------------------------------------------------------------------------


def convnet(**changes: object) -> catalogue.Convnet:
    own = {"width": 4, "stages": 2, "first_depth": 1, "depth": 1, "activation": "relu", "normalization": "batch",
           "pooling": "max", "pool_size": 2}  # fmt: skip
    return catalogue.Convnet(**{**own, **changes})


@pytest.mark.parametrize(("changes", "kinds"), [
    ({}, "Conv2d MaxPool2d BatchNorm2d ReLU"),
    ({"normalization": "none"}, "Conv2d MaxPool2d ReLU"),
    ({"normalization": "none", "activation": "gelu"}, "Conv2d GELU MaxPool2d"),
    ({"pooling": "average", "activation": "tanh"}, "Conv2d BatchNorm2d Tanh AvgPool2d"),
    ({"normalization": "local_response"}, "Conv2d ReLU LocalResponse MaxPool2d"),
])  # fmt: skip
def test_a_convnets_layers_stand_in_their_order(changes, kinds):
    network = built(convnet(**changes), CIFAR)
    found = [type(layer).__name__ for layer in network.features]
    assert found[: len(kinds.split())] == kinds.split()
    biased = [layer.bias is not None for layer in network.features if isinstance(layer, nn.Conv2d)]
    assert biased == [convnet(**changes).normalization != "batch"] * 2


@pytest.mark.parametrize("activation", sorted(layers.RISING))
def test_a_maximum_before_a_rising_activation_is_one_after_it(activation):
    maps_ = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pool, activate = layers.pooling("max", 3), layers.ACTIVATIONS[activation]()
    torch.testing.assert_close(activate(pool(maps_.clone())), pool(activate(maps_.clone())))


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_pooling_halves_and_sees_nothing_beyond_the_edge(kind, size):
    ones = torch.full((1, 1, 8, 8), -3.0)
    assert torch.equal(layers.pooling(kind, size)(ones), torch.full((1, 1, 4, 4), -3.0))
    assert layers.pooling(kind, size)(torch.zeros(1, 1, 2, 2)).shape[2:] == (1, 1)
