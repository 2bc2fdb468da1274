"""Compute the statistics of real images."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from gan_lightning.commands.common.devices import process_group
from gan_lightning.commands.common.real_images import extractor_name, folder_shape, make_data, real_images
from gan_lightning.commands.common.records import versions
from gan_lightning.errors import InputError
from gan_lightning.measure import cache_folder, make_extractor, reference
from gan_lightning.metrics.statistics import write_npz
from gan_lightning.training.distributed import is_first_process


def compute(config: Namespace, groups: Sequence[Sequence[str]]) -> None:
    """Compute the statistics, cache them, and write the .npz.

    Args:
        config: the flags; ``data`` becomes the data set itself.
        groups: the same flags as words, for the arguments of the data's class.
    """
    config.data = make_data(groups)
    shape = config.data.image_shape if config.real is None else folder_shape(config.real, config.image_size)
    with process_group(config.accelerator) as device:
        first = is_first_process()
        real = real_images(config, shape, needed=True)
        assert real is not None
        extractor = make_extractor(extractor_name(config), config.data, config.inception_weights, device, progress=first)
        statistics, about = reference(real, extractor, config.features, config.batch_size, first)
        if statistics is None:
            return
        if config.output is not None:
            try:
                content = {**about, "versions": versions(), "class_counts": real.class_counts()}
                write_npz(Path(config.output), statistics, content)
            except OSError as error:
                raise InputError(f"--output {config.output}: cannot be written ({error.strerror})") from error
        print(f"{about['num_real']:,} images of {about['real']}: mu and sigma of {len(statistics.mean)} features")
        print(f"  cache: {cache_folder()}")
        if config.output is not None:
            print(f"  written: {config.output}")
