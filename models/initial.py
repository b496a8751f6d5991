"""Training that starts from saved weights: all of them, or those up to a layer; frozen or not."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_SHOWN = 8  # tensors in a message


class UnfitWeightsError(ValueError):
    """Saved weights that do not fit a network; the message names the tensors and the remedy."""


def start_from_file(network: nn.Module, file: Path, up_to: str | None, frozen: bool) -> list[nn.Module]:
    """`start_from` the weights of a safetensors file. Raises FileNotFoundError too."""
    try:
        weights = load_file(file)
    except SafetensorError as error:
        raise UnfitWeightsError(f"{file}: no safetensors file: {error}") from None
    return start_from(network, weights, up_to, frozen)


def start_from(network: nn.Module, weights: Mapping[str, Tensor], up_to: str | None, frozen: bool) -> list[nn.Module]:
    """Put saved weights into a network: those of every layer, or of those up to and including `up_to`.

    frozen: what is taken over learns no more. Returns the batch normalizations among it, whose statistics stay as they
    are only in evaluation mode.
    Raises UnfitWeightsError, and then has changed nothing.
    """
    own = network.state_dict()
    layers = _layers(network, up_to)
    taken = {name: tensor for name, tensor in own.items() if name.rpartition(".")[0] in layers}
    wrong = [f"{name}: {_size(own[name])} here, absent there" for name in taken if name not in weights]
    wrong += [
        f"{name}: {_size(own[name])} here, {_size(weights[name])} there"
        for name in taken
        if name in weights and own[name].shape != weights[name].shape
    ]
    if up_to is None:
        wrong += [f"{name}: {_size(weights[name])} there, absent here" for name in weights if name not in own]
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UnfitWeightsError(
            f"{len(wrong)} tensors do not fit this network ({'; '.join(wrong[:_SHOWN])}{more}); use the network that"
            " was saved, or up_to with the last layer to take over"
        )
    with torch.no_grad():
        for name, tensor in taken.items():
            tensor.copy_(weights[name])
    if not frozen:
        return []
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in taken)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UnfitWeightsError("frozen leaves nothing to learn; name the last layer to take over by up_to")
    return [module for name, module in network.named_modules() if name in layers and isinstance(module, _BatchNorm)]


def _layers(network: nn.Module, up_to: str | None) -> set[str]:
    """The names of the modules up to and including `up_to` and all within it, in the order they were made in, which in
    all our networks is the order that an image goes through them."""
    names = [name for name, _ in network.named_modules()]
    if up_to is None:
        return set(names)
    within = [index for index, name in enumerate(names) if name == up_to or name.startswith(f"{up_to}.")]
    if not within:
        known = [name for name in names if name and "." not in name]
        raise UnfitWeightsError(
            f"up_to: {up_to!r} is no layer of this network; its parts are {', '.join(known)}, and what is in them"
            f" ({next((name for name in names if '.' in name), known[0])})"
        )
    return set(names[: within[-1] + 1])


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"
