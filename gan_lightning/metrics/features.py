"""Feature extractors: networks from images to the features and logits that metrics are computed from."""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.errors import InputError, one_line
from gan_lightning.files import file_sha256, fingerprint
from gan_lightning.images import on_white, size_text
from gan_lightning.training.devices import to_device


class Extractor(nn.Module, ABC):
    """A network in eval mode that maps uint8 images to features and logits in one forward pass.

    Attributes:
        prefix: beginning of the names of its metrics, such as ``mnist_``. It is empty only for Inception, because its
            metrics have the field's usual names.
    """

    prefix: str

    @abstractmethod
    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Extract features float32 (N, D), and logits float32 (N, K) or None, of images uint8 (N, C, H, W) on its device."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """List all that the output depends on except the images, for records and for the key of cached statistics."""

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the result of :meth:`extract`, computed in float32 even under autocast or reduced matmul precision.

        Transparent images, of four channels, are put on white.

        Raises:
            InputError: the images are not uint8 (N, C, H, W).
        """
        if images.dtype != torch.uint8 or images.dim() != 4:
            raise InputError(f"images are {images.dtype} {tuple(images.shape)}: use uint8 (N, C, H, W), from 0 to 255")
        with full_precision(self.device.type):
            return self.extract(on_white(to_device(images, self.device)))

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        for tensor in chain(self.parameters(), self.buffers()):
            return tensor.device
        return torch.device("cpu")


class NoFeatures(Extractor):
    """No features (N, 0) and no logits: for a measurement of pairs alone."""

    prefix = ""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("place", torch.empty(0), persistent=False)  # moves with the module

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        return torch.empty(len(images), 0, device=images.device), None

    def protocol(self) -> dict[str, Any]:
        return {"extractor": "none"}


class ModuleExtractor(Extractor):
    """A custom module as an extractor.

    Args:
        module: maps images uint8 (N, C, H, W) to features (N, D), or to a pair of features and logits (N, K).
        name: name in records; by default the name of its class.
    """

    def __init__(self, module: nn.Module, name: str | None = None) -> None:
        super().__init__()
        self.module = module.eval().requires_grad_(False)
        self.name = name or type(module).__name__
        self.prefix = f"{self.name.lower()}_"

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        try:
            output = self.module(images)
        except (RuntimeError, ValueError, IndexError) as error:
            size = size_text(images.shape[1:])
            raise InputError(f"{self.name} cannot take images of {size}: {one_line(error)[:150]}") from error
        features, logits = output if isinstance(output, tuple) else (output, None)
        for name, value in {"features": features, "logits": logits}.items():
            if value is not None and (value.dim() != 2 or len(value) != len(images)):
                raise InputError(
                    f"{self.name} gives {name} of shape {tuple(value.shape)} "
                    f"for {len(images)} images: it must return ({len(images)}, D)"
                )
        return features.float(), None if logits is None else logits.float()

    def protocol(self) -> dict[str, Any]:
        cls = type(self.module)
        return {
            "extractor": f"{cls.__module__}.{cls.__qualname__}",
            "source_sha256": _source_sha256(cls),
            "weights_sha256": fingerprint(*self.module.state_dict().values()),
        }


def _source_sha256(cls: type) -> str | None:
    """Hash the source file of a class, so that statistics are computed again if it changes; None if there is no file."""
    try:
        return file_sha256(Path(inspect.getfile(cls)))
    except (TypeError, OSError):
        return None


def import_extractor(class_path: str) -> Extractor:
    """Make an extractor from the class ``class_path``: an :class:`Extractor` or any module, without required arguments.

    Raises:
        InputError: the class does not exist, is not a module, or requires arguments.
    """
    module_name, _, class_name = class_path.rpartition(".")
    advice = "use imagenet, inception, classifier, or the class path of a torch.nn.Module of your own (module.Class)"
    if not module_name:
        raise InputError(f"extractor {class_path} does not exist: {advice}")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"extractor {class_path} cannot be imported ({one_line(error)}): {advice}") from error
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise InputError(f"extractor {class_path} is not a torch.nn.Module: {advice}")
    try:
        module = cls()
    except TypeError as error:
        raise InputError(
            f"extractor {class_path} cannot be created without arguments ({one_line(error)}): give every argument a default"
        ) from error
    return module if isinstance(module, Extractor) else ModuleExtractor(module)


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Compute in true float32 within the block: no autocast, no TF32 or bfloat16 in matrix products and convolutions."""
    backends: Any = torch.backends
    places = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "ieee"
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
