"""MNIST (LeCun et al. 1998), and Fashion-MNIST (Xiao et al. 2017) in the same format."""

from torchvision import datasets

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


class FashionMNIST(MNIST):
    """70,000 articles of clothing of 28x28 pixels, 10,000 of them the test split. Arguments as ``ImageDataModule``."""

    class_names = tuple(datasets.FashionMNIST.classes)
    dataset_class = datasets.FashionMNIST
    files = "the four original files (train-images-idx3-ubyte.gz ...) in FashionMNIST/raw"
