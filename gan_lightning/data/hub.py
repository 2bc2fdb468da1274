"""Image sets of the Hugging Face Hub, and local ones in its formats: Parquet, Arrow, and folders with metadata.

The package ``datasets`` downloads, caches and reads the sets. It runs no code of a set.
"""

import hashlib
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_info

from gan_lightning.data.base import Split
from gan_lightning.data.columns import (
    attributes_of,
    class_names_of,
    image_column,
    label_column,
    label_values,
    numbered,
    require_numbers,
    split_columns,
    where,
    why,
)
from gan_lightning.data.decoded import DecodedImages
from gan_lightning.data.loaders import ImageLoader, WorkerLoader
from gan_lightning.data.stream import Row, RowFiles, RowStream, StreamedRows, StreamOrder, row_name
from gan_lightning.data.tree import HELD_OUT, SPLIT_NAMES, Files, Folder, count_text, listed, with_held_out
from gan_lightning.errors import InputError
from gan_lightning.home import expand
from gan_lightning.training.randomness import derived_seed

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11

BUILDERS = {".parquet": "parquet", ".arrow": "arrow"}
"""Suffix of a file -> the library's name for its format."""
SAVED = ("dataset_dict.json", "state.json")
"""Files of a folder that the library's ``save_to_disk`` has written."""
LAST_WITHOUT_FIX = 24  # major version of pyarrow; the library waits for its threads because of arrow's issue 45214
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


class HubDataset(DecodedImages):
    """Images of a set on the Hugging Face Hub, or of a local one in its formats, resized and cropped to one size.

    A local set is a Parquet or Arrow file, a folder of such files, a folder that ``save_to_disk`` has written, or a folder of
    images with a ``metadata.csv`` or ``metadata.jsonl``. No code of a set is run. The package ``datasets`` downloads and caches
    sets below ``$HF_HOME``.

    If the set has splits such as ``train``, ``validation`` and ``test``, the first in this order is trained on, and the last is
    held out. Otherwise a tenth of the rows is held out, by a hash of the row's number; of a stream, by a hash of the image.

    With ``streaming``, training reads the rows as they come, without storing the set. A shuffle buffer mixes neighbours. An
    epoch is a number of images; the next one goes on where the last one ended. The first images of each split stand for it in
    pictures and metrics. A resumed run replays the stream to its place, because the package does not store its shuffle buffer.

    Args:
        path: name of a set on the Hub, such as ``ylecun/mnist``, or path of a file or folder.
        image_column: column of the images; None is the only one that has images.
        label_column: column of the labels: names of classes, text or whole numbers. None is the only one with names of
            classes, if there is exactly one.
        attribute_columns: columns of numbers, separated by commas: attributes of each image, instead of classes. They are used
            as they are: scale them so that each varies by about 1. A stream has none.
        config: configuration of the set, if it has several.
        revision: branch, tag or commit of the set on the Hub; None is its main branch.
        streaming: read the set in a stream instead of storing it.
        shuffle_buffer: rows of a stream from which the next one is drawn.
        epoch_images: images of an epoch of a stream, of all processes together.
        stream_images: images of each split of a stream for pictures and metrics.
        **arguments: arguments of :class:`DecodedImages`, except ``root``.

    Raises:
        InputError: the package ``datasets`` is missing, the set is missing, unreadable or empty, a column does not exist, or a
            number is out of range.
    """

    kind = "set"

    def __init__(
        self,
        path: str,
        image_column: str | None = None,
        label_column: str | None = None,
        attribute_columns: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        streaming: bool = False,
        shuffle_buffer: int = 1000,
        epoch_images: int = 50_000,
        stream_images: int = 2048,
        **arguments: Any,
    ) -> None:
        for name, number in (
            ("shuffle_buffer", shuffle_buffer),
            ("epoch_images", epoch_images),
            ("stream_images", stream_images),
        ):
            if number < 1:
                raise InputError(f"data.{name} is {number}: use at least 1")
        if streaming and (alone := [name for name in ("balance", "subset") if arguments.get(name)]):
            raise InputError(f"data.streaming is true, but data.{alone[0]} needs the whole set: remove one of them")
        if attribute_columns is not None and (streaming or label_column is not None):
            other = "streaming true" if streaming else f"label_column {label_column}"
            raise InputError(f"data.attribute_columns does not go with data.{other}: remove one of them")
        self.path = expand(path)
        self.image_column, self.label_column, self.config, self.revision = image_column, label_column, config, revision
        self.attribute_columns = () if attribute_columns is None else tuple(split_columns(attribute_columns))
        self.streaming, self.shuffle_buffer = streaming, shuffle_buffer
        self.epoch_images, self.stream_images = epoch_images, stream_images
        super().__init__(self.path, **arguments)
        if streaming:
            self.kind, self.counted = "stream", "first files"

    @property
    def held_out(self) -> str:
        train, test = self.files["train"].folder, self.files["test"].folder
        if train != test:
            return f"the split {test.name}"
        return f"a tenth, by a hash of the {'image' if self.streaming else 'number of the row'}"

    def copies(self) -> int:
        sources = [(files, i) for files in self.files.values() for i in range(len(files.paths))]
        return len(sources) - len({_digest(files, i) for files, i in sources})

    def loading(self, split: Split) -> str:
        return self._at_each_use() if self.streaming else super().loading(split)

    def train_dataloader(self) -> ImageLoader:
        if not self.streaming:
            return super().train_dataloader()
        assert self.trainer is not None
        known, _ = self._prepare("train")
        batch_images = self._batch_images(self.epoch_images)
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        of_all = batch_images * world_size
        rows = self._rows.of_process(rank, world_size)
        length = -(-self.epoch_images // of_all) * of_all  # whole batches, so that none is left over
        return WorkerLoader(
            StreamedRows(self._dataset(known), known.folder),
            known.labels is not None,
            batch_images,
            StreamOrder(
                lambda number: rows.shuffled(number, derived_seed("stream", self.seed), self.shuffle_buffer),
                length,
                self.seed,
                rank,
                world_size,
            ),
            self.num_workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            report=self._report_failures,
            advice="use more --data.num_workers, or store the set by --data.streaming false",
        )

    def _require_classes(self, files: Files) -> None:
        if not self.streaming:  # the first images of a stream need not show all classes
            super()._require_classes(files)

    def _find(self) -> Folder:
        parts = _open(self.path, self.config, self.revision, self.streaming)
        trained, held_out = _splits(self.path, list(parts))
        features = columns_of(parts[trained], self.path)
        image = image_column(self.path, features, self.image_column)
        attributes = self.attribute_columns
        require_numbers(self.path, features, attributes)
        label = None if attributes else label_column(self.path, features, self.label_column)
        columns = [image, *attributes, *([] if label is None else [label])]
        sets = {}
        for split in dict.fromkeys([trained, held_out]):
            if missing := [name for name in columns if name not in columns_of(parts[split], self.path)]:
                raise InputError(f"{self.path}: the split {split} has no column {missing[0]}: use another column")
            sets[split] = _undecoded(parts[split], image, columns)
        feature = None if label is None else features[label]
        find = self._find_stream if self.streaming else self._find_rows
        return find(sets, trained, held_out, image, label, feature)

    def _find_rows(
        self, sets: Mapping[str, Any], trained: str, held_out: str, image: str, label: str | None, feature: Any
    ) -> Folder:
        """Find the rows of both splits of a set that is not a stream."""
        files = {
            split: TableFiles.of(Path(self.path, split), table.select_columns([image]), image) for split, table in sets.items()
        }
        class_names: tuple[str, ...] = ()
        if self.attribute_columns:
            files = {
                split: replace(own, labels=attributes_of(own.folder, sets[split], self.attribute_columns))
                for split, own in files.items()
            }
        if label is not None:
            values = {split: label_values(table, label, feature, self.path) for split, table in sets.items()}
            class_names = class_names_of(values[trained], feature)
            labels = {
                split: numbered(Path(self.path, split), own, class_names, required=split == trained)
                for split, own in values.items()
            }
            files = {split: replace(own, labels=labels[split]) for split, own in files.items()}
        if trained == held_out:
            return Folder(*with_held_out(class_names, files[trained]), (), self.attribute_columns)
        return Folder(class_names, {"train": files[trained], "test": files[held_out]}, (), self.attribute_columns)

    def _find_stream(
        self, sets: Mapping[str, Any], trained: str, held_out: str, image: str, label: str | None, feature: Any
    ) -> Folder:
        """Read the first rows of both splits of a stream."""
        class_names: tuple[str, ...] = ()
        if label is not None:
            if not hasattr(feature, "names"):
                raise InputError(
                    f"{self.path}: the classes of a stream must be known before it is read, but the column {label} has no "
                    "names of classes: remove --data.label_column, or use --data.streaming false"
                )
            class_names = tuple(feature.names)
        self._rows = RowStream(sets[trained], image, label, self.path, all_rows=trained != held_out)
        folders: dict[Split, Path] = {"train": Path(self.path, trained), "test": Path(self.path, held_out)}
        if trained == held_out:
            held: list[Row] = []
            kept = list(islice(self._rows.read(self._rows.stream, held), self.stream_images))
            first: dict[Split, list[Row]] = {"train": kept, "test": held}
        else:
            test = RowStream(sets[held_out], image, label, self.path, all_rows=True)
            both: dict[Split, RowStream] = {"train": self._rows, "test": test}
            first = {split: list(islice(rows.read(rows.stream), self.stream_images)) for split, rows in both.items()}
        rank_zero_info(
            f"{self.path}: a stream. Its first {count_text(len(first['train']), 'image')} of {trained} stand for it in "
            "pictures and metrics (--data.stream_images)"
        )
        labelled = {split: bool(class_names) and any(row.label is not None for row in rows) for split, rows in first.items()}
        return Folder(
            class_names, {split: RowFiles.of(folders[split], rows, labelled[split]) for split, rows in first.items()}, ()
        )


@dataclass(frozen=True)
class TableFiles(Files):
    """Images of a split in a table of the library, which maps its files into memory. Their names are numbers of rows.

    Attributes:
        table: the table.
        column: its column of undecoded images.
        rows: the number of each image's row.
    """

    table: Any
    column: str
    rows: tuple[int, ...]

    @classmethod
    def of(cls, folder: Path, table: Any, column: str) -> "TableFiles":
        """Take all rows, without labels."""
        numbers = tuple(range(len(table)))
        return cls(folder, tuple(f"row {number}" for number in numbers), None, table, column, numbers)

    def source(self, index: int) -> Path | io.BytesIO:
        return self._row(index).source()

    def path(self, index: int) -> Path:
        try:
            name = self._row(index).path
        except Exception:  # the table is damaged, and pyarrow raises many kinds of exceptions
            name = None
        return self.folder / row_name(self.paths[index], name)

    def stamps(self) -> Iterator[object]:
        yield self.table._fingerprint, self.rows
        flat = self.table.flatten()
        if flat.data.column(f"{self.column}.bytes").null_count:  # files outside of the table
            paths = flat.select_columns([f"{self.column}.path"])[:][f"{self.column}.path"]
            for row in self.rows:
                try:
                    stat = os.stat(paths[row])  # noqa: PTH116  (a Path takes longer, and there may be a million)
                    yield paths[row], stat.st_size, stat.st_mtime_ns
                except (OSError, TypeError, ValueError):  # reading it will raise the error
                    yield paths[row]

    def select(self, chosen: Iterable[int]) -> "Self":
        kept = list(chosen)
        return replace(super().select(kept), rows=tuple(self.rows[i] for i in kept))

    def _row(self, index: int) -> Row:
        image = self.table[self.rows[index]][self.column]
        return Row(None, None) if image is None else Row(image["bytes"], image["path"])


def _library() -> Any:
    """Import the package ``datasets``, which takes a second.

    Raises:
        InputError: it is missing.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError('HubDataset needs the package datasets: run pip install "gan_lightning[hub]"') from error
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # errors are raised, too
    if datasets.config.PYARROW_VERSION.major > LAST_WITHOUT_FIX:
        datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # else each pass through a stream ends with a pause of 5 seconds
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets


def _open(path: str, config: str | None, revision: str | None, streaming: bool) -> Mapping[str, Any]:
    """Open a set: the name of each split -> its table or stream.

    Raises:
        InputError: it is missing or unreadable.
    """
    library, local = _library(), Path(path)
    try:
        exists = local.exists()
    except OSError:  # such as a name that is too long
        exists = False
    if not exists and not HUB_NAME.fullmatch(path):
        raise InputError(f"{path} does not exist: use the name of a set on the Hub, such as ylecun/mnist, or a file or folder")
    try:
        if any((local / name).is_file() for name in SAVED):
            found = library.load_from_disk(path)
            parts = found if isinstance(found, dict) else {str(found.split or "train"): found}
            return {split: part.to_iterable_dataset() for split, part in parts.items()} if streaming else parts
        arguments: dict[str, Any] = {"streaming": streaming}
        if local.is_file():
            if local.suffix.lower() not in BUILDERS:
                raise InputError(f"{path} is neither Parquet nor Arrow: use such a file, or a folder")
            name, arguments["data_files"] = BUILDERS[local.suffix.lower()], str(local.resolve())
        else:
            name = str(local.resolve()) if exists else path
        parts = library.load_dataset(name, config, revision=None if exists else revision, **arguments)
    except InputError:
        raise
    except Exception as error:  # the library and pyarrow raise many kinds of exceptions
        if exists:
            raise InputError(
                f"{path} cannot be read{where(path)} ({why(error)}): repair it, or use another --data.path"
            ) from error
        raise InputError(
            f"{path} is no file or folder, and cannot be read from the Hub ({why(error)}): check the name and the network, or "
            "download the set elsewhere and use --data.path FOLDER"
        ) from error
    if not parts:
        raise InputError(f"{path} has no images: use another --data.path")
    return dict(parts)


def _splits(path: str, names: Sequence[str]) -> tuple[str, str]:
    """Choose the split to train on and that to hold out. They are the same if there is only one.

    Raises:
        InputError: there are several, and none has the name of a split.
    """
    found = [name for known in SPLIT_NAMES.values() for name in names if name.lower() in known]
    if not found and len(names) > 1:
        raise InputError(
            f"{path} has the splits {listed(names)}, none of which is train, validation or test: rename one to train"
        )
    trained, held_out = (found[0], found[-1]) if found else (names[0], names[0])
    held = f"one image in {HELD_OUT} of it" if trained == held_out else held_out
    unused = [name for name in names if name not in (trained, held_out)]
    without = f"; not using {', '.join(unused)}" if unused else ""
    rank_zero_info(f"{path}: training on {trained}, and holding out {held}{without}")
    return trained, held_out


def columns_of(part: Any, path: str) -> Mapping[str, Any]:
    """Name the columns of a table or stream, and their kinds. Those of some streams are only known from their first rows.

    Raises:
        InputError: the stream cannot be read.
    """
    if part.features is not None:
        return dict(part.features)
    try:
        return dict(part._resolve_features().features)
    except Exception as error:  # the library and pyarrow raise many kinds of exceptions
        raise InputError(f"{path} cannot be read ({why(error)}): repair it, or use another --data.path") from error


def _undecoded(part: Any, image: str, columns: list[str]) -> Any:
    """Take some columns of a table or stream, with the images as they are stored."""
    return part.select_columns(columns).cast_column(image, _library().Image(decode=False))


def _digest(files: Files, index: int) -> bytes:
    """Hash the content of a file; that of an unreadable one counts as no copy."""
    try:
        source = files.source(index)
        return hashlib.sha256(source.read_bytes() if isinstance(source, Path) else source.getvalue()).digest()
    except Exception:  # pyarrow raises many kinds of exceptions
        return f"{files.folder} {index}".encode()
