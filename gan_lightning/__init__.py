"""gan_lightning: train, measure and use GANs with PyTorch Lightning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lightning.inference import load as load

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import :func:`load` when it is first asked for: a command's ``--help`` should not wait for torch."""
    if name == "load":
        from gan_lightning.inference import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
