"""CIFAR-10 (Krizhevsky 2009)."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from gan_lightning.data.base import Images, Split
from gan_lightning.data.torchvision_source import TorchvisionSource


class CIFAR10(TorchvisionSource):
    """60,000 colour images of 32x32 pixels in ten classes, 10,000 of them the test split. Arguments as ``ImageDataModule``."""

    image_shape = (3, 32, 32)
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    dataset_class = datasets.CIFAR10
    files = "the original cifar-10-python.tar.gz, or its content cifar-10-batches-py,"

    def _convert(self, split: Split) -> Images:
        dataset = self._open(split)
        images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()  # (N, 3, 32, 32)
        return images, torch.tensor(dataset.targets)

    def _checks(self) -> Iterator[tuple[Path, bool]]:
        about = self.dataset_class
        archive, folder = Path(self.root, about.filename), Path(self.root, about.base_folder)
        yield archive, check_integrity(archive, about.tgz_md5)
        for name, checksum in [*about.train_list, *about.test_list, (about.meta["filename"], about.meta["md5"])]:
            yield folder / name, check_integrity(folder / name, checksum)
