"""A trained model: the generators of a checkpoint, of an exported folder or of the Hugging Face Hub, loaded and saved."""

import os
from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download

from gan_lightning import checkpoint, pretrained
from gan_lightning.errors import InputError, one_line
from gan_lightning.exported import CONFIG, NO_SOURCES, WEIGHTS
from gan_lightning.lookup import find
from gan_lightning.model_card import metrics, recipe
from gan_lightning.networks.base import Network, rebuild

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11

AVERAGES = dict(zip(pretrained.GENERATORS, ("ema", "inverse_ema"), strict=True))
"""Name of each generator in a checkpoint -> name of its average."""


class TrainedModel(ModelHubMixin):
    """Generators that are ready to use. ``save_pretrained``, ``push_to_hub`` and ``from_pretrained`` are huggingface_hub's.

    Args:
        networks: name -> generator, the first called ``generator``. They are put in eval mode, without gradients.
        origin: source of the generators, for records: checkpoint, global_step, weights (``ema`` or ``raw``), and what else the
            model uses. An exported folder adds its recipe and metrics.

    Attributes:
        kind: class of the generators.
        work: what the model does, and the command for it, for messages.
    """

    kind: ClassVar[type[Network]]
    work: ClassVar[tuple[str, str]]

    def __init__(self, networks: Mapping[str, Network], origin: dict[str, Any] | None) -> None:
        self.networks = {name: network.eval().requires_grad_(False) for name, network in networks.items()}
        self.origin = origin or {}

    @classmethod
    @abstractmethod
    def of(cls, networks: Mapping[str, Any], origin: dict[str, Any]) -> "Self":
        """Make a model of the generators that :func:`read` returns."""

    @property
    def device(self) -> torch.device:
        """Device of the generators."""
        return next(self.networks["generator"].parameters()).device

    def config(self, dtype: str = "float32") -> dict[str, Any]:
        """Content of this model's config.json, with the recipe and the record found next to its checkpoint.

        Args:
            dtype: type of the stored weights, float32 or float16.
        """
        about, path = dict(self.origin), Path(self.origin.get("checkpoint", ""))
        if path.is_file():
            about |= {"recipe": recipe(path), "metrics": metrics(path, about["global_step"], about["weights"])}
        return pretrained.configuration(self.networks, about, self._facts(), dtype)

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """Entries of config.json that only models of this kind have, primitives only."""

    def write(self, folder: Path, dtype: str = "float32", picture: bool = True) -> None:
        """Write config.json, model.safetensors and, if the model can draw it alone, samples.png into a folder.

        Args:
            folder: an existing folder.
            dtype: type of the stored weights, float32 or float16.
            picture: write samples.png.
        """
        pretrained.save(self.networks, self.config(dtype), folder)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write all files except the model card: ``save_pretrained`` and ``push_to_hub`` add it."""
        self.write(save_directory)

    @abstractmethod
    def generate_model_card(
        self, formats: Collection[str] = ("safetensors",), dtype: str = "float32", picture: bool = True
    ) -> ModelCard:
        """Make the model card for ``save_pretrained`` and ``push_to_hub``.

        Args:
            formats: formats of the files in the folder (see :func:`gan_lightning.model_card.model_card`).
            dtype: type of the stored weights, float32 or float16.
            picture: True if samples.png is in the folder.
        """

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **options: Any,
    ) -> "Self":
        """Load the model of a folder, or download it from a repository of the Hugging Face Hub.

        Args:
            pretrained_model_name_or_path: a folder, or a name such as ``me/my-gan``.
            force_download: download even if the cache has the files.
            token: access token for a private repository.
            cache_dir: folder of the downloads; by default huggingface_hub's cache.
            local_files_only: use the cache without asking the Hub.
            revision: a branch, a tag or a commit.
            options: device and trust, as for :func:`gan_lightning.load`.

        Raises:
            InputError: the model cannot be found or downloaded, or it is damaged, foreign, untrusted or of another kind.
        """
        # The mixin's method would read config.json unchecked, and pass its entries on as arguments.
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = download(
                str(pretrained_model_name_or_path),
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                token=token,
                local_files_only=local_files_only,
            )
        networks, origin = read(folder, **options)
        if not isinstance(networks["generator"], cls.kind):
            found = type(networks["generator"]).__name__
            raise InputError(f"{folder} has a {found}, which is not for {cls.__name__}: use gan_lightning.load")
        return cls.of(networks, origin)


def locate(name: str | os.PathLike[str]) -> Path:
    """Find the file or folder of a name: an existing path, a bundled generator, or a download from the Hub.

    Raises:
        InputError: the name is none of these.
    """
    return find(name) or download(os.fspath(name))


def download(name: str, **options: Any) -> Path:
    """Download config.json and the weights of a repository of the Hugging Face Hub. Returns their folder in the Hub's cache.

    Raises:
        InputError: the Hub does not provide it.
    """
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS], **options))
    except Exception as error:  # a network can raise anything
        raise InputError(
            f"{name} is not a folder, and the Hugging Face Hub does not provide it ({one_line(error)[:200]}): check the name"
        ) from error


def read(
    path: str | os.PathLike[str], raw: bool = False, device: str | torch.device = "cpu", trust: Collection[str] = ()
) -> tuple[dict[str, Network], dict[str, Any]]:
    """Read the generators of a name, and their origin. The arguments are those of :func:`gan_lightning.load`.

    Raises:
        InputError: as there.
    """
    found = locate(path)
    networks, origin = (_read_folder if found.is_dir() else _read_checkpoint)(found, raw, trust)
    return {name: network.to(device) for name, network in networks.items()}, {"checkpoint": str(found), **origin}


def _read_folder(path: Path, raw: bool, trust: Collection[str]) -> tuple[dict[str, Network], dict[str, Any]]:
    networks, config = pretrained.load(path, trust)
    if raw and config["weights"] == "ema":
        raise InputError(f"{path} has only the moving average: for the raw weights, use the original checkpoint")
    names = ("global_step", "weights", "class_names", "condition_names", "conditions", "sources", "recipe", "metrics")
    return networks, {name: config[name] for name in names}


def _read_checkpoint(path: Path, raw: bool, trust: Collection[str]) -> tuple[dict[str, Network], dict[str, Any]]:
    content = checkpoint.load_gan(path)
    about, weights = content[checkpoint.KEY], content["state_dict"]
    averaged = about["ema"] and not raw
    networks: dict[str, Network] = {}
    for name, average in AVERAGES.items():
        if name in about:
            prefix = f"{average if averaged else name}."
            own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            networks[name] = rebuild(Network, about[name], own, trust, path)
    origin = {
        "global_step": content["global_step"],
        "weights": "ema" if averaged else "raw",
        "class_names": about.get("class_names", []),
        "condition_names": about.get("condition_names", []),
        "conditions": about.get("conditions", []),
        "sources": about.get("sources", NO_SOURCES),
    }
    return networks, origin
