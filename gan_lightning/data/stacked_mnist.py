"""Stacked MNIST (Metz et al. 2017): three random digits as the channels of one image, for counting modes."""

from typing import ClassVar

import torch

from gan_lightning.data.base import ImageDataModule, Images, Split
from gan_lightning.data.mnist import MNIST


class StackedMNIST(MNIST):
    """Images (3, 28, 28) with a random digit of MNIST in each channel: 1000 modes, all equally frequent.

    The digits of an image are drawn with replacement from the same split of MNIST, with a fixed seed. There are 128,000 images
    for training and 26,000 for testing, the numbers of Lin et al. 2018. Labels are the three digits as one number, red first.
    Arguments as :class:`ImageDataModule`.
    """

    image_shape = (3, 28, 28)
    class_names = tuple(f"{number:03d}" for number in range(1000))
    sizes: ClassVar[dict[Split, int]] = {"train": 128_000, "test": 26_000}

    @property
    def classifier_source(self) -> ImageDataModule:
        """MNIST itself: its classifier names the digit of each channel."""
        return MNIST(self.root)

    def _convert(self, split: Split) -> Images:
        digits, labels = super()._convert(split)
        assert labels is not None
        random = torch.Generator().manual_seed(("train", "test").index(split))
        chosen = torch.randint(len(digits), (self.sizes[split], 3), generator=random)
        return digits[chosen].squeeze(2), (labels[chosen] * torch.tensor([100, 10, 1])).sum(1)
