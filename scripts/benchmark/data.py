"""Compare the ways to read batches of training images from a folder of photographs.

python scripts/benchmark/data.py --num_images 1000 --side 500 --image_size 64

The photographs are crops of the two of scikit-learn, enlarged or reduced to ``--side`` pixels.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import torch
import torchvision
from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeInt, PositiveInt
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2
from tqdm import tqdm

import command_line
from gan_lightning.commands.common.arguments import arrange, parse
from gan_lightning.commands.common.exit_codes import run_command
from gan_lightning.data import ImageFolder, image_file
from gan_lightning.data.loaders import ImageLoader

SMALLEST = 200  # pixels of a photograph that a crop shows
Figures = dict[str, dict[str, list[float]]]
"""Way -> ``seconds`` and ``cpu_seconds`` of an image, of each round."""


def main(args: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 0, or 2 for bad input."""
    return run_command("benchmark/data.py", lambda: benchmark(list(sys.argv[1:] if args is None else args)))


def make_parser() -> ArgumentParser:
    """Make the parser of all flags."""
    parser = command_line.make_parser("benchmark/data.py", "Compare the ways to read batches of photographs.")
    parser.add_argument("--num_images", type=PositiveInt, default=1000, help="number of JPEGs, and of images of an epoch")
    parser.add_argument("--side", type=PositiveInt, default=500, help="longer side of a JPEG, in pixels")
    parser.add_argument(
        "--image_size", type=PositiveInt, default=64, help="height and width of the images of a batch, in pixels"
    )
    parser.add_argument("--batch_size", type=PositiveInt, default=50, help="images of a batch")
    parser.add_argument("--num_workers", type=NonNegativeInt, default=2, help="processes that decode")
    command_line.add_rounds(parser)
    return parser


def benchmark(args: Sequence[str]) -> None:
    """Check the flags, time each way alternately, and print the table."""
    config = parse(make_parser(), arrange(args))
    command_line.check_output(config)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GAN_LIGHTNING_DATA"] = str(Path(folder, "data"))  # of the packs
        root = Path(folder, "photos")
        write_photos(root, config.num_images, config.side)
        figures = compare(root, config.image_size, config.batch_size, config.num_workers, config.rounds)
    command_line.finish(config, figures, table(figures))


def write_photos(root: Path, count: int, side: int) -> None:
    """Write JPEGs of two classes: crops of two photographs, in any shape from 3:4 to 4:3."""
    random = numpy.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for i in tqdm(range(count), desc="Writing photographs"):
        photo, folder = photos[i % 2], root / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        width, height = (int(extent) for extent in random.integers(SMALLEST * 3 // 2, SMALLEST * 2, 2))
        left, top = int(random.integers(0, photo.width - width)), int(random.integers(0, photo.height - height))
        scale = side / max(width, height)
        crop = photo.crop((left, top, left + width, top + height))
        crop.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS).save(
            folder / f"{i}.jpg", quality=90
        )


def compare(root: Path, size: int, batch_size: int, num_workers: int, rounds: int) -> Figures:
    """Time one epoch of each way, alternately."""
    ways = make_ways(root, size, batch_size, num_workers)
    figures: Figures = {way: {"seconds": [], "cpu_seconds": []} for way in ways}
    for number in tqdm(range(rounds + 1), desc="Rounds, the first untimed"):
        for way, read in ways.items():
            begun, cpu = time.perf_counter(), cpu_seconds()
            count = sum(len(images) for images in read())
            seconds, own = (time.perf_counter() - begun) / count, (cpu_seconds() - cpu) / count
            if number:
                figures[way]["seconds"].append(seconds)
                figures[way]["cpu_seconds"].append(own)
    return figures


def cpu_seconds() -> float:
    """Time of all cores in this process and in its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def make_ways(root: Path, size: int, batch_size: int, num_workers: int) -> dict[str, Callable[[], Iterator[Tensor]]]:
    """Make a function for each way to read the images. It yields the batches of an epoch, and ends its processes."""

    def ours(**arguments: Any) -> Iterator[Tensor]:
        loader = train_loader(ImageFolder(root, size, batch_size=batch_size, num_workers=num_workers, **arguments))
        return (images for images, _ in loader)

    def whole_jpegs() -> Iterator[Tensor]:
        with without_draft():
            yield from ours(max_bytes_on_device=0, pack=False)

    def torchvision_of(dataset: "Dataset[Any]") -> Iterator[Tensor]:
        loader: DataLoader[Any] = DataLoader(dataset, batch_size, shuffle=True, num_workers=num_workers, drop_last=True)
        return (images for images, _ in loader)

    fit = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size)])
    plain = torchvision.datasets.ImageFolder(str(root), v2.Compose([fit, v2.PILToTensor()]))
    return {
        "device": ours,
        "pack": lambda: ours(max_bytes_on_device=0),
        "workers": lambda: ours(max_bytes_on_device=0, pack=False),
        "workers, JPEGs decoded whole": whole_jpegs,
        "torchvision's decode_jpeg, DataLoader": lambda: torchvision_of(Jpegs(root, fit)),
        "torchvision's ImageFolder, DataLoader": lambda: torchvision_of(plain),
    }


def train_loader(data: ImageFolder) -> ImageLoader:
    """Make the loader of a training on the CPU."""
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")), lightning_module=None, global_rank=0, world_size=1
    )
    data.trainer = trainer
    data.prepare_data()
    return data.train_dataloader()


@contextmanager
def without_draft() -> Iterator[None]:
    """Decode every pixel of JPEGs within the block."""
    usual = image_file.DRAFT
    image_file.DRAFT = float("inf")
    try:
        yield
    finally:
        image_file.DRAFT = usual


class Jpegs(Dataset[tuple[Tensor, int]]):
    """Images decoded by torchvision into tensors, and resized and cropped there."""

    def __init__(self, root: Path, fit: Callable[[Tensor], Tensor]) -> None:
        self.paths, self.fit = sorted(root.rglob("*.jpg")), fit

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.fit(decode_jpeg(read_file(str(self.paths[index])), ImageReadMode.RGB)), 0


def table(figures: Figures) -> str:
    """A Markdown table: medians, with minimum and maximum."""
    lines = ["| way | images a second | ms of a core, an image |", "|---|---|---|"]
    for way, values in figures.items():
        speeds = [1 / seconds for seconds in values["seconds"]]
        cpu = [1000 * seconds for seconds in values["cpu_seconds"]]
        cells = (f"{_shown(statistics.median(each))} ({_shown(min(each))} to {_shown(max(each))})" for each in (speeds, cpu))
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
