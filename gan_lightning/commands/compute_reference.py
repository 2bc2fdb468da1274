"""Compute the statistics of real images alone: into the cache, and as an .npz for other programs or machines.

python scripts/compute_reference.py --data CIFAR10 --output cifar10.npz
python scripts/compute_reference.py --real my_photos --image_size 64 --features
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from gan_lightning.commands.arguments import arrange, given, instantiate, parse, run_command
from gan_lightning.commands.real_images import add_real_images, check_numbers, extractor_name, folder_shape, real_images
from gan_lightning.commands.records import process_group, require_writable, versions
from gan_lightning.errors import InputError
from gan_lightning.measure import cache_folder, make_extractor, reference
from gan_lightning.metrics.evaluator import is_first_process
from gan_lightning.metrics.statistics import write_npz


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 for bad input."""
    sys.path.append(str(Path.cwd()))  # classes of one's own are named by module and class
    return run_command("compute_reference", lambda: compute_reference(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """All that can be said on the command line."""
    parser = ArgumentParser(
        prog="compute_reference",
        description="Compute the statistics of real images, which evaluate.py and training then find in the cache.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    add_real_images(parser)
    parser.add_argument("--features", action="store_true", help="keep features too, for kid and prdc")
    parser.add_argument("--output", type=str | None, help="also write mu and sigma to this .npz")
    return parser


def compute_reference(args: Sequence[str]) -> None:
    """Compute, cache, and write what was asked for."""
    parser = make_parser()
    groups = arrange(args)
    config = instantiate(parser, parse(parser, groups))
    check_numbers(config)
    if config.output is not None and not config.output.endswith(".npz"):
        raise InputError(f"--output {config.output}: the name must end in .npz")
    if config.output is not None:
        require_writable(Path(config.output))
    if config.real is None and config.data is None:
        raise InputError("name the real images, by one of --data and --real")
    if config.real is not None and config.data is not None and config.extractor != "classifier":
        raise InputError(f"--real {config.real} and --data: give one of them (both only with --extractor classifier)")
    if config.real is not None and given(groups, "split") is not None:
        raise InputError(f"--split {config.split}: only --data has splits, and not --real {config.real}")
    if config.real is None and config.image_size is not None:
        raise InputError(f"--image_size {config.image_size}: only for the folder of --real")
    shape = config.data.image_shape if config.real is None else folder_shape(config.real, config.image_size)
    with process_group(config.device) as device:
        first = is_first_process()
        real = real_images(config, shape, needed=True)
        assert real is not None
        extractor = make_extractor(extractor_name(config), config.data, config.weights, device, progress=first)
        statistics, about = reference(real, extractor, config.num_real, config.features, config.batch_size, first)
        if statistics is None:
            return
        print(f"{about['num_real']:,} images of {about['real']}: mu and sigma of {len(statistics.mean)} features")
        print(f"  cache: {cache_folder()}")
        if config.output is not None:
            try:
                content = {**about, "versions": versions(), "class_counts": real.class_counts()}
                write_npz(Path(config.output), statistics, content)
            except OSError as error:
                raise InputError(f"--output {config.output}: cannot be written ({error.strerror})") from error
            print(f"  written: {config.output}")
