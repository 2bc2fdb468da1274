"""Blocks that several families share."""

import torch
from torch import Tensor, nn

from gan_lightning.errors import InputError


class LabelEmbedding(nn.Module):
    """Concatenates an embedding of the labels to features: the conditioning of Mirza and Osindero 2014.

    Args:
        num_classes: how many classes there are.
        dim: the dimension of the embedding; it is at most ``num_classes``, beyond which it adds nothing.
    """

    def __init__(self, num_classes: int, dim: int = 64) -> None:
        super().__init__()
        self.dim = min(dim, num_classes)
        self.embedding = nn.Embedding(num_classes, self.dim)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Features (B, F) and labels (B,) to (B, F + dim).

        Raises:
            ValueError: a conditional network was called without labels.
        """
        if labels is None:
            raise ValueError("a conditional network needs labels, and got None")
        return torch.cat([features, self.embedding(labels)], dim=1)


def dropout(probability: float) -> nn.Dropout:
    """Dropout with a probability in [0, 1).

    Raises:
        InputError: it lies elsewhere.
    """
    if not 0.0 <= probability < 1.0:
        raise InputError(f"dropout is {probability}: give a probability from 0 to below 1")
    return nn.Dropout(probability)


class LogitHead(nn.Module):
    """The last features of a discriminator to logits: one linear layer.

    Where conditional, an embedding of the label is concatenated to the features, and a hidden layer comes first (as in
    Mirza and Osindero 2014, section 4.1): a linear layer alone would add a term of the label to one of the image, and
    could not tell whether the two belong together.

    Args:
        features: the dimension of the features.
        num_classes: how many classes there are.
        conditional: whether the labels are looked at.
        hidden: width of the hidden layer.
    """

    def __init__(self, features: int, num_classes: int, conditional: bool, hidden: int = 256) -> None:
        super().__init__()
        self.label_embedding = LabelEmbedding(num_classes) if conditional else None
        self.layers = nn.Sequential(nn.Linear(features, 1))
        if self.label_embedding is not None:
            joint = features + self.label_embedding.dim
            self.layers = nn.Sequential(nn.Linear(joint, hidden), nn.LeakyReLU(0.2, inplace=True), nn.Linear(hidden, 1))

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Features (B, F) and labels (B,) to logits (B,)."""
        if self.label_embedding is not None:
            features = self.label_embedding(features, labels)
        logits: Tensor = self.layers(features).squeeze(1)
        return logits
