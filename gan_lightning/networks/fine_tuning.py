"""Fine-tuning: weights of one network for another of the same family, and layers that keep their weights."""

from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.networks.base import Discriminator

Layer = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of a layer's own parameters and buffers."""


@torch.no_grad()
def transfer(network: nn.Module, weights: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Copy into ``network`` the layers of ``weights`` that fit, and leave the others as they are.

    The layers of both networks are compared in their order. A layer fits another one with the same weights, by name and shape,
    wherever it stands: a generator of 64 pixels has those of 32 pixels after a new first one.

    Args:
        network: the network.
        weights: state of a network of the same class, by name.

    Returns:
        The names of the layers that were copied, and of those that were not.
    """
    mine, theirs = _layers(network.state_dict(keep_vars=True)), _layers(weights)
    matcher = SequenceMatcher(
        None, [_shapes(layer) for layer in mine.values()], [_shapes(layer) for layer in theirs.values()], False
    )
    names, sources = list(mine), list(theirs)
    taken: dict[str, str] = {}
    for block in matcher.get_matching_blocks():
        taken |= {names[block.a + i]: sources[block.b + i] for i in range(block.size)}
    for name, source in taken.items():
        for key, value in mine[name].items():
            value.copy_(theirs[source][key])
    return [name for name in names if name in taken], [name for name in names if name not in taken]


def freeze_layers(discriminator: Discriminator, count: int) -> int:
    """Stop training the first ``count`` layers of a discriminator, counted from the image (Mo et al. 2020, FreezeD).

    A layer is one with a weight of two or more dimensions, with the norms that follow it. The head is always trained.

    Returns:
        The number of layers before the head.
    """
    layers = 0
    for name, layer in _layers(dict(discriminator.named_parameters())).items():
        if name == "head" or name.startswith("head."):
            continue
        layers += any(parameter.ndim > 1 for parameter in layer.values())
        for parameter in layer.values():
            parameter.requires_grad_(parameter.requires_grad and layers > count)
    return layers


def _layers(state: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Group a state by layers, in their order. A parametrized weight, such as one with spectral norm, belongs to its layer."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        layer, separator, inner = name.partition(".parametrizations.")
        if not separator:
            layer, _, inner = name.rpartition(".")
        if isinstance(value, Tensor):
            layers.setdefault(layer, {})[inner] = value
    return layers


def _shapes(layer: Mapping[str, Tensor]) -> Layer:
    return tuple((name, tuple(value.shape)) for name, value in sorted(layer.items()))
