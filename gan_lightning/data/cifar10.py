"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009)."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from gan_lightning.data.base import Images, Split
from gan_lightning.data.torchvision_source import TorchvisionSource

HUNDRED = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""
"""Classes of CIFAR-100."""


class CIFAR10(TorchvisionSource):
    """60,000 colour images of 32x32 pixels in ten classes, 10,000 of them the test split. Arguments as ``ImageDataModule``."""

    image_shape = (3, 32, 32)
    class_names: tuple[str, ...] = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
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


class CIFAR100(CIFAR10):
    """60,000 colour images of 32x32 pixels in a hundred classes, 10,000 of them the test split. Arguments as for CIFAR-10."""

    class_names = tuple(HUNDRED.split())
    dataset_class = datasets.CIFAR100
    files = "the original cifar-100-python.tar.gz, or its content cifar-100-python,"
