"""Callbacks of training, one per file."""

from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.callbacks.generative_metrics import GenerativeMetrics
from gan_lightning.callbacks.health_monitor import HealthMonitor
from gan_lightning.callbacks.image_grid import ImageGrid
from gan_lightning.callbacks.model_summary import ModelSummary
from gan_lightning.callbacks.progress_bar import ProgressBar
from gan_lightning.callbacks.schedules import Schedules
from gan_lightning.callbacks.stop_signals import StopSignals
from gan_lightning.callbacks.training_log import TrainingLog
from gan_lightning.callbacks.translation_grid import TranslationGrid
from gan_lightning.callbacks.translation_health import TranslationHealth
from gan_lightning.callbacks.translation_metrics import TranslationMetrics

__all__ = [
    "Checkpoints",
    "GenerativeMetrics",
    "HealthMonitor",
    "ImageGrid",
    "ModelSummary",
    "ProgressBar",
    "Schedules",
    "StopSignals",
    "TrainingLog",
    "TranslationGrid",
    "TranslationHealth",
    "TranslationMetrics",
]
