"""Model card of a generator: a README.md for people, with a header for the Hugging Face Hub."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

RECIPE = {"seed_everything", "data", "model", "schedules", "trainer", "run_length"}
"""Sections of a run's config.yaml that determine its result."""
TRAINER = {"precision", "max_epochs", "max_steps", "max_time", "devices", "num_nodes", "gradient_clip_val"}
"""Settings of Lightning's Trainer that determine a run's result."""
MAX_BYTES = 2**20  # bytes of a config.yaml or a record; usual ones have a few thousand
MAX_DEPTH = 50  # nested lists and dicts of a config.yaml; usual ones have about six levels
CLASSES_SHOWN = 20
ATTRIBUTES_SHOWN = 8
PROTOCOL = ("num_images", "weights", "real", "split", "num_real", "extractor", "transparency")
"""Entries of a record that describe the measurement, in the order of the table."""


def recipe(checkpoint: Path) -> dict[str, Any] | None:
    """Read the recipe of a checkpoint's run from the config.yaml of its folder; None if there is none.

    The file is read as data: nothing that it names is imported. Settings without a value are left out. Only the last part of a
    path is kept, because the folders are private.
    """
    try:
        text = _text(checkpoint.parent.parent / "config.yaml")
        settings = _public(yaml.safe_load(text)) if _is_plain(text) else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    if not isinstance(settings, dict):
        return None
    trainer = settings.get("trainer")
    if isinstance(trainer, dict):
        settings["trainer"] = {name: value for name, value in trainer.items() if name in TRAINER}
    return {name: value for name, value in settings.items() if name in RECIPE} or None


def _is_plain(text: str) -> bool:
    """Tell if YAML is safe to load: no aliases, because a few can expand without limit, and not so deep that it takes hours."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
            return False
    return True


def _public(value: Any) -> Any:
    """Reduce a value to primitives, without null or empty entries, and without the folders of paths."""
    if isinstance(value, dict):
        public = {str(name): _public(item) for name, item in value.items()}
        return {name: item for name, item in public.items() if item not in (None, {}, [])}
    if isinstance(value, list):
        return [_public(item) for item in value]
    if value is None or type(value) in (bool, int, float):
        return value
    return PureWindowsPath(str(value)).name  # splits paths of any system


def metrics(checkpoint: Path, global_step: int | None, weights: str | None) -> dict[str, Any] | None:
    """Read the newest record of these weights that evaluate.py wrote next to a checkpoint; None if there is none.

    Args:
        checkpoint: the checkpoint. It may have been overwritten since it was measured.
        global_step: step of the weights.
        weights: ``ema`` or ``raw``.

    Returns:
        {"values": {name: number}, "protocol": {name: text or number}}
    """
    records = sorted(checkpoint.parent.glob(f"{checkpoint.stem}_metrics*.json"), key=lambda path: path.stat().st_mtime)
    for path in reversed(records):
        try:
            record = json.loads(_text(path))
            values, protocol = dict(record["metrics"]), dict(record["protocol"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if (protocol.get("global_step"), protocol.get("weights")) == (global_step, weights):
            shown = {name: protocol[name] for name in PROTOCOL if name in protocol}
            return {"values": _of_type(values, int, float), "protocol": _of_type(shown, int, str)}
    return None


def _of_type(entries: Any, *types: type) -> dict[str, Any]:
    """Select the entries of a dict that have one of these types. Anything but a dict has none."""
    return {name: value for name, value in entries.items() if type(value) in types} if isinstance(entries, dict) else {}


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} is larger than any file that a run writes")
    return path.read_text(encoding="utf-8")


def model_card(config: dict[str, Any], formats: Collection[str] = ("safetensors",), picture: bool = True) -> str:
    """Write the text of a model card: description, use of each file, metrics, and training.

    Args:
        config: description of the generator by :func:`gan_lightning.pretrained.configuration`.
        formats: formats of the files in the folder, of safetensors, torch and onnx.
        picture: True if samples.png is in the folder.
    """
    conditional = config["num_classes"] > 0 or bool(config.get("condition_names"))
    header: dict[str, Any] = {"library_name": "gan_lightning", "tags": ["gan", "image-generation"]}
    header["tags"] += [name for name in formats if name == "onnx"]
    if not conditional:
        header["pipeline_tag"] = "unconditional-image-generation"  # the Hub has no tag for class-conditional images
    return assembled(config, header, _summary(config, picture), [USES[name](config) for name in USES if name in formats])


def assembled(config: dict[str, Any], header: dict[str, Any], summary: str, uses: Sequence[str]) -> str:
    """Put a card together: header, summary, use of each file, metrics, recipe.

    Args:
        config: as for :func:`model_card`.
        header: entries for the Hub.
        summary: the text above the first heading of the second level.
        uses: a text for each file.
    """
    parts = [summary, "## Use", *uses]
    if config["metrics"]:
        parts += ["## Metrics", _metrics_table(config["metrics"])]
    if config["recipe"]:
        settings = yaml.safe_dump(config["recipe"], sort_keys=False)
        parts += [
            "## Recipe",
            "The settings of the run's `config.yaml`, including defaults, without null values.",
            f"```yaml\n{settings}```",
        ]
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n" + "\n\n".join(parts) + "\n"


def _summary(config: dict[str, Any], picture: bool) -> str:
    classes = f"{config['num_classes']}, numbered from 0" if config["num_classes"] else "none"
    names = config.get("class_names") or []
    if any(name != str(number) for number, name in enumerate(names)):
        classes += ": " + ", ".join(map(_cell, names[:CLASSES_SHOWN])) + (", ..." if len(names) > CLASSES_SHOWN else "")
    attributes = ", ".join(map(_cell, config.get("condition_names") or []))
    rows = {
        "images": shape_text(config["image_shape"]),
        **({"attributes": attributes} if attributes else {"classes": classes}),
        "latent": f"{config['latent_dim']} values, standard normal",
    }
    return (
        f"{title(config)}\n\nThe generator of a GAN, trained with gan_lightning.\n\n"
        + ("![64 samples of seed 0](samples.png)\n\n" if picture else "")
        + facts_table(config, rows)
    )


def title(config: dict[str, Any]) -> str:
    """Heading of a card: the network's class, and the data's if it is known."""
    data = class_name((config["recipe"] or {}).get("data"))
    return f"# {class_name(config['generator'])}" + (f", trained on {data}" if data else "")


def shape_text(shape: Sequence[int]) -> str:
    """Format a shape (C, H, W) for a card."""
    channels, height, width = shape
    return f"{height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}"


def facts_table(config: dict[str, Any], rows: Mapping[str, str]) -> str:
    """Table of a card: the given rows, and those that every card has."""
    weights = {"ema": "the moving average of the generator's (EMA)", "raw": "the generator's own", None: "not known"}
    steps = "not known" if config["global_step"] is None else f"{config['global_step']:,} updates of the generator"
    rows = {
        **rows,
        "parameters": f"{config['parameters']:,}",
        "training": steps,
        "weights": f"{weights[config['weights']]}, stored as {config['dtype']}",
        "made with": ", ".join(f"{package} {version}" for package, version in config["versions"].items()),
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {row} | {value} |" for row, value in rows.items())


def _cell(name: str) -> str:
    """Escape a name for a table of Markdown."""
    return "".join(letter if letter.isalnum() or letter in " -_." else f"&#{ord(letter)};" for letter in name)


def class_name(described: Any) -> str:
    """Name of a class without its modules, from a description or a class path; empty if there is none."""
    path = described.get("class_path") if isinstance(described, dict) else described
    return str(path or "").rpartition(".")[2]


def _use_safetensors(config: dict[str, Any]) -> str:
    labels = "labels=3, " if config["num_classes"] > 3 else ""
    if names := config.get("condition_names"):
        labels = f"labels=gan.condition({{{json.dumps(names[0])}: 1}}), "
    shape = ", ".join(map(str, config["image_shape"]))
    return f"""\
In Python, from this folder (`config.json`, `model.safetensors`; no code of it is run):

```python
import gan_lightning

gan = gan_lightning.load(".")  # or, by its name on the Hub, gan_lightning.Sampler.from_pretrained("me/my-gan")
images = gan.sample(16, {labels}seed=0)  # uint8 (16, {shape})
```"""


def _use_torch(config: dict[str, Any]) -> str:
    labels = f", torch.arange(16) % {config['num_classes']}" if config["num_classes"] else ""
    if config.get("condition_names"):
        labels = f", torch.tensor({_attributes(config)})"
    return f"""\
With torch alone (`generator.pt2`, of torch {config["versions"]["torch"]}; {QUANTISATION}):

```python
import torch

generator = torch.export.load("generator.pt2").module()
images = generator(torch.randn(16, {config["latent_dim"]}){labels})
pictures = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
```"""


def _use_onnx(config: dict[str, Any]) -> str:
    shape = ", ".join(map(str, config["image_shape"]))
    labels = f', "labels": numpy.arange(16) % {config["num_classes"]}' if config["num_classes"] else ""
    kind = "int64 (B,)"
    if names := config.get("condition_names"):
        labels, kind = f', "labels": numpy.array({_attributes(config)}, numpy.float32)', f"float32 (B, {len(names)})"
    inputs = f"`z` float32 (B, {config['latent_dim']})" + (f" and `labels` {kind}" if labels else "")
    return f"""\
Without torch (`generator.onnx`: {inputs} to `images` float32 (B, {shape}); {QUANTISATION}):

```python
import numpy, onnxruntime

session = onnxruntime.InferenceSession("generator.onnx")
z = numpy.random.default_rng(0).standard_normal((16, {config["latent_dim"]}), numpy.float32)
(images,) = session.run(None, {{"z": z{labels}}})
pictures = ((images + 1) * 127.5).round().clip(0, 255).astype(numpy.uint8)
```"""


def _attributes(config: dict[str, Any]) -> str:
    """Write attributes of 16 images in Python: those of a training image, or zeros if they are many."""
    count, rows = len(config["condition_names"]), config.get("conditions")
    one = [float(f"{value:.4g}") for value in rows[0]] if rows and count <= ATTRIBUTES_SHOWN else f"[0.0] * {count}"
    return f"[{one}] * 16"


QUANTISATION = "values are nominally in [-1, 1]; others are clamped"
USES = {"safetensors": _use_safetensors, "torch": _use_torch, "onnx": _use_onnx}
"""Format -> function that describes the use of its file."""


def _metrics_table(measured: dict[str, Any]) -> str:
    values, protocol = _of_type(measured.get("values"), int, float), _of_type(measured.get("protocol"), int, str)
    rows = []
    for name, value in values.items():
        if not name.endswith("_std"):
            deviation = f" ± {values[f'{name}_std']:.4g}" if f"{name}_std" in values else ""
            rows.append(f"| {name} | {value:.6g}{deviation} |")
    how = ", ".join(f"{name} {value:,}" if type(value) is int else f"{name} {value}" for name, value in protocol.items())
    return "\n".join(["| metric | value |", "|---|---|", *rows]) + f"\n\nMeasured by gan_lightning's `evaluate.py`: {how}."
