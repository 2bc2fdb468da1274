"""A short summary of the networks before training."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary as LightningModelSummary


class ModelSummary(LightningModelSummary):
    """Prints the networks and their numbers of parameters. Lightning's table also has FLOPs, but they are all zero."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for name, module in pl_module.named_children():
            if count := sum(parameter.numel() for parameter in module.parameters()):
                print(f"  {name:<18}{type(module).__name__}, {count:,} parameters", flush=True)
