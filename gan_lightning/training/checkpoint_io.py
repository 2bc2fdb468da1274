"""Checkpoint reading and writing for Lightning: atomic, verified, without hyper-parameters."""

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor
from torch.utils._pytree import tree_leaves

from gan_lightning import files
from gan_lightning.checkpoint import HYPER_PARAMETERS, load_gan
from gan_lightning.errors import InputError, one_line


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints to a temporary file and renames it; verifies them when it reads (see ``files.py``).

    Leaves out hyper-parameters, because ``load_gan`` refuses a checkpoint that has them. A custom data source may save some.
    """

    def save_checkpoint(self, content: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            InputError: the system cannot write it, for example because the disk is full. An earlier file of this name stays
                as it is.
        """
        kept = {name: value for name, value in content.items() if name not in HYPER_PARAMETERS}
        try:
            files.save(kept, path)
        except OSError as error:
            tensors = [leaf for leaf in tree_leaves(content) if isinstance(leaf, Tensor)]
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            raise InputError(f"{cannot_write(path, error)}. The checkpoint needs {size / 1e6:,.1f} MB") from error

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_gan(path, map_location or "cpu")  # whatever device it was saved from


def cannot_write(path: str | os.PathLike[str], error: OSError) -> str:
    """Error message for a file of a run that the system cannot write: its name, the reason, and the free space."""
    folder = next(parent for parent in Path(path).absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    reason = f"cannot be written ({error.strerror or one_line(error)}, {free / 1e6:,.1f} MB free)"
    return f"{path} {reason}. The last checkpoint is intact: fix this, and resume from it with --ckpt_path"
