"""The table of commands, and the ``main`` that runs them.

A command is a folder ``VERB/`` with two files. ``cli.py`` imports no torch. Its ``add_flags(parser)`` adds all
flags. Its ``run(args)`` refuses invalid flags and passes the others to ``run.py``. ``run.py`` does the work.
"""

import importlib
import sys
from collections.abc import Sequence
from enum import Enum, unique
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gan_lightning.commands.common.exit_codes import run_command
from gan_lightning.errors import InputError
from gan_lightning.home import set_home_and_name

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


@unique
class Verb(Enum):
    """The commands: name of the folder, and description for ``--help``."""

    train = (
        "Train a GAN, or a network from image to image (--method). Every --trainer.X is also --X. Flags override files, files "
        "override defaults."
    )
    evaluate = "Measure a trained generator, or a folder of images, against real images."
    sample = "Draw images from a checkpoint: a grid, an array, or a folder of PNGs."
    interpolate = "Walk through a generator's latents, from seed to seed and from class to class."
    invert = "Find the latent whose image is nearest to a given one."
    translate = "Translate images by a checkpoint of a translation: a file, a folder, or an array."
    export = "Export the generator of a checkpoint, with a model card; each file is checked against the original."
    playground = "Open a page in the browser to explore a generator; Ctrl-C ends it."
    compare = (
        "Train several recipes under the same conditions and compare them with real images. Runs in --output are kept, so the "
        "command resumes where it stopped. Several processes may share one folder if their seeds differ. Flags --data.X, such "
        "as --data.root, are passed on to the training of each row."
    )
    compute_reference = "Compute the statistics of real images and cache them for evaluate.py and training."

    @property
    def cli(self) -> ModuleType:
        """The module with the command's flags."""
        return importlib.import_module(f"gan_lightning.commands.{self.name}.cli")

    def make_parser(self, **choices: str) -> "ArgumentParser":
        """Make the parser of the command's flags.

        Args:
            choices: what the flags depend on: the ``method`` of train, by default GAN.
        """
        from jsonargparse import ArgumentParser  # here, because run_command handles Ctrl-C during the import

        parser = ArgumentParser(prog=self.name, description=self.value, exit_on_error=False, allow_abbrev=False)
        self.cli.add_flags(parser, **choices)
        return parser

    def main(self, args: Sequence[str] | None = None) -> int:
        """Run the command.

        Args:
            args: the words after the command's name; by default those of the actual command line.

        Returns:
            the exit code: 0, 2 for bad input, 130 after Ctrl-C.
        """
        words = list(sys.argv[1:] if args is None else args)

        def command() -> None:
            set_home_and_name()
            sys.path.append(str(_current_folder()))  # so that custom modules here can be imported
            self.cli.run(words)

        return run_command(self.name, command)


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise InputError("the current folder has been removed: change to another one") from error
