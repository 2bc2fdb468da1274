"""Compute the statistics of real images."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from gan_lightning.commands.common.devices import process_group
from gan_lightning.commands.common.real_images import make_data, make_measurement, real_images
from gan_lightning.commands.common.records import versions
from gan_lightning.errors import InputError
from gan_lightning.metrics.measurement import cache_folder
from gan_lightning.metrics.statistics import write_npz


def compute(config: Namespace, groups: Sequence[Sequence[str]]) -> None:
    """Compute the statistics, cache them, and write the .npz.

    Args:
        config: the flags; ``data`` becomes the data set itself.
        groups: the same flags as words, for the arguments of the data's class.
    """
    config.data = make_data(groups)
    with process_group(config.accelerator) as device:
        real = real_images(config)
        fields = ["mean", "covariance", *(["features"] if config.features else [])]
        measurement = make_measurement(config, real, real.image_shape, device, fields=fields)
        measurement.prepare()
        statistics, about = measurement.reference, measurement.about
        if statistics is None:
            return
        if config.output is not None:
            try:
                content = {**about, "versions": versions(), "class_counts": real.class_counts}
                write_npz(Path(config.output), statistics, content)
            except OSError as error:
                raise InputError(f"--output {config.output} cannot be written ({error.strerror}): use another path") from error
        print(f"{about['num_real']:,} images of {about['real']}: mu and sigma of {len(statistics.mean)} features")
        print(f"  cache: {cache_folder()}")
        if config.output is not None:
            print(f"  written: {config.output}")
