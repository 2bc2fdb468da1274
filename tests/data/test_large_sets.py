"""Sets of 200,000 images: what they take of the memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
COUNT, SIZE = 200_000, 64
EXTRACTOR = '''
import torch

class Means(torch.nn.Module):
    """Features of 48 parts of an image."""

    def forward(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images.float(), 4).flatten(1)
'''
PEAK = "import resource, sys; print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
MEASURE = f"""
import sys
from gan_lightning.commands.verbs import Verb
code = Verb.compute_reference.main(sys.argv[1:])
{PEAK}
sys.exit(code)
"""
EPOCH = f"""
import resource, sys, time
import torch
from types import SimpleNamespace
from gan_lightning.data import ImageFolder
data = ImageFolder(sys.argv[1], 64, batch_size=64, max_bytes_on_device=0)
data.trainer = SimpleNamespace(
    strategy=SimpleNamespace(root_device=torch.device("cpu")), lightning_module=None, global_rank=0, world_size=1
)
data.prepare_data()
loader = data.train_dataloader()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
begun, total, seen = time.perf_counter(), 0, []
for number, (images, _) in enumerate(loader):
    total += len(images)
    if number % 100 == 10:
        seen.append(resident())
print("EPOCH", total, total / (time.perf_counter() - begun), min(seen), max(seen))
{PEAK}
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """200,000 images in a few folders: links to a thousand files, because the number matters here and not the content."""
    kinds, root = tmp_path / "kinds", tmp_path / "photos"
    kinds.mkdir()
    for i in range(1000):
        write_ppm(kinds / f"{i}.ppm", i)
    for i in range(COUNT):
        if i % 10_000 == 0:
            (root / f"{i:06}").mkdir(parents=True)
        (root / f"{i - i % 10_000:06}" / f"{i}.ppm").hardlink_to(kinds / f"{i % 1000}.ppm")
    return root


def write_ppm(path: Path, seed: int) -> None:
    """Write an image that is decoded fast."""
    pixels = numpy.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=numpy.uint8)
    path.write_bytes(b"P6 %d %d 255\n" % (SIZE, SIZE) + pixels.tobytes())


def run(program: str, *args: str) -> list[str]:
    """Run a program, and return its words after PEAK."""
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    return done.stdout.split()


def peak(words: list[str]) -> int:
    """Largest resident memory in bytes."""
    return int(words[words.index("PEAK") + 1]) * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("source", ["data", "data without a pack", "real", "array"])
def test_statistics_of_200_000_images_stay_below_2_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "means.py").write_text(EXTRACTOR)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{SCRIPTS.parent}")
    flags = ["--extractor", "means.Means", "--accelerator", "cpu", "--output", "reference.npz", "--batch_size", "500"]
    if source == "array":
        with Path("images.npy").open("wb") as file:
            about = {"descr": "|u1", "fortran_order": False, "shape": (COUNT, 3, SIZE, SIZE)}
            numpy.lib.format.write_array_header_1_0(file, about)
            for i in range(COUNT // 1000):
                file.write(numpy.random.default_rng(i).integers(0, 256, (1000, 3, SIZE, SIZE), dtype=numpy.uint8).tobytes())
        flags += ["--real", "images.npy"]
    else:
        photos = str(request.getfixturevalue("photos"))
        flags += ["--real", photos] if source == "real" else ["--data", "ImageFolder", "--data.root", photos]
        if source == "data without a pack":
            flags += ["--data.pack", "false", "--data.max_bytes_on_device", "1000000000"]
    taken = peak(run(MEASURE, *flags))
    assert taken < 2e9
    with numpy.load("reference.npz") as reference:
        counted = json.loads(str(reference["protocol"]))["num_real"]
    assert counted >= COUNT * 0.89  # a tenth of a folder is held out


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_memory_is_flat_over_an_epoch_of_200_000_images(photos: Path) -> None:
    """The pages of the pack leave this process after each batch, and only the system's cache keeps them."""
    words = run(EPOCH, str(photos))
    at = words.index("EPOCH") + 1
    total, _, least, most = (float(word) for word in words[at : at + 4])
    assert total > COUNT * 0.89
    assert most - least < 50e6
    assert peak(words) < 1.5e9
