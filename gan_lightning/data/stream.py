"""Images that pass by in a stream, whose length is unknown: its rows, their order, and their decoding."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from gan_lightning.data.columns import where, why
from gan_lightning.data.crops import crop_one
from gan_lightning.data.decoding import DecodedFiles, reason
from gan_lightning.data.image_file import Facts
from gan_lightning.data.loaders import EpochShuffle, Item
from gan_lightning.data.tree import HELD_OUT, Files
from gan_lightning.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11


@dataclass(frozen=True)
class Row:
    """An image file and its label.

    Attributes:
        content: content of the file; None if it is at ``path``.
        path: path or address of the file, or just its name.
        label: its label; None if it has none.
    """

    content: bytes | None
    path: str | None
    label: int | None = None

    @property
    def name(self) -> str:
        """Name for messages."""
        return self.path or "an image without a name"

    def source(self) -> Path | io.BytesIO:
        """Return the file: its path, or its content.

        Raises:
            OSError: it is remote and cannot be read.
            ValueError: the row is empty.
        """
        if self.content is not None:
            return io.BytesIO(self.content)
        if not self.path:
            raise ValueError("there is no image")
        if "://" not in self.path:
            return Path(self.path)
        import fsspec  # only for remote files

        with fsspec.open(self.path, "rb") as file:
            return io.BytesIO(file.read())


@dataclass(frozen=True)
class RowFiles(Files):
    """Images of a split that are in memory."""

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, folder: Path, rows: Iterable[Row], labelled: bool) -> "RowFiles":
        """Name rows by their numbers.

        Args:
            folder: name of the split, for messages.
            rows: the rows.
            labelled: True if they have labels; all without a label are left out.
        """
        kept = tuple(row for row in rows if not labelled or row.label is not None)
        names = tuple(row_name(f"image {number} of the stream", row.path) for number, row in enumerate(kept))
        return cls(folder, names, tuple(row.label or 0 for row in kept) if labelled else None, kept)

    def source(self, index: int) -> Path | io.BytesIO:
        return self.rows[index].source()

    def stamps(self) -> Iterator[object]:
        yield from self.rows

    def select(self, chosen: Iterable[int]) -> "Self":
        kept = list(chosen)
        return replace(super().select(kept), rows=tuple(self.rows[i] for i in kept))


def row_name(number: str, path: str | None) -> str:
    """Name a row for messages: its path if it is a file of its own, else its number and the name of the file in it."""
    return path if path and Path(path).is_absolute() else number + (f" ({path})" if path else "")


@dataclass(frozen=True)
class RowStream:
    """A stream of the library as rows.

    Attributes:
        stream: the library's stream.
        image: its column of undecoded images.
        label: its column of labels, or None.
        path: the set, for messages.
        all_rows: yield all rows; otherwise not those that are held out.
    """

    stream: Any
    image: str
    label: str | None
    path: str
    all_rows: bool

    def of_process(self, rank: int, world_size: int) -> "RowStream":
        """Take the part of one process: some of the files if they can be divided equally, else every n-th row.

        The files of a process stay the same in all passes, so that these are equally long.
        """
        if self.stream.num_shards % world_size == 0:
            return replace(self, stream=self.stream.shard(world_size, rank, contiguous=False))
        from datasets.distributed import split_dataset_by_node

        return replace(self, stream=split_dataset_by_node(self.stream, rank, world_size))

    def shuffled(self, number: int, seed: int, buffer: int) -> Iterator[Row]:
        """Yield the rows of pass ``number``, in the order of the files and of the shuffle buffer that ``seed`` draws."""
        stream = self.stream.shuffle(seed=seed, buffer_size=buffer)
        stream.set_epoch(number)
        return self.read(stream)

    def read(self, stream: Any, held_out: list[Row] | None = None) -> Iterator[Row]:
        """Yield the rows of a stream, and add those that are held out to a list.

        Raises:
            InputError: the stream breaks off.
        """
        try:
            for values in stream:
                image, label = values[self.image] or {}, None if self.label is None else values[self.label]
                row = Row(image.get("bytes"), image.get("path"), None if label is None or label < 0 else label)
                if self.all_rows or not _is_held_out(row):
                    yield row
                elif held_out is not None:
                    held_out.append(row)
        except InputError:
            raise
        except Exception as error:  # the library and pyarrow raise many kinds of exceptions
            raise InputError(
                f"{self.path}: the stream breaks off{where(self.path)} ({why(error)}): repair or download the set again, then "
                "continue the run"
            ) from error


def _is_held_out(row: Row) -> bool:
    """Choose if a row is held out, by a hash of its image."""
    content = row.content if row.content is not None else str(row.path).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") % HELD_OUT == 0


class StreamOrder(EpochShuffle):
    """Rows of one process, one pass through the stream after another, and random numbers for their crops.

    An epoch is a number of images. The next one goes on in the stream where the last one ended. A row is a function of the
    position in the run alone, so a resumed run replays the stream to its place, without decoding: at most one pass that counts
    the images, and a part of another one.

    Args:
        read: number of a pass -> the rows of this process in it, always equally many.
        length: images of an epoch, of all processes together.
        seed: seed of the crops, at least 0.
        rank: number of this process, from 0.
        world_size: number of processes.
    """

    def __init__(
        self, read: Callable[[int], Iterator[Row]], length: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(length, seed, rank, world_size)
        self._read = read
        self._rows: Iterator[Row] = iter(())
        self._position: int | None = None  # of the next row, from the start of the run

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows and the random numbers of this epoch, from position :attr:`start` on."""
        begin = self.epoch * len(self) + self.start
        if self._position != begin:
            self._rows, self._position = self._from(begin), begin
        return zip(self._counted(len(self) - self.start), self.draws()[self.start :].tolist(), strict=True)

    def independent(self, length: int, seed: int) -> EpochShuffle:
        raise InputError("a stream has one order, but unpaired training needs two: use --data.source.streaming false")

    def _counted(self, count: int) -> Iterator[Row]:
        assert self._position is not None
        for row in islice(self._rows, count):
            self._position += 1
            yield row

    def _from(self, position: int) -> Iterator[Row]:
        """Yield the rows of endless passes from a position on."""
        number, left = 0, position
        while True:
            count = 0
            for count, row in enumerate(self._read(number), 1):
                if count > left:
                    yield row
            if not count:
                raise InputError("the stream has no image for this process: use fewer processes, or another set")
            skipped, left = divmod(left, count) if left >= count else (1, 0)
            number += skipped


class StreamedRows(Dataset[Item]):
    """Rows of a stream, decoded on access: (row, random number for the crop) -> (uint8 (C, H, W), label, failures).

    Args:
        known: images that can be read. One of them replaces an image that cannot.
        folder: name of the split, for messages.
    """

    def __init__(self, known: DecodedFiles, folder: Path) -> None:
        self.known, self.folder = known, folder

    def __getitem__(self, place: tuple[Row, int]) -> Item:
        row, draw = place
        known, labelled = self.known, self.known.files.labels is not None
        try:
            if labelled and row.label is None:
                raise ValueError("it has no label")
            one = DecodedFiles(RowFiles(self.folder, (row.name,), None, (row,)), known.image_shape, known.white, known.crop)
            image = one.read(0, Facts())
            if known.crop == "random":
                image = crop_one(image, draw, known.image_shape[1:])
            return image, -1 if row.label is None else row.label, ()
        except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
            failure = f"{self.folder / row.name} ({reason(error)})"
        image, label, failures = known[draw % len(known), draw]
        return image, label, (failure, *failures)
