"""Base of the data sets that torchvision reads and downloads."""

from abc import abstractmethod
from typing import Any
from urllib.error import URLError

from lightning.pytorch.utilities import rank_zero_info

from gan_lightning.data.base import ImageDataModule, Images, Split
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

    def _open(self, split: Split) -> Any:
        """Open torchvision's data set.

        Raises:
            FileNotFoundError: its files are missing or, for CIFAR-10, have another checksum.
            InputError: its files are damaged.
        """
        try:
            return self.dataset_class(str(self.root), train=split == "train")
        except (RuntimeError, ValueError, AssertionError, EOFError, IndexError, OSError) as error:
            if str(error).startswith("Dataset not found"):
                raise FileNotFoundError(str(error)) from error
            raise InputError(
                f"{type(self).__name__} has a damaged or unreadable file in {self.root} ({one_line(error)}): delete it, and "
                "the next run downloads it again"
            ) from error
