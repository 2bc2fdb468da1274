"""Generators and discriminators: one family a file."""

from gan_lightning.networks.base import Discriminator, Generator
from gan_lightning.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lightning.networks.dropout_conv import DropoutConvDiscriminator
from gan_lightning.networks.mlp import MLPDiscriminator, MLPGenerator

__all__ = [
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Discriminator",
    "DropoutConvDiscriminator",
    "Generator",
    "MLPDiscriminator",
    "MLPGenerator",
]
