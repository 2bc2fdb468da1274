"""Blocks that several families share."""

import torch
from torch import Tensor, nn


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
