"""Generators and discriminators, one family per file."""

from gan_lightning.networks.base import Discriminator, Generator
from gan_lightning.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lightning.networks.dropout_conv import DropoutConvDiscriminator
from gan_lightning.networks.fastgan import FastGANGenerator
from gan_lightning.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_lightning.networks.projected import ProjectedDiscriminator, VisionAidedDiscriminator
from gan_lightning.networks.r3gan import R3GANDiscriminator, R3GANGenerator
from gan_lightning.networks.resnet import ResNetDiscriminator, ResNetGenerator

__all__ = [
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Discriminator",
    "DropoutConvDiscriminator",
    "FastGANGenerator",
    "Generator",
    "MLPDiscriminator",
    "MLPGenerator",
    "ProjectedDiscriminator",
    "R3GANDiscriminator",
    "R3GANGenerator",
    "ResNetDiscriminator",
    "ResNetGenerator",
    "VisionAidedDiscriminator",
]
