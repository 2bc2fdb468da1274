"""Random files and flags: a clear error or a right result, never a traceback, a hang or a wrong image."""

import contextlib
import io
import shutil
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import numpy
import pytest
import torch
from hypothesis import HealthCheck
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

import gan_lightning
from gan_lightning.commands.common.arguments import instantiate
from gan_lightning.commands.common.recipes import recipes
from gan_lightning.commands.train.settings import settings
from gan_lightning.commands.verbs import Verb
from gan_lightning.data import ImageFolder
from gan_lightning.errors import InputError
from tests.faults import often
from tests.helpers import write_mnist

make_parser = Verb.train.make_parser

Record = Callable[[str, object], None]
T = TypeVar("T")


def fuzz(times: int) -> hypothesis.settings:
    """Use a fixed set of so many examples."""
    return hypothesis.settings(
        max_examples=often(times), derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


def report(record: Record, fault: str, tried: int) -> None:
    """Record a line of the table; a test that gets this far has lost nothing."""
    assert tried >= 10, tried
    for name, value in {"fault": fault, "tried": tried, "survived": tried, "lost": "nothing"}.items():
        record(name, value)


def outcome(act: Callable[[], T]) -> T | str:
    """Return the result of a call, or its error of one line."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            returned = act()
    except InputError as error:
        message = str(error)
    else:
        return returned
    assert message.strip()
    assert "\n" not in message
    return message


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, part: bytes | None = None) -> bytes:
    """Damage ``whole``: flip bits, cut its end, overwrite or remove a stretch; half of the time within ``part``."""
    place, length = draw(st.integers(0, len(whole) - 1)), draw(st.integers(1, 40))
    if part is not None and draw(st.booleans()):
        place = whole.index(part) + place % len(part)
    kind = draw(st.sampled_from(["flipped", "flipped", "cut", "overwritten", "left out"]))
    if kind == "flipped":
        content = bytearray(whole)
        for position in {place, *draw(st.lists(st.integers(0, len(whole) - 1), max_size=3))}:
            content[position] ^= 1 << draw(st.integers(0, 7))
        return bytes(content)
    if kind == "cut":
        return whole[:place]
    between = draw(st.binary(min_size=length, max_size=length)) if kind == "overwritten" else b""
    return whole[:place] + between + whole[place + length :]


@pytest.fixture
def checkpoint_path(tmp_path: Path, small_checkpoint: bytes) -> Path:
    path = tmp_path / "last.ckpt"
    path.write_bytes(small_checkpoint)
    return path


@pytest.mark.timeout(900)
def test_checkpoint_bytes(checkpoint_path: Path, record_property: Record) -> None:
    whole, sampler = checkpoint_path.read_bytes(), gan_lightning.load(checkpoint_path)
    right, weights = sampler.sample(4), sampler.generator.state_dict()["layers.0.weight"].numpy().tobytes()
    refused: list[bool] = []

    @fuzz(500)
    @hypothesis.given(damaged(whole, weights))
    def load(content: bytes) -> None:
        checkpoint_path.write_bytes(content)
        drawn = outcome(lambda: gan_lightning.load(checkpoint_path).sample(4))
        assert str(checkpoint_path) in drawn if isinstance(drawn, str) else torch.equal(drawn, right)
        refused.append(isinstance(drawn, str))

    load()
    assert 2 * sum(refused) > len(refused)  # a few bytes do not matter, such as a date in the zip
    report(record_property, "checkpoint bytes flipped or cut", len(refused))


@pytest.mark.timeout(900)
def test_checkpoint_pickles_with_valid_checksums(checkpoint_path: Path, record_property: Record) -> None:
    """They pass the checksums, so their maker controls the content: the result is images of the right kind, or one line."""
    with zipfile.ZipFile(checkpoint_path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in parts if name.endswith("data.pkl"))
    drawn: list[bool] = []

    @fuzz(500)
    @hypothesis.given(damaged(parts[pickled]))
    def load(content: bytes) -> None:
        with zipfile.ZipFile(checkpoint_path, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, content if name == pickled else part)
        images = outcome(lambda: gan_lightning.load(checkpoint_path).sample(4))
        assert isinstance(images, str) or (images.dtype, images.shape[0]) == (torch.uint8, 4)
        drawn.append(not isinstance(images, str))

    load()
    assert 0 < sum(drawn) < len(drawn)
    report(record_property, "checkpoint pickles damaged under right checksums", len(drawn))


NUMBERS = st.one_of(
    st.integers(-3, 70).map(str),
    st.floats(-10, 10).map(str),
    st.sampled_from(
        ["0", "-0", "-1", "1e-400", "1e400", "-1e400", "nan", ".nan", "inf", "-.inf", "1_000", "0x10", "0o17", "1e3"]
    ),
    st.integers(2**40, 2**200).map(str),
    st.integers(-(2**200), -(2**40)).map(str),
)
CLASSES = st.sampled_from(
    ["Digits", "MNIST", "ImageFolder", "MLPGenerator", "DCGANDiscriminator", "ResNetGenerator", "R3GANGenerator", "HingeLoss"]
    + ["AdversarialLoss", "R1", "WGANGP", "LeCam", "WeightClipping", "DiffAugment", "ADA", "LinearSchedule", "torch.optim.SGD"]
    + [
        "torch.optim.Adam",
        "torch.optim.LBFGS",
        "torch.nn.Linear",
        "gan_lightning.gan.GAN",
        "gan_lightning.losses",
        "no.such.Class",
    ]
    + [
        "os.system",
        "builtins.print",
        "lightning.pytorch.callbacks.ModelCheckpoint",
        "concatenation",
        "batch_norm",
        "projection",
    ]
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.sampled_from(
        ["", " ", "null", "true", "false", "None", "--", "-", "=", "'", '"', "a'b", "~", "!", "!!python/none", "&a", "*a"]
    )
    | st.sampled_from(
        ["@x", "%", "`", "\N{SNOWMAN}", "\n", "\t", ":", "a: b", "..", "/dev/null", "/", "x" * 300, "last", "auto"]
    ),
)
PLAIN = NUMBERS | CLASSES | TEXTS
VALUES = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=3).map(lambda items: f"[{','.join(items)}]"),
    st.lists(PLAIN, max_size=3).map(str),
    st.dictionaries(TEXTS, PLAIN, max_size=2).map(str),
    st.dictionaries(st.sampled_from(["class_path", "init_args", "lr", "hidden"]), PLAIN, max_size=2).map(str),
    st.tuples(CLASSES, TEXTS, PLAIN).map(lambda words: f"{{class_path: {words[0]}, init_args: {{{words[1]}: {words[2]}}}}}"),
    st.sampled_from(["[", "{", "}", "[]", "{}", "[[]]", "{a: {b: {c: [1]}}}", "[1", "{a", "[[1,2],[3]]", "[1,2,3,4,5]"]),
)


NETWORKS = ["model.generator", "model.discriminator"]
OPTIMIZERS = [f"{network}_optimizer" for network in NETWORKS]
MEASURED = [
    *("data.batch_size", "seed_everything", "model.discriminator_steps", "model.ema_halflife", "model.classification_weight"),
    *(
        "image_grid.rows",
        "image_grid.columns",
        "image_grid.every_n_steps",
        "checkpoints.every_n_epochs",
        "metrics.every_n_steps",
    ),
    *("metrics.num_images", "metrics.num_real", "metrics.patience", "metrics.batch_size", "max_steps", "max_epochs", "devices"),
    *("model.generator.latent_dim", "model.generator.negative_slope", "model.discriminator.dropout", "limit_train_batches"),
    *(f"{optimizer}.{name}" for optimizer in OPTIMIZERS for name in ("lr", "eps", "weight_decay")),
]
NAMED = [
    "data",
    "model.loss",
    "model.penalty",
    "model.constraint",
    "model.augmentation",
    "schedules.beta2",
    *NETWORKS,
    *OPTIMIZERS,
]
WORDED = [
    *(f"{network}.{name}" for network in NETWORKS for name in ("hidden", "conditioning", "image_shape")),
    *(f"{optimizer}.betas" for optimizer in OPTIMIZERS),
    *("config", "ckpt_path", "init_from", "trust", "data.root", "data.horizontal_flip", "metrics.extractor", "metrics.metrics"),
    *("logger", "default_root_dir", "max_time", "precision", "accelerator", "strategy", "callbacks", "profiler"),
]


@st.composite
def penalties_and_such(draw: st.DrawFn) -> list[str]:
    """A class and one of its arguments."""
    name, classes, arguments = draw(
        st.sampled_from(
            [
                ("model.penalty", ["R1", "R2", "WGANGP", "DRAGAN", "LeCam"], ["gamma", "weight", "every", "decay"]),
                ("model.constraint", ["WeightClipping"], ["limit"]),
                ("model.augmentation", ["DiffAugment", "AdaptiveAugment"], ["probability", "transforms", "target"]),
                ("schedules.learning_rate", ["LinearSchedule", "CosineSchedule"], ["steps", "start", "end"]),
                (
                    "model.generator",
                    ["MLPGenerator", "DCGANGenerator", "R3GANGenerator"],
                    ["hidden", "width", "latent_dim", "widths"],
                ),
            ]
        )
    )
    argument, value = draw(st.sampled_from(arguments)), draw(NUMBERS | VALUES)
    needed = ["--schedules.learning_rate.steps", "9"] if name.startswith("schedules") else []
    return [f"--{name}", draw(st.sampled_from(classes)), *needed, f"--{name}.{argument}={value}"]


def flags() -> st.SearchStrategy[list[str]]:
    """Draw a flag and usually a suitable value; sometimes another value or a misspelt name."""
    known = [
        action.dest for action in make_parser()._actions if not action.dest.endswith(("help", "print_config", "SUPPRESS=="))
    ]
    real = st.sampled_from(known + MEASURED + NAMED + WORDED).map(lambda name: name.removeprefix("trainer."))
    misspelt = st.tuples(real, st.integers(0, 40), st.sampled_from(["", "x", ".", "+", "_", "é", " "])).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :]
    )
    pairs = st.one_of(
        st.tuples(st.sampled_from(MEASURED), NUMBERS),
        st.tuples(st.sampled_from(NAMED), CLASSES | VALUES),
        st.tuples(st.sampled_from(WORDED), VALUES),
        st.tuples(real, VALUES),
        st.tuples(misspelt | real.map(lambda name: f"{name}+"), VALUES),
    )
    return st.tuples(pairs, st.booleans()).map(
        lambda flag: [f"--{flag[0][0]}={flag[0][1]}"] if flag[1] else [f"--{flag[0][0]}", flag[0][1]]
    )


@pytest.mark.timeout(1800)
def test_flags(tmp_path: Path, record_property: Record) -> None:
    write_mnist(tmp_path / "data")
    taken: list[bool] = []
    several = st.lists(flags() | penalties_and_such(), max_size=2)
    recipe = st.sampled_from(["digits", "digits", "mlp_mnist", "cgan_mnist", "wgan_gp_mnist"])
    assert set(recipes()) >= {"digits", "mlp_mnist", "cgan_mnist", "wgan_gp_mnist"}

    @fuzz(300)
    @hypothesis.given(recipe, several, st.just([]) | st.lists(TEXTS, max_size=1))
    def read(recipe: str, several: list[list[str]], more: list[str]) -> None:
        words = ["--config", recipe, *(word for flag in several for word in flag)]
        parser = make_parser()
        try:
            config = outcome(lambda: instantiate(parser, settings(parser, [*words, *more])[0]))
        except SystemExit as stopped:
            config = f"exit code {stopped.code}"
        assert config not in [f"exit code {code}" for code in (None, 0, 1)]
        taken.append(not isinstance(config, str))

    read()
    assert 0 < sum(taken) < len(taken)
    report(record_property, "flags and values at random", len(taken))


def in_format(pixels: NDArray[numpy.uint8], name: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, name)
    return stream.getvalue()


@st.composite
def image_files(draw: st.DrawFn) -> bytes:
    """Draw a good image of some format, mode and size, a damaged one, or none."""
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    channels = draw(st.sampled_from([(), (3,), (4,)]))
    name = draw(st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"]))
    if name in ("JPEG", "PPM") and channels == (4,):
        channels = (3,)
    random = numpy.random.default_rng(draw(st.integers(0, 2**32)))
    whole = in_format(random.integers(0, 256, (height, width, *channels), dtype=numpy.uint8), name)
    kind = draw(st.sampled_from(["good", "good", "good", "damaged", "empty", "other"]))
    return {"good": whole, "empty": b"", "other": draw(st.binary(max_size=50))}.get(kind) or (
        draw(damaged(whole)) if kind == "damaged" else b""
    )


def pillows_own(path: Path) -> NDArray[numpy.uint8] | None:
    """Read the image at 8x8 pixels with Pillow alone; None if it cannot."""
    try:
        with Image.open(path) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGB", image.size, "white")
                white.paste(image, mask=image.getchannel("A"))
                image = white
            return numpy.asarray(ImageOps.fit(image.convert("RGB"), (8, 8), Image.Resampling.LANCZOS))
    except Exception:
        return None


@pytest.mark.timeout(900)
def test_image_folders(tmp_path: Path, record_property: Record) -> None:
    names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=6)
    endings = st.sampled_from([".png", ".jpg", ".JPEG", ".gif", ".bmp", ".tif", ".webp", ".ppm", ".txt"])
    trees = st.dictionaries(
        st.tuples(st.lists(names, max_size=2).map(tuple), names, endings), image_files(), min_size=1, max_size=12
    )
    taken: list[bool] = []

    @fuzz(100)
    @hypothesis.given(trees, st.booleans())
    def read(tree: dict[Any, bytes], skip_corrupt: bool) -> None:
        root = tmp_path / "photos"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for (folders, name, ending), content in tree.items():
            with contextlib.suppress(OSError):  # names such as .. and those of folders
                path = root.joinpath(*folders, f"{name}{ending}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        for _ in range(2):  # decoded, and from the cache
            data = outcome(lambda: ImageFolder(root, image_size=8, skip_corrupt=skip_corrupt, num_workers=0))
            images = data if isinstance(data, str) else outcome(partial(data.images, "train"))
            taken.append(not isinstance(images, str))
            if isinstance(data, str) or isinstance(images, str):
                continue
            files = data.files["train"]
            expected = [outcome(partial(pillows_own, files.folder / path)) for path in files.paths]
            good = [pixels for pixels in expected if pixels is not None]
            assert skip_corrupt or len(good) == len(expected)
            assert len(images[0]) == len(good)
            for image, pixels in zip(images[0], good, strict=True):
                assert numpy.abs(image.permute(1, 2, 0).numpy().astype(int) - pixels).max() <= 1

    read()
    assert 0 < sum(taken) < len(taken)
    report(record_property, "image folders at random", len(taken) // 2)
