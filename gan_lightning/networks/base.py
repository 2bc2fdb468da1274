"""Base classes of all networks, and their description in checkpoints: how to write it and how to rebuild a network from it."""

import importlib
import inspect
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.modules.module import register_module_module_registration_hook

from gan_lightning.errors import InputError, one_line

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11

N = TypeVar("N", bound="Network")
T = TypeVar("T")

MAX_LAYERS = 2000
"""Largest number of layers of the networks of a run; those of this project have a few hundred."""
MIN_LAYERS, LAYERS_PER_WEIGHT = 1000, 10
"""A network may have this many layers, or so many for each of its weights if that is more, to be rebuilt from a file."""


class Network(nn.Module, ABC):
    """A module that remembers its arguments, so that a checkpoint can rebuild it.

    Args:
        image_shape: (C, H, W) of the images.
        num_classes: number of classes of the data; 0 if it has none.
        conditioning: way in which the network uses the labels; None ignores them.
        condition_dim: number of attributes of the data; 0 if it has none. With attributes, labels are float32
            (B, condition_dim) instead of int64 (B,), and a linear layer maps them in place of an embedding.

    Attributes:
        conditionings: all conditionings of the class.

    Raises:
        InputError: the conditioning does not exist, the data has neither two classes nor attributes for it, or the shape is
            impossible.
    """

    arguments: dict[str, Any]
    conditionings: tuple[str, ...] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> "Self":
        network = super().__new__(cls)
        signature = inspect.signature(cls)
        arguments = dict(signature.bind_partial(*args, **kwargs).arguments)
        for parameter in signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                arguments |= arguments.pop(parameter.name, {})
        # Not through nn.Module.__setattr__: __init__ has not run yet. deepcopy comes here without arguments and
        # restores the attribute with the rest.
        network.__dict__["arguments"] = arguments
        return network

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        conditioning: str | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__()
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise InputError(f"image_shape is {image_shape}: use (channels, height, width), each at least 1")
        if conditioning is not None and conditioning not in self.conditionings:
            raise InputError(
                f"conditioning of {type(self).__name__} is {conditioning!r}: use {', '.join(self.conditionings)} or null"
            )
        if conditioning is not None and num_classes < 2 and not condition_dim:
            raise InputError(
                f"conditioning of {type(self).__name__} is {conditioning}, but the data has {num_classes} classes: use data "
                "with at least two classes or with attributes, or conditioning=null"
            )
        self.image_shape = tuple(image_shape)
        self.num_classes, self.condition_dim = num_classes, condition_dim
        self.conditioning = conditioning

    @property
    def conditional(self) -> bool:
        """True if the network uses the labels."""
        return self.conditioning is not None


class Generator(Network):
    """Maps latents (B, latent_dim), drawn from a standard normal, to images (B, C, H, W), nominally in [-1, 1].

    Args:
        latent_dim: dimension of the latent z.
        conditioning: ``concatenation`` of an embedding of the label to z (Mirza and Osindero 2014); or ``batch_norm`` with a
            scale and a shift for each class (de Vries et al. 2017), in networks with batch norm.
    """

    conditionings: tuple[str, ...] = ("concatenation", "batch_norm")

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        latent_dim: int = 100,
        conditioning: str | None = None,
        condition_dim: int = 0,
    ) -> None:
        super().__init__(image_shape, num_classes, conditioning, condition_dim)
        if latent_dim < 1:
            raise InputError(f"latent_dim is {latent_dim}: use at least 1")
        self.latent_dim = latent_dim

    @abstractmethod
    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Draw images (B, C, H, W) for latents (B, latent_dim) and labels (B,) or (B, condition_dim); None if unconditional."""


class Translator(Network):
    """Maps source images (B, C', H', W') to images (B, C, H, W) of another kind, both in [-1, 1].

    An image is ``factor`` times as high and wide as its source. A network is made for one size; :meth:`translate` applies it to
    any.

    Args:
        image_shape: (C, H, W) of the images.
        source_shape: (C', H', W') of their sources.

    Attributes:
        factor: sides of an image divided by those of its source.
        multiple: the sides of a source may differ by multiples of this from those of ``source_shape``.
        least: smallest side of a source in pixels.

    Raises:
        InputError: a shape is impossible, or the sides of an image are no multiple of those of its source.
    """

    multiple: int = 1
    least: int = 1

    def __init__(self, image_shape: tuple[int, int, int], source_shape: tuple[int, int, int]) -> None:
        super().__init__(image_shape)
        if len(source_shape) != 3 or min(source_shape) < 1:
            raise InputError(f"source_shape is {source_shape}: use (channels, height, width), each at least 1")
        (_, height, width), (_, source_height, source_width) = image_shape, source_shape
        self.factor = height // source_height
        if not self.factor or (height, width) != (self.factor * source_height, self.factor * source_width):
            raise InputError(
                f"sources are {source_height}x{source_width} and images {height}x{width}: use images whose sides are those of "
                "their sources, or both the same multiple of them"
            )
        self.source_shape = tuple(source_shape)

    @abstractmethod
    def forward(self, source: Tensor) -> Tensor:
        """Translate sources (B, C', H', W'), of the sides that the network allows, to images (B, C, H, W)."""

    def require_same_size(self) -> None:
        """Refuse images that are larger than their sources.

        Raises:
            InputError: they are.
        """
        if self.factor > 1:
            raise InputError(
                f"images are {self.factor} times as large as their sources, but {type(self).__name__} keeps the size: use "
                "SRResNet"
            )

    def translate(self, source: Tensor) -> Tensor:
        """Translate sources (B, C', h, w) of any size to images (B, C, factor * h, factor * w).

        Sources are mirrored at their right and lower edge up to the next size that the network allows, and the images are
        cropped.
        """
        height, width = source.shape[2:]
        rows, columns = (
            self._mirrored(side, own, source) for side, own in zip((height, width), self.source_shape[1:], strict=True)
        )
        images = self(source[:, :, rows][:, :, :, columns])
        cropped: Tensor = images[:, :, : self.factor * height, : self.factor * width]
        return cropped

    def _mirrored(self, side: int, own: int, source: Tensor) -> Tensor:
        """Indices of the pixels of a side, continued by reflection up to the next side that the network allows."""
        least = max(side, self.least)
        index = torch.arange(least + (own - least) % self.multiple, device=source.device)
        period = max(2 * (side - 1), 1)
        return torch.minimum(index % period, period - index % period)


class Discriminator(Network):
    """Maps images (B, C, H, W) in [-1, 1] to logits (B,) or (B, ...): large if the image looks real. No sigmoid.

    Further dimensions are logits of parts of an image, such as patches. Losses are means over all of them.

    It consists of :meth:`features` and a ``head``. Only the head uses the labels. It is one of the heads in ``layers.py``, or a
    module that takes features (B, F) and labels, and returns logits.

    Attributes:
        samples_are_independent: True if an image's logits do not depend on the other images of its batch (no batch norm).
            Only then may real and generated images share one pass. That is faster.
        source_shape: (C', H', W') of the source images that it looks at next to an image, instead of labels; None if it looks
            at images alone.
    """

    conditionings: tuple[str, ...] = ("concatenation", "projection", "classifier")
    samples_are_independent: bool = False
    source_shape: tuple[int, ...] | None = None
    head: nn.Module

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Compute the last features (B, F) of images (B, C, H, W)."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Compute logits (B, ...) for images (B, C, H, W) and labels (B,) or (B, condition_dim); None if unconditional.

        A discriminator with a ``source_shape`` takes sources (B, C', H', W') instead of labels.
        """
        return self.features_and_logits(images, labels)[1]

    def features_and_logits(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the last features (B, F) and logits (B, ...), as :meth:`forward`."""
        features = self.features(images)
        return features, self.logits(features, labels)

    def logits(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Compute logits (B, ...) for features (B, F) and labels (B,)."""
        with in_float32(features) as wide:
            logits: Tensor = self.head(wide, labels)
        return logits

    def penalized_logits(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Compute the logits (B, ...) whose gradients penalties look at: all of them, unless a class says otherwise."""
        logits: Tensor = self(images, labels)
        return logits

    def judge(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Compute logits (B, ...) like :meth:`forward`, and the output of the head's ``classify``, if it has one.

        That is class logits (B, num_classes), or estimates of the attributes (B, condition_dim).
        """
        features = self.features(images)
        classify: Callable[[Tensor], Tensor] | None = getattr(self.head, "classify", None)
        with in_float32(features) as wide:
            return self.head(wide, labels), None if classify is None else classify(wide)


def enlarged(source: Tensor, images: Tensor) -> Tensor:
    """Enlarge sources (B, C', H', W') to the size of their images, by repeating pixels; others are returned as they are."""
    if source.shape[2:] == images.shape[2:]:
        return source
    return interpolate(source, images.shape[2:], mode="nearest")


@contextmanager
def in_float32(features: Tensor) -> Iterator[Tensor]:
    """Leave autocast within the block, because losses take small differences of logits. Yields the features in float32."""
    device = features.device.type
    if not torch.is_autocast_enabled(device):
        yield features
        return
    with torch.autocast(device, enabled=False):
        yield features.float()


def describe(network: Network) -> dict[str, Any]:
    """Describe a network by its class path and arguments: all that :func:`build` needs, primitives only.

    Raises:
        InputError: an argument is not a primitive, so a checkpoint with it could not be loaded safely.
    """
    cls = type(network)
    for name, value in network.arguments.items():
        if not _is_primitive(value):
            raise InputError(
                f"argument {name} of {cls.__name__} is a {type(value).__name__}, and checkpoints cannot store it: use numbers, "
                "text, and lists or dicts of them"
            )
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "arguments": network.arguments}


def _is_primitive(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_primitive, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_primitive(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str)


def build(description: dict[str, Any], trust: Collection[str] = ()) -> Network:
    """Make the network that :func:`describe` described, with fresh weights. The arguments are those of :func:`make`.

    Raises:
        InputError: as there.
    """
    return make(Network, description, trust)


def make(kind: type[T], description: dict[str, Any], trust: Collection[str] = ()) -> T:
    """Make an object that a checkpoint describes.

    Args:
        kind: base class of the object.
        description: {"class_path", "arguments"}, possibly from a file of unknown origin.
        trust: top-level modules, besides this package, from which classes may be imported.

    Raises:
        InputError: the class is outside the trusted modules, does not exist, is of another kind, or refuses the arguments.
    """
    class_path, arguments = description["class_path"], description["arguments"]
    module_name, _, class_name = str(class_path).rpartition(".")
    top_level = module_name.partition(".")[0]
    if top_level not in {"gan_lightning", *trust}:
        own = top_level.isidentifier() and top_level not in sys.stdlib_module_names
        advice = f"pass trust=[{top_level!r}] to run its code" if own else "use another checkpoint"
        raise InputError(f"the checkpoint's class {class_path} is not trusted: {advice}")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"the checkpoint's class {class_path} cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, kind)):
        raise InputError(f"the checkpoint's class {class_path} is no {kind.__name__}: use another checkpoint")
    try:
        return cls(**arguments)
    except InputError:
        raise
    except Exception as error:  # invented arguments can raise anything
        raise InputError(f"the checkpoint's arguments do not fit {class_path}: {one_line(error)[:200]}") from error


@contextmanager
def at_most_layers(limit: int = MAX_LAYERS) -> Iterator[None]:
    """Refuse to make more layers than ``limit`` within the block: a description such as ``blocks: 1000000000`` never ends.

    Raises:
        InputError: within the block, as soon as there are more.
    """
    thread, made = threading.get_ident(), 0

    def count(module: nn.Module, name: str, layer: nn.Module | None) -> None:
        nonlocal made
        made += threading.get_ident() == thread
        if made > limit:
            raise InputError(f"a network has more than {limit:,} layers: use a smaller one")

    handle = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def with_defaults(description: Any, network: Network) -> Any:
    """Add to a description of ``network`` the defaults of the arguments that it lacks.

    A checkpoint lacks the arguments that are newer than it. Returns descriptions of other classes, and other
    objects, unchanged.
    """
    cls = type(network)
    if not isinstance(description, dict) or description.get("class_path") != describe(network)["class_path"]:
        return description
    parameters = inspect.signature(cls).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}
    return {**description, "arguments": defaults | description["arguments"]}


def rebuild(
    kind: type[N],
    description: dict[str, Any],
    weights: dict[str, Tensor],
    trust: Collection[str],
    path: str | os.PathLike[str],
) -> N:
    """Make the network that :func:`describe` described, with these weights.

    Compares the shapes of this package's networks with those of the weights before it allocates memory.

    Args:
        kind: class of the network: Generator or Translator.
        description: as for :func:`build`.
        weights: name -> tensor, exactly those of the network.
        trust: as for :func:`build`.
        path: file of the weights, for messages.

    Raises:
        InputError: as in :func:`build`, or the network is of another kind, or the weights do not fit.
    """
    limit = max(MIN_LAYERS, LAYERS_PER_WEIGHT * len(weights))
    devices = ["meta", "cpu"] if str(description["class_path"]).startswith("gan_lightning.") else ["cpu"]
    for device in devices:
        with torch.device(device), at_most_layers(limit):
            network: Network = build(description, trust)
        if not isinstance(network, kind):
            raise InputError(f"{path} has a {description['class_path']} instead of a {kind.__name__.lower()}: use another one")
        found = {name: tuple(value.shape) if isinstance(value, Tensor) else None for name, value in weights.items()}
        expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise InputError(
                    f"{path} has weights that do not fit {type(network).__name__} ({name} is {found.get(name, 'missing')} "
                    f"instead of {expected.get(name, 'missing')}): use another one"
                )
    assert isinstance(network, kind)
    network.load_state_dict(weights)
    return network


def difference(theirs: Any, mine: Any) -> str:
    """Name the differences between two descriptions, of a checkpoint and of this run, or between two values in them."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        return ", ".join(
            f"{name} {difference(theirs.get(name), mine.get(name))}"
            for name in sorted(theirs.keys() | mine.keys())
            if theirs.get(name) != mine.get(name)
        )
    return f"{theirs} there, {mine} here"
