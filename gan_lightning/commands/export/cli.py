"""Export the generator of a checkpoint: safetensors, torch.export, ONNX, and a model card, in one folder.

python scripts/export.py lightning_logs/version_0/checkpoints/last.ckpt
python scripts/export.py last.ckpt --output my-gan --formats safetensors,onnx
python scripts/export.py last.ckpt --output my-gan --formats safetensors --precision float16 --no_picture
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from gan_lightning.commands.common.arguments import arrange
from gan_lightning.commands.common.flags import add_checkpoint, parse_drawing
from gan_lightning.commands.common.outputs import require_new_folder
from gan_lightning.commands.verbs import Verb
from gan_lightning.errors import InputError

NEEDS: dict[str, tuple[str, ...]] = {"safetensors": (), "torch": (), "onnx": ("onnx", "onnxscript", "onnxruntime")}
"""Format -> the optional packages that it needs."""


def add_flags(parser: ArgumentParser) -> None:
    """Add all flags of the command."""
    add_checkpoint(parser)
    parser.add_argument("--output", type=str, default="exported", help="new or empty output folder")
    parser.add_argument(
        "--formats", type=str, default=",".join(NEEDS), help="comma-separated formats; safetensors is always written"
    )
    parser.add_argument(
        "--precision", type=Literal["float32", "float16"], default="float32", help="precision of model.safetensors"
    )
    parser.add_argument("--no_picture", action="store_true", help="omit samples.png, the picture of the model card")


def run(args: Sequence[str]) -> None:
    """Refuse invalid flags; then import torch and export."""
    config = parse_drawing(Verb.export.make_parser(), arrange(args))
    config.formats = _formats(config.formats)
    require_new_folder(Path(config.output))
    from gan_lightning.commands.export.run import export_generator

    export_generator(config)


def _formats(text: str) -> list[str]:
    """Read the formats of ``--formats``, in the order of :data:`NEEDS`.

    Raises:
        InputError: a format does not exist, or a package that it needs is not installed.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in NEEDS:
            raise InputError(f"--formats has {word!r}: use only {', '.join(NEEDS)}")
        if missing := [package for package in NEEDS[word] if find_spec(package) is None]:
            names, others = " ".join(missing), ",".join(name for name, needed in NEEDS.items() if not needed)
            raise InputError(f"--formats {word} needs more packages: run pip install {names}, or use --formats {others}")
    return [name for name in NEEDS if name in ("safetensors", *words)]
