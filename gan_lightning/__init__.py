"""gan_lightning: train, measure and use GANs with PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lightning.image_translator import ImageTranslator as ImageTranslator
    from gan_lightning.inference import Sampler as Sampler
    from gan_lightning.inference import load as load

__version__ = "0.1.0"
__all__ = ["ImageTranslator", "Sampler", "load"]


def __getattr__(name: str) -> Any:
    """Import an exported name on its first use, so that a command's ``--help`` does not wait for torch."""
    if name in __all__:
        return getattr(import_module("gan_lightning.inference"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
