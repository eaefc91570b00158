"""Which images a model is tested on, and which of its scores are those of their classes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from verydeep.data.dataset import DataSet, train_on_all
from verydeep.data.dataset import fingerprint as fingerprint_of
from verydeep.data.folder import open_labelled
from verydeep.data.image_set import ImageSet
from verydeep.data.listing import class_folders, composed, image_files
from verydeep.data.open import AnyData, note_passed_over, open_data
from verydeep.data.shards.dataset import is_shards
from verydeep.errors import UserError
from verydeep.images.decode import is_image_file
from verydeep.nets.boxes_card import BoxesCard, refuse_boxes
from verydeep.nets.described import DescribedNet
from verydeep.progress import Progress
from verydeep.testing.result import is_saved_posteriors, load_posteriors
from verydeep.testing.transferred import TransferredModel
from verydeep.weights.resolve import is_transfer_folder, read_card

_MOST_SHOWN = 5

Model = DescribedNet | str | Path
"""A net, a model file, a run folder, a folder that ``transfer`` wrote, or a file of saved posteriors."""


def open_images(
    data: AnyData | ImageSet,
    models: Sequence[Model],
    split: str | None,
    progress: Progress,
    note: Callable[[str], None] | None,
) -> tuple[ImageSet, str, str]:
    """Opens the images to test on; with them the name of their data set and its fingerprint."""
    for model in models:
        refuse_boxes(_boxes_of(model))
    if isinstance(data, ImageSet):
        return data, "", ""
    if (found := _open_unseen(data, models, split)) is not None:
        return found, Path(str(data)).resolve().name, fingerprint_of(found)
    opened = open_data(data, progress)
    note_passed_over(opened, note)
    return opened.split(split or _default_split(opened, models, note)), opened.name, opened.fingerprint


def _open_unseen(data: AnyData, models: Sequence[Model], split: str | None) -> ImageSet | None:
    """Opens a folder that has no train/, or fewer classes than the models: these say what the classes are."""
    if not isinstance(data, str | Path):
        return None
    path = Path(data)
    _check_labelled(path)
    if not path.is_dir() or is_shards(str(data)):
        return None
    classes = {_classes_of(model) for model in models}
    if len(classes) != 1 or (known := classes.pop()) is None:
        return None
    return open_labelled(path, known, split)


def _classes_of(model: Model) -> tuple[str, ...] | None:
    """Names of the classes of a model, in one Unicode form; None where it has none."""
    classes: Sequence[str] | None
    if isinstance(model, DescribedNet):
        classes = model.classes
    elif is_saved_posteriors(model):
        classes = load_posteriors(model).classes
    elif is_transfer_folder(model):
        classes = TransferredModel(model).classes
    else:
        classes = read_card(model).classes
    return _composed(classes)


def _composed(classes: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if classes is None else tuple(map(composed, classes))


def _boxes_of(model: Model) -> BoxesCard | None:
    """What the outputs of a localiser are; None of a classifier."""
    if isinstance(model, DescribedNet):
        return model.boxes
    return None if is_saved_posteriors(model) or is_transfer_folder(model) else read_card(model).boxes


def _trained_on(model: Model, data: DataSet) -> bool | None:
    """Whether a model was trained on images of a data set; None where that is not known."""
    if isinstance(model, DescribedNet) or is_saved_posteriors(model) or is_transfer_folder(model):
        return None
    card = read_card(model).data
    if card is None:
        return None
    return card.name == data.name or card.fingerprint in (data.fingerprint, train_on_all(data).fingerprint)


def _default_split(data: DataSet, models: Sequence[Model], note: Callable[[str], None] | None) -> str | None:
    """All images of data that no model was trained on and that have no such split themselves; what is left is said."""
    images = data.split()
    if images.split not in data.held_out:
        return None
    trained = [_trained_on(model, data) for model in models]
    if all(one is False for one in trained):
        return "all"
    if note is not None:
        left = sum(map(len, data.splits.values())) - len(images)
        why = "the model was trained on" if all(trained) else "the model may have been trained on"
        note(
            f"measured on the {len(images):,} images that are held out as {images.split}, without the {left:,} others, "
            f"which {why}: --split all takes all"
        )
    return None


def _check_labelled(path: Path) -> None:
    if path.is_file() and is_image_file(path):
        raise UserError(f"{path} is an image: error rates need labelled images; verydeep predict names its classes")
    if path.is_dir() and not class_folders(path) and image_files(path):
        raise UserError(
            f"{path} holds images without labels: error rates need a folder for each class; for the classes of "
            "images without labels use verydeep predict"
        )


def check_classes(net: DescribedNet, images: ImageSet) -> None:
    """Checks that the classes of a net are those of the images."""
    net.require_classes()
    if net.geometry.num_classes != len(images.classes):
        raise UserError(
            f"the net has {net.geometry.num_classes} classes and the data {len(images.classes)}: "
            "test on the data it was trained for"
        )
    names, expected = _composed(net.classes), tuple(map(composed, images.classes))
    if names is not None and names != expected:
        ours, theirs = next(pair for pair in zip(names, expected, strict=True) if pair[0] != pair[1])
        raise UserError(f"the net's classes are not the data's: it has {ours!r} where the data have {theirs!r}")


def class_order(net: DescribedNet, images: ImageSet) -> list[int] | None:
    """Finds the net's score of each class of the data by its name; None where they have one order, or no names.

    Raises:
        UserError: the classes are not the net's.
    """
    names, expected = _composed(net.classes), tuple(map(composed, images.classes))
    if names is not None and len(set(names)) == len(names) and names != expected:
        net.require_classes()
        if set(names) == set(expected):
            return [names.index(name) for name in expected]
    check_classes(net, images)
    return None


def order_note(net: DescribedNet, order: list[int] | None, images: ImageSet) -> str | None:
    """What a reader of error rates should know of the order of the classes."""
    if order is not None:
        return "its classes are those of the data in another order: they are matched by name"
    if net.classes is None and images.classes != tuple(str(index) for index in range(len(images.classes))):
        shown = ", ".join(images.classes[:_MOST_SHOWN]) + (", ..." if len(images.classes) > _MOST_SHOWN else "")
        return (
            f"it has no names of classes: its scores are taken in the order of the data's, {shown}; weights import "
            "--classes gives it names"
        )
    return None
