"""The commands: one folder each, listed in :mod:`gan_lightning.commands.verbs`."""
