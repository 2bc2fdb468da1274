"""Export the generator of a checkpoint: safetensors, torch.export, ONNX, and a model card, in one folder.

python scripts/export.py lightning_logs/version_0/checkpoints/last.ckpt
python scripts/export.py last.ckpt --output my-gan --formats safetensors,onnx
python scripts/export.py last.ckpt --output my-gan --formats safetensors --precision float16 --picture false
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from gan_lightning.commands.arguments import arrange, require_new_folder, run_command
from gan_lightning.commands.drawing_flags import add_checkpoint, parse_drawing
from gan_lightning.errors import InputError

NEEDS: dict[str, tuple[str, ...]] = {"safetensors": (), "torch": (), "onnx": ("onnx", "onnxscript", "onnxruntime")}
"""Format -> the packages that it needs beside those that are always there."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    sys.path.append(str(Path.cwd()))  # networks of one's own are named by module and class
    return run_command("export", lambda: export(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line."""
    parser = ArgumentParser(
        prog="export",
        description="Export the generator of a checkpoint, with a model card; each file is checked against the original.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    add_checkpoint(parser)
    parser.add_argument("--output", type=str, default="exported", help="a folder that is not there yet, or empty")
    parser.add_argument(
        "--formats", type=str, default=",".join(NEEDS), help="which, with commas between them; safetensors is always there"
    )
    parser.add_argument(
        "--precision", type=Literal["float32", "float16"], default="float32", help="of the weights in model.safetensors"
    )
    parser.add_argument("--picture", type=bool, default=True, help="write samples.png, which the model card shows")
    return parser


def export(args: Sequence[str]) -> None:
    """Refuse flags that cannot be right; then import torch, and export."""
    config = parse_drawing(make_parser(), arrange(args))
    config.formats = _formats(config.formats)
    require_new_folder(Path(config.output))
    from gan_lightning.commands.exporting import export_generator

    export_generator(config)


def _formats(text: str) -> list[str]:
    """What ``--formats`` lists, in the order of :data:`NEEDS`.

    Raises:
        InputError: there is no such format, or a package that it needs is not installed.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in NEEDS:
            raise InputError(f"--formats has {word!r}: there are {', '.join(NEEDS)}")
        if missing := [package for package in NEEDS[word] if find_spec(package) is None]:
            names, others = " ".join(missing), ",".join(name for name, needed in NEEDS.items() if not needed)
            raise InputError(f"--formats {word} needs other packages: run pip install {names}, or take --formats {others}")
    return [name for name in NEEDS if name in ("safetensors", *words)]
