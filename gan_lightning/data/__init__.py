"""Image data modules, one kind of source per file."""

from gan_lightning.data.base import ImageDataModule, Split
from gan_lightning.data.cifar10 import CIFAR10
from gan_lightning.data.digits import Digits
from gan_lightning.data.folder import ImageFolder
from gan_lightning.data.mnist import MNIST, FashionMNIST
from gan_lightning.data.stacked_mnist import StackedMNIST

__all__ = ["CIFAR10", "MNIST", "Digits", "FashionMNIST", "ImageDataModule", "ImageFolder", "Split", "StackedMNIST"]
