"""Image data modules, one kind of source per file."""

from gan_lightning.data.base import ImageDataModule, Split
from gan_lightning.data.celeba import CelebA
from gan_lightning.data.cifar10 import CIFAR10, CIFAR100
from gan_lightning.data.decoded import DecodedImages
from gan_lightning.data.degradations import Degradation, Downscale, Edges, Grey, Hole, TurnedNegative
from gan_lightning.data.derived import Derived
from gan_lightning.data.digits import Digits
from gan_lightning.data.folder import ImageFolder
from gan_lightning.data.hub import HubDataset
from gan_lightning.data.mnist import MNIST, FashionMNIST
from gan_lightning.data.paired_folders import PairedFolders
from gan_lightning.data.stacked_mnist import StackedMNIST
from gan_lightning.data.stl10 import STL10
from gan_lightning.data.translation import TranslationDataModule
from gan_lightning.data.unpaired_folders import UnpairedFolders

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "STL10",
    "CelebA",
    "DecodedImages",
    "Degradation",
    "Derived",
    "Digits",
    "Downscale",
    "Edges",
    "FashionMNIST",
    "Grey",
    "Hole",
    "HubDataset",
    "ImageDataModule",
    "ImageFolder",
    "PairedFolders",
    "Split",
    "StackedMNIST",
    "TranslationDataModule",
    "TurnedNegative",
    "UnpairedFolders",
]
