"""Model card of a translation from image to image."""

from collections.abc import Collection
from typing import Any

from gan_lightning.model_card import QUANTISATION, assembled, class_name, facts_table, shape_text, title


def translation_card(config: dict[str, Any], formats: Collection[str] = ("safetensors",)) -> str:
    """Write the text of a model card: description, use of each file, metrics, and training.

    Args:
        config: description of the generators by :func:`gan_lightning.pretrained.configuration`.
        formats: formats of the files in the folder, of safetensors, torch and onnx.
    """
    header: dict[str, Any] = {
        "library_name": "gan_lightning",
        "tags": ["gan", *(name for name in formats if name == "onnx")],
        "pipeline_tag": "image-to-image",
    }
    return assembled(config, header, _summary(config), [USES[name](config) for name in USES if name in formats])


def _summary(config: dict[str, Any]) -> str:
    sources, shapes = config["sources"], (config["source_shape"], config["image_shape"])
    made = class_name(sources["degradation"])
    rows = {
        "sources in training": shape_text(shapes[0])
        + (", the last of them a mask: 255 where the image is missing" if sources["mask"] else "")
        + (f", made from the images by {made}" if made else ""),
        "images in training": shape_text(shapes[1]),
        "directions": "there and back" if config.get("inverse_generator") else "from source to image",
    }
    text = "A translation from image to image, trained with gan_lightning. It takes images of any size."
    return f"{title(config)}\n\n{text}\n\n{facts_table(config, rows)}"


def _use_safetensors(config: dict[str, Any]) -> str:
    masked = config["sources"]["mask"]
    mask, flag = (", mask", " --mask mask.png") if masked else ("", "")
    back = '\nback = model.translate(images, direction="BtoA")' if config.get("inverse_generator") else ""
    given = (
        "pictures and mask are uint8 (N, C, height, width); the mask is 255 where the picture is missing"
        if masked
        else ("pictures are uint8 (N, C, height, width)")
    )
    return f"""\
With gan_lightning, from this folder (`config.json`, `model.safetensors`; no code of it is run):

```
gan-lightning-translate . photo.jpg{flag} --output translated.png
```

```python
import gan_lightning

model = gan_lightning.load(".")  # or, by its name on the Hub, gan_lightning.ImageTranslator.from_pretrained("me/my-model")
images = model.translate(pictures{mask})  # {given}{back}
```"""


def _shape(config: dict[str, Any]) -> str:
    return ", ".join(map(str, config["source_shape"]))


def _use_torch(config: dict[str, Any]) -> str:
    return f"""\
With torch alone (`generator.pt2`, of torch {config["versions"]["torch"]}; {QUANTISATION}):

```python
import torch

generator = torch.export.load("generator.pt2").module()
images = generator(sources)  # float32 (B, {_shape(config)}) in [-1, 1]
pictures = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
```"""


def _use_onnx(config: dict[str, Any]) -> str:
    return f"""\
Without torch (`generator.onnx`: `source` float32 (B, {_shape(config)}) in [-1, 1] to `images`; {QUANTISATION}):

```python
import numpy, onnxruntime

session = onnxruntime.InferenceSession("generator.onnx")
(images,) = session.run(None, {{"source": sources}})
pictures = ((images + 1) * 127.5).round().clip(0, 255).astype(numpy.uint8)
```"""


USES = {"safetensors": _use_safetensors, "torch": _use_torch, "onnx": _use_onnx}
"""Format -> function that describes the use of its file."""
