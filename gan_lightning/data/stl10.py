"""STL-10 (Coates et al. 2011)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from gan_lightning.data.base import Images, Split
from gan_lightning.data.crops import height_and_width
from gan_lightning.data.decoding import room_for
from gan_lightning.data.image_file import fitted
from gan_lightning.data.torchvision_source import TorchvisionSource

SIDE = 96  # pixels


class STL10(TorchvisionSource):
    """113,000 colour images of 96x96 pixels: 5,000 to train on, 8,000 to test, both of ten classes, and 100,000 without labels.

    Args:
        root: folder of the data; None is $GAN_LIGHTNING_DATA, else ~/.cache/gan_lightning/data.
        image_size: height and width of the images, in pixels; other sizes than 96 are resized.
        unlabeled: train also on the images without labels, as most papers on GANs do. Then there are no classes. They take
            2.9 GB at 96 pixels.
        **arguments: arguments of :class:`ImageDataModule`.
    """

    classes = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    dataset_class = datasets.STL10
    files = "the original stl10_binary.tar.gz, or its content stl10_binary,"

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        image_size: int | tuple[int, int] | str = SIDE,
        unlabeled: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__(root, **arguments)
        self.image_shape = (3, *height_and_width(image_size, "data.image_size"))
        self.unlabeled = unlabeled
        self.class_names = () if unlabeled else self.classes

    def _arguments(self, split: Split) -> dict[str, Any]:
        return {"split": "train+unlabeled" if self.unlabeled and split == "train" else split}

    def _convert(self, split: Split) -> Images:
        dataset = self._open(split)
        images = torch.from_numpy(dataset.data).contiguous()  # (N, 3, 96, 96)
        if self.image_shape[1:] != (SIDE, SIDE):
            originals, images = images, room_for(len(images), self.image_shape)
            for i, image in enumerate(originals):
                images[i] = fitted(Image.fromarray(image.permute(1, 2, 0).numpy()), self.image_shape)
        return images, None if self.unlabeled else torch.from_numpy(dataset.labels).long()

    def _checks(self) -> Iterator[tuple[Path, bool]]:
        about = self.dataset_class
        archive = Path(self.root, about.filename)
        yield archive, check_integrity(archive, about.tgz_md5)
        for name, checksum in [*about.train_list, *about.test_list]:
            path = Path(self.root, about.base_folder, name)
            yield path, check_integrity(path, checksum)
