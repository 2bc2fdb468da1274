"""A short summary of the networks before training."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary as LightningModelSummary


class ModelSummary(LightningModelSummary):
    """Prints the networks and their numbers of parameters. Lightning's table also has FLOPs, but they are all zero."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        counts = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in pl_module.named_children()}
        wide = max(18, *(len(name) + 2 for name in counts))
        for name, module in pl_module.named_children():
            if counts[name]:
                print(f"  {name:<{wide}}{type(module).__name__}, {counts[name]:,} parameters", flush=True)
