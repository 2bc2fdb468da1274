"""MNIST (LeCun et al. 1998), and Fashion-MNIST (Xiao et al. 2017) in the same format."""

from collections.abc import Iterator
from pathlib import Path

from torchvision import datasets
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor
from torchvision.datasets.utils import check_integrity

from gan_lightning.data.base import Images, Split
from gan_lightning.data.torchvision_source import TorchvisionSource


class MNIST(TorchvisionSource):
    """70,000 handwritten digits of 28x28 pixels, 10,000 of them the test split. Arguments as ``ImageDataModule``."""

    image_shape: tuple[int, int, int] = (1, 28, 28)
    class_names: tuple[str, ...] = tuple("0123456789")
    extractor = "classifier"
    dataset_class = datasets.MNIST
    files = "the four original files (train-images-idx3-ubyte.gz ...) in MNIST/raw"

    def _convert(self, split: Split) -> Images:
        dataset = self._open(split)
        return dataset.data.unsqueeze(1), dataset.targets.long()  # (N, 1, 28, 28), (N,)

    def _checks(self) -> Iterator[tuple[Path, bool]]:
        folder = Path(self.root, self.dataset_class.__name__, "raw")
        for name, checksum in self.dataset_class.resources:
            packed = folder / name
            yield packed, check_integrity(packed, checksum)
            yield packed.with_suffix(""), _is_idx(packed.with_suffix(""))


def _is_idx(path: Path) -> bool:
    """Tell if a file holds as many values as its header says."""
    try:
        read_sn3_pascalvincent_tensor(str(path))
    except (OSError, AssertionError, KeyError, IndexError, RuntimeError, ValueError):
        return False
    return True


class FashionMNIST(MNIST):
    """70,000 articles of clothing of 28x28 pixels, 10,000 of them the test split. Arguments as ``ImageDataModule``."""

    class_names = tuple(datasets.FashionMNIST.classes)
    dataset_class = datasets.FashionMNIST
    files = "the four original files (train-images-idx3-ubyte.gz ...) in FashionMNIST/raw"
