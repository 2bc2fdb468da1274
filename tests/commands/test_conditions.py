"""Attributes in every command: --condition, the page's sliders, exports, pictures in training, the dry run."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import gan_lightning
from gan_lightning import checkpoint, files
from gan_lightning.callbacks import ImageGrid
from gan_lightning.commands.common.conditions import parse_condition
from gan_lightning.commands.playground.player import NUM_IMAGES, Pick, Player, Settings, command
from gan_lightning.commands.playground.run import attribute_ranges, layout
from gan_lightning.commands.verbs import Verb
from gan_lightning.exported import CONFIG
from gan_lightning.gan import GAN
from gan_lightning.inference import Sampler
from gan_lightning.latents import labels_by_index, latents
from gan_lightning.losses import NonSaturatingLoss
from gan_lightning.networks import MLPDiscriminator, MLPGenerator
from gan_lightning.pictures import grid
from tests.commands.test_dry_run import sections
from tests.commands.test_playground import flags, pixels
from tests.data.test_labels import CONCATENATION, SMALL, draw
from tests.helpers import TensorData, fit, refusal, refuses

NAMES = ["bright", "old age"]
TINY = "tests.metrics.extractors.Tiny"
ROWS = [[0.0, 1.0], [0.25, -2.0], [0.5, 0.0], [0.75, 3.0]]
"""Attributes of the training images."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Checkpoint of a small generator whose pictures depend on both attributes."""
    torch.manual_seed(0)
    shape = (1, 8, 8)
    networks: dict[str, Any] = {"conditioning": "concatenation", "condition_dim": 2}
    gan = GAN(
        MLPGenerator(shape, latent_dim=16, hidden=[32], **networks),
        MLPDiscriminator(shape, hidden=[4], **networks),
        NonSaturatingLoss(),
    )
    images = torch.randint(0, 256, (4, *shape), dtype=torch.uint8)
    data = TensorData(images, torch.tensor(ROWS), batch_size=2)
    data.condition_names = tuple(NAMES)
    path = tmp_path_factory.mktemp("attributes") / "last.ckpt"
    fit(gan, data, max_steps=2).save_checkpoint(path, weights_only=False)
    content = files.load(path)
    for name, value in content["state_dict"].items():
        if name.startswith("generator.") and value.is_floating_point() and "running" not in name:
            value += torch.randn(value.shape) * 0.3
    files.save(content, path)
    return str(path)


@pytest.fixture
def sampler(path: str) -> Sampler:
    loaded: Sampler = gan_lightning.load(path)
    return loaded


def drawn(args: list[str]) -> Tensor:
    """The images that sample.py draws."""
    assert Verb.sample.main([*args, "--output", "samples.npz"]) == 0
    with numpy.load("samples.npz") as archive:
        images = torch.from_numpy(archive["images"])
    Path("samples.npz").unlink()
    return images


def test_a_checkpoint_draws_by_itself(path: str, sampler: Sampler) -> None:
    """It has the names and the rows: samples without a condition use each row equally often."""
    assert sampler.condition_names == tuple(NAMES)
    assert sorted(sampler.conditions.tolist()) == sorted(ROWS)
    labels = sampler.labels(8)
    assert labels is not None
    assert torch.equal(labels, sampler.conditions.repeat(2, 1))
    assert torch.equal(drawn([path, "--num_images", "6"]), sampler.sample(6, sampler.conditions.repeat(2, 1)[:6]))


def test_condition_by_name_and_the_mean_for_others(path: str, sampler: Sampler) -> None:
    assert sampler.condition({}).tolist() == [0.375, 0.5]
    assert sampler.condition({"old age": -1.5}).tolist() == [0.375, -1.5]
    one, other = torch.tensor([0.125, 0.5]), torch.tensor([0.375, 2.0])
    images = drawn([path, "--num_images", "5", "--condition", "bright=0.125"])
    assert torch.equal(images, sampler.sample(5, one))
    assert torch.equal(images, sampler.sample(5, one.expand(5, -1)))
    assert not torch.equal(images, sampler.sample(5, other))
    turns = drawn([path, "--num_images", "5", "--condition", " bright = 0.125 ; old age=2"])
    assert torch.equal(turns, sampler.sample(5, torch.stack([one, other, one, other, one])))


def test_a_grid_has_a_column_for_each_condition(path: str, sampler: Sampler) -> None:
    assert Verb.sample.main([path, "--num_images", "6", "--condition", "bright=0;bright=1", "--output", "a.png"]) == 0
    rows = torch.stack([sampler.condition({"bright": value}) for value in (0, 1)])
    assert torch.equal(pixels(Path("a.png")), grid(sampler.sample(6, rows.repeat(3, 1)), 2))


def test_a_folder_of_samples_is_not_resumed_with_another_condition(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = [path, "--num_images", "3", "--output", "samples/"]
    assert Verb.sample.main([*args, "--condition", "bright=1"]) == 0
    assert Verb.sample.main([*args, "--condition", "bright=1"]) == 0
    refusal(Verb.sample.main, [*args, "--condition", "bright=0"], capsys, "samples", "condition")


BAD = [
    ("brigt=1", ("brigt", "did you mean bright", "old age")),
    ("bright", ("bright",)),
    ("bright=", ("bright=",)),
    ("bright=dark", ("bright=dark",)),
    ("bright=nan", ("bright=nan",)),
    ("bright=1,bright=2", ("bright=2",)),
    ("=1", ("=1",)),
    ("bright=1;", ("empty",)),
]


@pytest.mark.parametrize(("text", "parts"), BAD)
@pytest.mark.parametrize("verb", [Verb.sample, Verb.interpolate])
def test_bad_conditions(path: str, text: str, parts: tuple[str, ...], verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    refusal(verb.main, [path, f"--condition={text}", "--output", "no.png"], capsys, *parts)
    assert not Path("no.png").exists()


def test_classes_and_attributes_are_not_confused(
    path: str, labelled: str, plain: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main = Verb.sample.main
    assert Verb.export.main([path, "--output", "exported", "--formats", "safetensors"]) == 0
    for source in (path, "exported"):
        refusal(main, [source, "--class", "1", "--output", "no.png"], capsys, "--class 1", "--condition")
    refusal(main, [labelled, "--condition", "a=1", "--output", "no.png"], capsys, "--condition", "--class")
    refusal(main, [plain, "--condition", "a=1", "--output", "no.png"], capsys, "--condition", "unconditional")
    refusal(main, [labelled, "--class", "1", "--condition", "a=1", "--output", "no.png"], capsys, "--class", "--condition")


def test_labels_in_python_are_checked(sampler: Sampler) -> None:
    for wrong in (3, [1.0], [[1.0, 2.0]] * 3, [float("nan"), 0.0], "bright"):
        with refuses("2 finite numbers"):
            sampler.sample(4, wrong)  # type: ignore[arg-type]
    with refuses("colour"):
        sampler.condition({"colour": 1})
    alone = Sampler(sampler.generator)
    assert torch.equal(alone.sample(2, [0.0, 1.0]), sampler.sample(2, [0.0, 1.0]))
    with refuses("labels"):
        alone.sample(2)


def test_a_walk_between_conditions_is_linear(path: str, sampler: Sampler) -> None:
    """Between two conditions, at one latent, the attributes lie on a straight line."""
    ends = torch.stack([sampler.condition({"bright": value}) for value in (0, 1)])
    walk = sampler.interpolate([3], ends, frames=4)
    z = sampler.latents(torch.tensor([0]), 3).expand(5, -1)
    weights = torch.tensor([0, 0.25, 0.5, 0.75, 1])[:, None]
    expected = sampler.draw(z, torch.lerp(ends[:1], ends[1:], weights))
    assert (walk.int() - expected.int()).abs().max() <= 1
    assert (walk[0].int() - walk[4].int()).abs().max() > 5
    args = [path, "--seeds", "3", "--condition", "bright=0;bright=1", "--frames", "4"]
    assert Verb.interpolate.main([*args, "--output", "walk.png"]) == 0
    assert torch.equal(pixels(Path("walk.png")), grid(walk, 5))
    assert len(sampler.interpolate([0, 1], sampler.condition({}), frames=2)) == 3
    assert len(sampler.interpolate([0, 1, 2], frames=2)) == 5


def test_inversion_needs_the_attributes(path: str, sampler: Sampler, capsys: pytest.CaptureFixture[str]) -> None:
    labels = sampler.condition({"bright": 0.2})
    picture = sampler.sample(1, labels)[0, 0]
    Image.fromarray(picture.numpy()).save("target.png")
    args = [path, "target.png", "--steps", "200", "--restarts", "8", "--output", "found.png"]
    refusal(Verb.invert.main, args, capsys, "--condition")
    assert Verb.invert.main([*args, "--condition", "bright=0.2", "--save_latent", "latent.npz"]) == 0
    with numpy.load("latent.npz") as found:
        assert torch.equal(torch.from_numpy(found["label"]), labels)
        again = sampler.draw(torch.from_numpy(found["latent"])[None], labels[None])
    assert (again[0, 0].float() - picture.float()).square().mean().sqrt() < 20


def test_every_format_draws_the_same(path: str, sampler: Sampler, capsys: pytest.CaptureFixture[str]) -> None:
    assert Verb.export.main([path, "--output", "exported", "--formats", "safetensors,torch,onnx"]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] in (["torch"], ["onnx"])]
    assert len(table) == 2
    assert all(int(row[-1]) <= 1 for row in table)
    again = gan_lightning.load("exported")
    assert again.condition_names == tuple(NAMES)
    assert torch.equal(again.conditions, sampler.conditions)
    assert torch.equal(again.sample(5), sampler.sample(5))
    assert load_file("exported/model.safetensors").keys() == sampler.generator.state_dict().keys()
    card = Path("exported", "README.md").read_text()
    assert "bright, old age" in card
    blocks = card.split("```python\n")[1:]
    assert len(blocks) == 3
    for block in blocks:  # every example of the card runs
        code = block.partition("```")[0].replace('"generator.', '"exported/generator.').replace('load(".")', 'load("exported")')
        result: dict[str, Any] = {}
        exec(code, result)
        assert result.get("images", result.get("pictures")).shape == (16, 1, 8, 8)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "entry",
    [
        {"condition_names": [1, 2]},
        {"conditions": [[0.5]]},
        {"conditions": [["a", "b"]]},
        {"conditions": [[float("nan"), 0]]},
        {"conditions": [[1e300, 0]]},
        {"conditions": 3},
        {"condition_names": ["a"]},
    ],
)
def test_damaged_descriptions_get_one_line(path: str, entry: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    content = files.load(path)
    content[checkpoint.KEY] |= entry
    files.save(content, Path("damaged.ckpt"))
    refusal(Verb.sample.main, ["damaged.ckpt"], capsys, "damaged.ckpt", "condition")
    gan_lightning.load(path).save_pretrained("exported")
    config = json.loads(Path("exported", CONFIG).read_text())
    Path("exported", CONFIG).write_text(json.dumps(config | entry))
    refusal(Verb.sample.main, ["exported"], capsys, "config.json", "condition")


def test_metrics_take_rows_in_turn_at_any_batch_size() -> None:
    rows = torch.randn(7, 3)
    label = labels_by_index([5, 5], 0, rows)
    whole = label(torch.arange(20))
    assert torch.equal(whole, rows[torch.arange(20) % 7])
    assert torch.equal(label(torch.tensor([13, 2])), whole[[13, 2]])


def test_the_page_has_a_slider_for_each_attribute(path: str, sampler: Sampler) -> None:
    ranges = attribute_ranges(sampler)
    assert [each.label for each in ranges] == NAMES
    for each, rows in zip(ranges, torch.tensor(ROWS).T, strict=True):
        assert each.minimum <= rows.min() < each.minimum + each.step
        assert each.maximum >= rows.max() > each.maximum - each.step
        assert abs(each.value - float(rows.mean())) <= each.step
        assert 20 < (each.maximum - each.minimum) / each.step < 300
    page = layout(Player(sampler), flags(Path(path)))
    sliders = [block for block in page.blocks.values() if getattr(block, "label", None) in NAMES]
    assert [slider.label for slider in sliders] == NAMES
    alike = Sampler(sampler.generator, {**sampler.origin, "conditions": [[0.5, 0.5]] * 3})
    assert all(each.minimum < each.maximum for each in attribute_ranges(alike))


def test_the_page_draws_what_its_command_draws(path: str, sampler: Sampler) -> None:
    player = Player(sampler)
    for settings in (Settings(), Settings(4, (0.12, -1.5)), Settings(4, (0.12, 1e-05), 0.7)):
        words = shlex.split(command(settings, flags(Path(path)), (), sampler.condition_names))
        assert Verb.sample.main([*words[2:], "--output", "same.png"]) == 0
        assert torch.equal(pixels(Path("same.png")), grid(player.grid(settings), 5))
        Path("same.png").unlink()
    assert torch.equal(player.grid(Settings()), sampler.sample(NUM_IMAGES))
    walk = player.walk(Pick(Settings(), 3), Pick(Settings(4, (0.12, -1.5)), 2)).int()
    steps = (walk[1:] - walk[:-1]).abs().float().mean(dim=(1, 2, 3))
    assert 0 < steps.max() < (walk[0] - walk[16]).abs().float().mean() / 3  # no jump


def test_parsed_conditions() -> None:
    assert parse_condition("a=1, b c =-2e-3;a=0") == [{"a": 1.0, "b c": -0.002}, {"a": 0.0}]


def test_pictures_in_training_have_a_condition_a_column(tmp_path: Path) -> None:
    rows = torch.randn(6, 2)
    networks: dict[str, Any] = {"conditioning": "concatenation", "condition_dim": 2}
    gan = GAN(
        MLPGenerator((1, 8, 8), latent_dim=4, hidden=[16], **networks),
        MLPDiscriminator((1, 8, 8), hidden=[4], **networks),
        NonSaturatingLoss(),
    )
    data = TensorData(torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8), rows, batch_size=2)
    fit(gan, data, max_steps=1, callbacks=[ImageGrid(0, rows=3, columns=8)], logger=True, default_root_dir=tmp_path)
    conditions = data.conditions()
    assert conditions is not None
    assert sorted(conditions.tolist()) == sorted(rows.tolist())
    columns = conditions[torch.arange(8) % 6].repeat(3, 1)  # the same row in each place of a column
    expected = grid(gan.sample(latents(torch.arange(24), 4, seed=0), columns), 8)
    (picture,) = tmp_path.rglob("step_*.png")
    assert torch.equal(pixels(picture), expected)


def test_health_and_metrics_with_attributes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run by the command line with every callback: pictures, monitor, metrics; then evaluate.py on its checkpoint."""
    lines = []
    for i in range(60):
        draw(tmp_path / "photos" / f"{i}.png", i)
        lines.append(f"{i}.png,{i / 60},{i % 2}")
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(["file,bright,odd", *lines]))
    args = list(SMALL)
    args[args.index("--metrics.extractor") + 1] = TINY
    args[args.index("--health.every_n_steps") + 1] = "2"
    args += ["--data.labels", "labels.csv", *CONCATENATION, "--model.discriminator.conditioning", "projection"]
    args += ["--metrics.num_images", "12", "--metrics.metrics", "kid", "--metrics.every_n_steps", "0", "--max_steps", "4"]
    assert Verb.train.main(args) == 0
    last = "lightning_logs/version_0/checkpoints/last.ckpt"
    capsys.readouterr()
    assert Verb.evaluate.main([last, "--num_images", "12", "--metrics", "kid", "--extractor", TINY]) == 0
    record = json.loads(Path("lightning_logs/version_0/checkpoints/last_metrics.json").read_text())
    assert "attributes" in record["protocol"]["labels"]


def test_the_dry_run_describes_the_attributes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for i in range(40):
        draw(tmp_path / "photos" / f"{i}.png", i)
        lines.append(f"{i}.png,{i / 100},5")
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(["file,bright,five", *lines]))
    args = [*SMALL, "--dry_run", "--data.labels", "labels.csv"]
    assert Verb.train.main(args) == 0
    printed = capsys.readouterr().out
    report = sections(printed)
    assert report["Preprocessing"]["attributes"] == "the networks do not see them"
    assert "labels.csv" in printed
    assert "bright from 0 to 0.3" in printed
    assert "five from 5 to 5, mean 5" in printed
    assert "conditioning" in " ".join(report["Suggestions"].values())
    assert Verb.train.main([*args, *CONCATENATION, "--model.discriminator.conditioning", "projection"]) == 0
    report = sections(capsys.readouterr().out)
    assert report["Preprocessing"]["attributes"] == "both networks see them"
    assert "conditioning" not in " ".join(report["Suggestions"].values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "ways", [("concatenation", "projection"), ("batch_norm", "concatenation"), ("concatenation", "classifier")]
)
def test_the_brightness_follows_the_attribute(ways: tuple[Any, Any]) -> None:
    """After a short training on images whose brightness is their attribute, samples have the brightness asked for."""
    torch.manual_seed(0)
    levels = torch.rand(512)
    noise = torch.randn(512, 1, 8, 8) * 12
    images = ((levels * 200 + 28)[:, None, None, None] + noise).round().clamp(0, 255).byte()
    networks: dict[str, Any] = {"condition_dim": 1}
    gan = GAN(
        MLPGenerator((1, 8, 8), latent_dim=8, hidden=[64, 64], conditioning=ways[0], **networks),
        MLPDiscriminator((1, 8, 8), hidden=[64, 64], conditioning=ways[1], **networks),
        NonSaturatingLoss(),
        lambda parameters: torch.optim.Adam(parameters, 1e-3, (0.5, 0.99)),
        lambda parameters: torch.optim.Adam(parameters, 1e-3, (0.5, 0.99)),
        ema_halflife=2000.0,
    )
    trainer = fit(gan, TensorData(images, levels[:, None], batch_size=64), max_steps=500)
    trainer.save_checkpoint("last.ckpt")
    sampler = gan_lightning.load("last.ckpt")
    asked = torch.linspace(0.1, 0.9, 5)
    found = torch.stack([sampler.sample(64, [float(level)]).float().mean() for level in asked])
    expected = asked * 200 + 28
    assert (found - expected).abs().max() < 30, (found, expected)
    assert (found.diff() > 20).all()  # 40 by the data
