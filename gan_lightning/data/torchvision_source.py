"""Base of the data sets that torchvision reads and downloads."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

from lightning.pytorch.utilities import rank_zero_info

from gan_lightning.data.base import ImageDataModule, Images, Split
from gan_lightning.data.tree import listed
from gan_lightning.errors import InputError, one_line


class TorchvisionSource(ImageDataModule):
    """A data set of torchvision, downloaded only if its files are missing. Arguments as :class:`ImageDataModule`.

    Attributes:
        dataset_class: torchvision's class.
        files: files to put below ``root`` if there is no network, for the error message.
    """

    dataset_class: Any
    files: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._splits: dict[Split, Images] = {}

    @abstractmethod
    def _convert(self, split: Split) -> Images:
        """Read a split by :meth:`_open`."""

    @abstractmethod
    def _checks(self) -> Iterator[tuple[Path, bool]]:
        """Check the files of the data set below ``root``: path, and whether the content is right. Missing files are wrong."""

    def _damaged(self) -> list[str]:
        """Paths of files that are there, but not as the authors published them."""
        return [str(path) for path, right in self._checks() if path.is_file() and not right]

    def images(self, split: Split) -> Images:
        if split not in self._splits:
            self._splits[split] = self._convert(split)
        return self._splits[split]

    def prepare_data(self) -> None:
        """Download missing files, in one process of each machine.

        Raises:
            InputError: files are missing and cannot be downloaded.
        """
        if self._found():
            return
        name = type(self).__name__
        rank_zero_info(f"{name} is not in {self.root}: downloading it")
        try:
            self.dataset_class(str(self.root), download=True)
        except (URLError, OSError, RuntimeError) as error:
            if damaged := self._damaged():
                raise InputError(
                    f"{name} is damaged and cannot be downloaded again ({one_line(error)}): replace {listed(damaged)} by the "
                    "original, or train without a download with --config digits"
                ) from error
            raise InputError(
                f"{name} is not in {self.root} and cannot be downloaded ({one_line(error)}): put {self.files} there, use "
                "another --data.root, or train without a download with --config digits"
            ) from error

    def _found(self) -> bool:
        try:
            self.images("train")
        except FileNotFoundError:
            return False
        return True

    def _arguments(self, split: Split) -> dict[str, Any]:
        """Arguments of torchvision's class for a split."""
        return {"train": split == "train"}

    def _open(self, split: Split) -> Any:
        """Open torchvision's data set.

        Raises:
            FileNotFoundError: its files are missing or, for CIFAR-10, have another checksum.
            InputError: its files are damaged.
        """
        try:
            return self.dataset_class(str(self.root), **self._arguments(split))
        except (RuntimeError, ValueError, AssertionError, EOFError, IndexError, OSError) as error:
            if str(error).startswith("Dataset not found"):
                raise FileNotFoundError(str(error)) from error
            files = listed(self._damaged()) or f"its files in {self.root}"
            raise InputError(
                f"{type(self).__name__} cannot be read ({one_line(error)}): delete {files}, and the next run downloads it again"
            ) from error
