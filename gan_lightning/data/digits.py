"""The handwritten digits that scikit-learn ships: nothing to download."""

import functools

import torch

from gan_lightning.data.base import ImageDataModule, Images, Split


class Digits(ImageDataModule):
    """1,797 handwritten digits of 8x8 pixels in 17 grey levels (Alpaydin and Kaynak 1998), ``sklearn.datasets.load_digits``.

    A fixed, stratified fifth is the test split. The arguments are those of :class:`ImageDataModule`; ``root`` is not used.
    """

    image_shape = (1, 8, 8)
    class_names = tuple("0123456789")
    extractor = "classifier"

    def images(self, split: Split) -> Images:
        return _split(split)


@functools.cache
def _split(split: Split) -> Images:
    from sklearn.datasets import load_digits  # takes half a second: other data sets need not wait for it
    from sklearn.model_selection import train_test_split

    levels, targets = load_digits(return_X_y=True)  # (1797, 64), 0 to 16
    images = torch.from_numpy(levels).mul(255 / 16).round().to(torch.uint8).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(targets).long()
    train, test = train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=targets)
    chosen = torch.tensor(train if split == "train" else test)
    return images[chosen], labels[chosen]
