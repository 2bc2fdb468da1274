"""Measure the translations of a checkpoint against the targets of its data, next to its baselines."""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from jsonargparse import Namespace

from gan_lightning.commands.common.arguments import given
from gan_lightning.commands.common.generators import load_translator
from gan_lightning.commands.common.records import timed, versions
from gan_lightning.data.translation import TranslationDataModule
from gan_lightning.errors import InputError
from gan_lightning.image_translator import ImageTranslator
from gan_lightning.images import size_text
from gan_lightning.metrics.translation import INVERSE, TranslationMeasurement
from gan_lightning.training.distributed import is_first_process, on_first_process, world_size


def settle(config: Namespace, groups: Sequence[Sequence[str]]) -> None:
    """Refuse the flags that are for generators of samples, and set the defaults of translations.

    Raises:
        InputError: one of them is given.
    """
    for flag in ("seed", "real", "reference"):
        if (value := given(groups, flag)) is not None:
            raise InputError(f"--{flag} {value}: {config.source} translates the images of --data, so remove the flag")
    for flag, default in {"metrics": None, "num_images": None, "split": "test"}.items():
        if given(groups, flag) is None:
            config[flag] = default


def measure(config: Namespace, device: torch.device, method: str) -> dict[str, Any] | None:
    """Measure a checkpoint of this method, and return the record; None in all processes except the first."""
    seconds: dict[str, float] = {}
    data = config.data
    with timed(seconds, "set_up"):
        loaded = load_translator(config.source, config, device)
        if not isinstance(data, TranslationDataModule):
            raise InputError(f"{config.source} needs sources and targets: add --data Derived, PairedFolders or UnpairedFolders")
        _check_shapes(config.source, loaded, data)
        on_first_process(data.prepare_data)
        measurement = TranslationMeasurement(
            data,
            device,
            config.extractor or data.extractor,
            config.metrics,
            config.split,
            config.num_images,
            config.num_real,
            inverse=loaded.inverse_generator is not None,
            inception_weights=config.inception_weights,
            batch_size=config.batch_size,
            progress=is_first_process(),
        )
        measurement.print_estimate("translations, and as many for each baseline")
    with timed(seconds, "reference"):
        measurement.prepare()
    with timed(seconds, "translations"):
        back = None if loaded.inverse_generator is None else partial(loaded.translate, direction="BtoA")
        values = measurement.measure(loaded.translate, back)
    with timed(seconds, "baselines"):
        baselines = measurement.baselines()
    if not is_first_process():
        return None
    return {
        "metrics": values,
        "baselines": baselines,
        "protocol": {
            **measurement.protocol(),
            **loaded.origin,
            "method": method,
            "batch_size": config.batch_size,
            "device": device.type,
            "processes": world_size(),
            "versions": {**versions(), "torchmetrics": version("torchmetrics")},
        },
        "seconds": {part: round(spent, 2) for part, spent in seconds.items()},
    }


def _check_shapes(source: str, loaded: ImageTranslator, data: TranslationDataModule) -> None:
    """Refuse data of other channels, or of another ratio of the sides, than the generator's. Other sizes are possible.

    Raises:
        InputError: the data do not fit.
    """
    generator = loaded.generator
    enlarged = (generator.factor * side for side in data.source_shape[1:])
    if (data.source_shape[0], *data.image_shape) != (generator.source_shape[0], generator.image_shape[0], *enlarged):
        own, theirs = (f"{size_text(has.source_shape)} to {size_text(has.image_shape)}" for has in (generator, data))
        raise InputError(f"{source} translates images of {own}, but those of the data are {theirs}: add --data of that kind")


def print_table(record: Mapping[str, Any]) -> None:
    """Print one row for the model and one for each baseline, and the main facts of the protocol."""
    rows = {"model": record["metrics"], **record["baselines"]}
    names = [name for name in record["metrics"] if not name.endswith("_std")]
    width = max(map(len, rows)) + 2
    for prefix, title in (("", ""), (INVERSE, "back, from targets to sources")):
        own = [name for name in names if name.startswith(INVERSE) == bool(prefix)]
        if not own:
            continue
        print(f"\n  {title}" if title else "")
        columns = {name: max(10, len(name.removeprefix(prefix))) for name in own}
        print("  " + " " * width + "  ".join(f"{name.removeprefix(prefix):>{columns[name]}}" for name in own))
        for row, values in rows.items():
            if not set(own) & set(values):  # known in the other direction only
                continue
            cells = (f"{f'{values[name]:.5g}' if name in values else '-':>{columns[name]}}" for name in own)
            print(f"  {row:<{width}}" + "  ".join(cells))
    about = record["protocol"]
    print(
        f"  {about['num_images']:,} images of {about['checkpoint']} ({about['weights']} weights, step {about['global_step']})"
    )
    print(f"  from {about['real']} ({about['split']} split)")
    print(f"  extractor: {about['extractor']}, weights {about.get('weights_sha256', 'none')[:12]}")
