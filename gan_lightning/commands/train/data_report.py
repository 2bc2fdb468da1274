"""The data in the report of a dry run: contents, preprocessing, and suggestions."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from gan_lightning.data import DecodedImages, Derived, ImageDataModule, TranslationDataModule
from gan_lightning.data.image_file import GREY
from gan_lightning.data.survey import Survey
from gan_lightning.data.tree import count_text
from gan_lightning.errors import plain
from gan_lightning.images import size_text
from gan_lightning.module import AdversarialModule, TwoNetworks
from gan_lightning.units import bytes_text

Rows = list[tuple[str, str]]
"""Lines of a section: a name, and numbers or words."""
CLASSES_SHOWN = 10
FILES_NAMED = 5
FEW_IMAGES = 1000  # a discriminator soon memorises fewer images (Zhao et al. 2020 train on 100 and more)
UNEVEN_RATIO = 10  # ratio of the images in the largest class to those in the smallest
CONDITIONED = "--model.generator.conditioning concatenation --model.discriminator.conditioning projection"
LARGE_CROP = 0.3  # share of an image that the crop removes


@dataclass
class DataReport:
    """Contents, preprocessing, and suggestions."""

    contents: Rows = field(default_factory=list)
    preprocessing: Rows = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)


def report_on(data: ImageDataModule, model: AdversarialModule) -> DataReport:
    """Inspect data that has been read."""
    if isinstance(data, TranslationDataModule):
        report = _translation(data, model)
    else:
        report = _folder(data, data.image_shape, model) if isinstance(data, DecodedImages) else _images(data)
    flips = "each image left to right, with probability 0.5" if data.horizontal_flip else "none"
    use = "both networks see them" if model.generator.conditional else "the networks do not see them"
    report.preprocessing.append(("flips", flips))
    if not isinstance(data, TranslationDataModule):
        what = "attributes" if data.condition_names else "classes"
        report.preprocessing.append((what, use if data.num_classes or data.condition_names else "none"))
    return report


def _translation(data: TranslationDataModule, model: AdversarialModule) -> DataReport:
    """Report on sources and targets."""
    targets, sources = size_text(data.image_shape), size_text(data.source_shape)
    if data.has_pairs:
        counts = f"{_good(data.target_data):,} to train on" + ("" if data.paired else ", but not together")
        report = DataReport([("pairs", f"{counts}: sources {sources}, targets {targets}")])
    else:
        report = DataReport(
            [
                ("sources", f"{_good(data.source_data):,} to train on, each {sources}"),
                ("targets", f"{_good(data.target_data):,} to train on, each {targets}"),
            ]
        )
    for folder in dict.fromkeys([*data.source_data.folders, *data.target_data.folders]):
        seen = data.image_shape if folder in data.target_data.folders else data.source_shape
        own = _folder(folder, seen, model, labelled=False)
        report.contents += own.contents
        report.preprocessing += own.preprocessing
        report.suggestions += own.suggestions
    if isinstance(data, Derived):
        report.preprocessing.append(("sources", f"the targets after {type(data.degradation).__name__}"))
    return report


def _good(data: ImageDataModule) -> int:
    """Count the images to train on, some of which may be unreadable."""
    unread = sum(len(folder.corrupt("train")) for folder in data.folders)
    return (
        sum(len(folder.files["train"].paths) for folder in data.folders) - unread if data.folders else data.num_images("train")
    )


def _images(data: ImageDataModule) -> DataReport:
    """Report on images in memory."""
    images, labels = data.images("train")
    report = DataReport([("images", f"{len(images):,} to train on, each {size_text(data.image_shape)}")])
    report.contents += _classes(
        Counter(data.class_names[c] for c in labels.tolist()) if labels is not None and data.class_names else Counter()
    )
    report.contents += _attributes(data)
    report.preprocessing.append(("loading", f"{bytes_text(images.nbytes)} stay on the device"))
    return report


def _folder(
    data: DecodedImages, image_shape: tuple[int, int, int], model: AdversarialModule, labelled: bool = True
) -> DataReport:
    """Report on files that become images (C, H, W); some may be unreadable. Leave out their classes if nobody uses them."""
    splits = data.files.values()
    found = data.survey()
    labels = Counter(data.class_names[label] for files in splits for label in files.classes or () if labelled)
    corrupt = [plain(f"{path} ({why})") for split in data.files for path, why in data.corrupt(split).items()]
    train = len(data.files["train"].paths) - len(data.corrupt("train"))
    return DataReport(
        _contents(data, found, labels, corrupt, data.copies()),
        _preprocessing(data, image_shape, found),
        _suggestions(data, image_shape, model, found, labels, train),
    )


def _contents(data: DecodedImages, found: Survey, labels: Counter[str], corrupt: list[str], copies: int) -> Rows:
    train, test = data.files["train"], data.files["test"]
    count = data.num_found + len(test.paths)
    chosen = "" if data.subset is None else f" (--data.subset, of {data.num_found:,})"
    rows = [
        (data.kind, plain(str(data.root))),
        (
            data.counted,
            f"{count:,}: {len(train.paths):,} to train on{chosen}, {len(test.paths):,} held out ({plain(data.held_out)})",
        ),
    ]
    rows += [("labels", plain(str(data.label_file.path)))] if data.label_file is not None else []
    rows += _classes(labels) + _attributes(data)
    if found.sizes:
        (small_w, small_h), (w, h), (large_w, large_h) = (found.sizes[i] for i in (0, len(found.sizes) // 2, -1))
        sizes = f"smallest {small_w}x{small_h}, median {w}x{h}, largest {large_w}x{large_h}"
        rows.append(("width x height", f"{sizes} pixels"))
    rows += [(name, _counts(dict(of.most_common()))) for name, of in (("formats", found.formats), ("modes", found.modes))]
    if data.others:
        suffixes = Counter(plain(path.suffix.lower() or "no suffix") for path in data.others)
        kinds = _counts(dict(suffixes.most_common(FILES_NAMED)))
        rows.append(("ignored", f"{_files(len(data.others))} without an image: {kinds}"))
    if copies:
        rows.append(("copies", f"{_files(copies)} with the same bytes as another"))
    if corrupt:
        rows.append(("unreadable", _files(len(corrupt)) + ":"))
        rows += [("", line) for line in corrupt[:FILES_NAMED]]
        rows += [("", f"and {len(corrupt) - FILES_NAMED:,} more")] if len(corrupt) > FILES_NAMED else []
    return rows


def _preprocessing(data: DecodedImages, image_shape: tuple[int, int, int], found: Survey) -> Rows:
    _, height, width = image_shape
    share = found.cropped(height, width)
    cropped = f"; {share:.0%} of an image is cut off, on average" if share else ""
    kept = {"center": "the centre is kept", "random": "a random part is kept, another one at each use"}
    covering = f"resized to cover a height of {height} and a width of {width} pixels (Lanczos)"
    rows = [("size", f"{size_text(image_shape)}: {covering}, and {kept[data.crop]}{cropped}")]
    if smaller := found.smaller_than(height, width):
        rows.append(("enlarged", f"{_files(smaller)} with a lower height or width"))
    grey, total, channels = found.grey, len(found.sizes), image_shape[0]
    count, what = (total - grey, "colour is lost") if channels == 1 else (grey, "grey as three equal channels")
    rows += [("colour", f"{what} in {_files(count)}")] if count else []
    if channels == 4:
        rows.append(("transparent", f"{_files(found.transparent)}, others are opaque; metrics put them on white"))
    elif found.transparent:
        rows.append(("transparent", f"{_files(found.transparent)}, put on white"))
    rows += [("values", sentence) for sentence in data.facts("train").sentences()]
    if data.balance:
        counts = data.class_counts("train")
        draws = counts.total() / len(counts)
        shown = counts.most_common() if len(counts) <= CLASSES_SHOWN else [counts.most_common()[0], counts.most_common()[-1]]
        times = ", ".join(
            f"{plain(name)} {count_text(count, 'image')}, each {draws / count:.2g} times" for name, count in shown
        )
        rows.append(("balance", f"each class is drawn {draws:,.0f} times an epoch: {times}"))
    return [*rows, ("loading", data.loading("train"))]


def _suggestions(
    data: DecodedImages,
    image_shape: tuple[int, int, int],
    model: AdversarialModule,
    found: Survey,
    labels: Counter[str],
    train: int,
) -> list[str]:
    """Suggest changes, each with its flag."""
    suggestions = []
    if train < FEW_IMAGES and isinstance(model, TwoNetworks) and model.augmentation is None:
        suggestions.append(
            f"{train:,} images are few, and the discriminator may memorise them: add --model.augmentation DiffAugment"
        )
    if len(labels) > 1 and not model.generator.conditional:
        suggestions.append(f"the networks do not see the {len(labels)} classes: to draw samples of a class, add {CONDITIONED}")
    if data.condition_names and not model.generator.conditional:
        suggestions.append(f"the networks do not see the attributes: to draw samples with chosen ones, add {CONDITIONED}")
    if not data.balance and labels and max(labels.values()) > UNEVEN_RATIO * min(labels.values()):
        (most, many), (least, few) = labels.most_common()[0], labels.most_common()[-1]
        suggestions.append(
            f"the classes are uneven ({plain(least)} has {few:,} images, {plain(most)} {many:,}), and so samples will be: to "
            "draw all equally often, add --data.balance true"
        )
    if smaller := found.smaller_than(*image_shape[1:]):
        suggestions.append(
            f"{_files(smaller)} will be blurred, because they are enlarged: remove them, or use a smaller --data.image_size"
        )
    if (share := found.cropped(*image_shape[1:])) > LARGE_CROP and data.crop == "center":
        suggestions.append(
            f"{share:.0%} of an image is cut off, on average: if other parts matter, add --data.crop random or crop "
            "the images yourself"
        )
    if image_shape[0] == 4 and not found.transparent:
        suggestions.append("no image is transparent: use --data.channels 3")
    if image_shape[0] != 1 and found.modes and set(found.modes) <= GREY:
        suggestions.append("all images are grey: use --data.channels 1")
    return suggestions


def _classes(labels: Counter[str]) -> Rows:
    """Count the images of each class, in order; if there are many classes, only of the largest and the smallest."""
    if len(labels) <= CLASSES_SHOWN:
        return [("classes", _counts(dict(sorted(labels.items()))))] if labels else []
    ordered = labels.most_common()
    (most, many), (least, few) = ordered[0], ordered[-1]
    return [("classes", f"{len(labels):,}, from {plain(most)} with {many:,} to {plain(least)} with {few:,}")]


def _attributes(data: ImageDataModule) -> Rows:
    """Describe each attribute of the training images, in order; if there are many, the first ones."""
    if not data.condition_names or (values := data.labels("train")) is None:
        return []
    ranges = zip(
        data.condition_names, *(each.tolist() for each in (values.amin(0), values.mean(0), values.amax(0))), strict=True
    )
    rows = [f"{plain(name)} from {low:.4g} to {high:.4g}, mean {mean:.4g}" for name, low, mean, high in ranges]
    rows[CLASSES_SHOWN:] = [f"and {len(rows) - CLASSES_SHOWN} more"] if len(rows) > CLASSES_SHOWN else []
    return [("attributes" if number == 0 else "", row) for number, row in enumerate(rows)]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{plain(name)} {count:,}" for name, count in counts.items())


def _files(count: int) -> str:
    return count_text(count, "file")
