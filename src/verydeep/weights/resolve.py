"""A MODEL (a model file, a run folder or a name) becomes a model file, and that a net.

Published weights are fetched on first use, checked, and made a model file once. A file that nobody gives a hash for is
used only by somebody who has seen its sha256 and says so.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from verydeep.class_names import read_class_names
from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write, remove_leftovers_of
from verydeep.nets.architecture import find_architecture
from verydeep.nets.model_card import ModelCard, make_card
from verydeep.nets.model_file import CHECKPOINT_FILE, MODEL_FILE, PREVIOUS_CHECKPOINT_FILE, ModelFile, load_file, save
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress
from verydeep.weights.published import (
    SHIPPED,
    PublishedWeights,
    find_published,
    known_weights,
    shipped_file,
    weights_folder,
)

_PINS_FILE = ".pins.json"
"""In the folder of weights: the sha256 that each publisher's file had when it was first fetched."""

TRANSFER_FILE = "model.json"
"""Name of the card of a classifier of descriptors in its folder."""


def is_transfer_folder(model: str | Path) -> bool:
    """Whether a MODEL is a folder with a classifier of descriptors, which is more than one net's file."""
    return (Path(model) / TRANSFER_FILE).is_file()


def find_model_file(model: str | Path) -> Path:
    """Finds the file of a MODEL; published weights are fetched when they are first asked for."""
    path = Path(model)
    if path.is_file():
        return path
    if path.is_dir():
        for name in (MODEL_FILE, CHECKPOINT_FILE, PREVIOUS_CHECKPOINT_FILE):
            if (path / name).is_file():
                return path / name
        if is_transfer_folder(path):
            raise UserError(
                f"{path} is a classifier of descriptors, for predict and evaluate: this needs one net in one file"
            )
        raise UserError(f"{path} holds no {MODEL_FILE}: give the run folder of a training that has begun")
    if str(model) in SHIPPED:
        return shipped_file(str(model))
    if row := find_published(str(model)):
        return fetch_weights(row.name)
    begin = f"no model {str(model)!r}"
    with suppress(UsageError):
        begin = f"{model} is an architecture, {find_architecture(str(model))[0].title}, and no weights"
    raise UserError(
        f"{begin}: give a model file (.safetensors), a run folder made by train, or a published name "
        "(verydeep weights list)"
    )


def fetch_weights(name: str, *, accept_hash: str | None = None, progress: Progress = ignore_progress) -> Path:
    """Returns the model file of published weights; where it is not here yet it is fetched, checked and made.

    Args:
        name: of published weights.
        accept_hash: the sha256 of the publisher's file, as somebody who trusts it gives it.
        progress: called as the download goes.

    Raises:
        UserError: no network, a file that is not what was published, one whose hash nobody gives and nobody has
            accepted, or a folder that cannot be written.
        UsageError: an unknown name.
    """
    from verydeep.download import check, digest_of, download  # urllib3, for those who fetch

    row = known_weights(name)
    if row.is_here:
        source = str(ModelFile(row.file).card.source) if accept_hash is not None else ""
        if accept_hash is not None and accept_hash.lower() != source.rpartition(" sha256 ")[2]:
            raise UserError(f"{row.file} was made of another file ({source}): remove it to fetch it again")
        return row.file
    with _locked(row.name):
        if not row.is_here:  # another process may have made it meanwhile
            published = weights_folder() / row.file_name
            remove_leftovers_of(published)
            if not published.is_file():
                by_hand = f"put it there by hand as {published}"
                download(row.url, published, digest=row.digest, size=row.size, by_hand=by_hand, progress=progress)
            elif row.digest is not None:
                check(published, row.digest, progress)
            sha256 = digest_of(published, "sha256", f"checking {published.name}", progress)
            _check_accepted(row, published, sha256, accept_hash)
            with _locked("all"):
                for file in (row.file, weights_folder() / _PINS_FILE):
                    remove_leftovers_of(file)
                for left in weights_folder().glob(".tmp??????"):  # of safetensors, in a process that was killed
                    left.unlink(missing_ok=True)
                _pin(row, sha256)
                _convert(row, published, sha256, progress)
            published.unlink()
    return row.file


def _check_accepted(row: PublishedWeights, published: Path, found: str, accept_hash: str | None) -> None:
    if accept_hash is not None and accept_hash.lower() != found:
        raise UserError(
            f"{published} has the sha256 {found}, not the one accepted: see that both are of the same file, or remove "
            "it to fetch it again"
        )
    expected = row.sha256 or pinned_hash(row)
    if accept_hash is None and expected is not None and found != expected:
        raise UserError(
            f"{published} has the sha256 {found}, and not {expected}, which "
            + ("others have measured" if row.sha256 else "it had when it was first fetched")
            + f": remove it; or, if its publisher has changed it, say verydeep weights fetch {row.name} --accept-hash "
            + found
        )
    if row.digest is None and accept_hash is None and expected is None:
        raise UserError(
            f"nobody publishes a hash of {row.url}: the file that came has the sha256 {found}; if that is the file you "
            f"mean, say verydeep weights fetch {row.name} --accept-hash {found}"
        )


def pinned_hash(row: PublishedWeights) -> str | None:
    """The sha256 of the publisher's file when it was first fetched; None where it was not, or the record is damaged."""
    pinned = _read_pins().get(row.name)
    return pinned if isinstance(pinned, str) else None


def _pin(row: PublishedWeights, sha256: str) -> None:
    with atomic_write(weights_folder() / _PINS_FILE) as temporary:
        temporary.write_text(json.dumps(_read_pins() | {row.name: sha256}, indent=2) + "\n", encoding="utf-8")


def _read_pins() -> dict[str, object]:
    with suppress(OSError, ValueError):
        pins = json.loads((weights_folder() / _PINS_FILE).read_text(encoding="utf-8"))
        if isinstance(pins, dict):
            return pins
    return {}


def _convert(row: PublishedWeights, published: Path, sha256: str, progress: Progress) -> None:
    from verydeep.weights.imported import assemble
    from verydeep.weights.readers import read_weights  # every reader: a tenth of a second

    what = f"making the model file of {row.name}"
    progress(what, 0, 2)
    net = assemble(read_weights(published))
    is_what = (net.geometry.architecture.name, net.geometry.batch_norm, net.features_only)
    if is_what != (row.architecture, row.batch_norm, row.features_only):
        raise UserError(f"{row.url} gave {net.geometry.title}: that is not {row.name}; remove {published}")
    progress(what, 1, 2)
    net.train_scale = row.train_scale
    names = read_class_names("imagenet")  # the order of all these nets is that of the WordNet identifiers
    if net.classes is None and not net.features_only and net.geometry.num_classes == len(names):
        net.classes = names
    card = make_card(
        net,
        licence=row.licence,
        source=f"{row.publisher}: {row.url}, sha256 {sha256}",
        results=() if row.errors is None else (row.errors.as_record(),),
        selected_on=row.selected_on,
    )
    save(net, row.file, card=card)
    progress(what, 2, 2)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Lets one process at a time fetch weights of a name; the others wait and find them."""
    from filelock import FileLock

    try:
        weights_folder().mkdir(parents=True, exist_ok=True)
        with FileLock(weights_folder() / f".{name}.lock"):
            yield
    except OSError as error:
        raise UserError(
            f"{weights_folder()} cannot be written ({error.strerror or error}): make room, or set VERYDEEP_CACHE to "
            "another folder"
        ) from error


def load(model: str | Path, *, features_only: bool = False, precision: str = "fp32") -> VeryDeep:
    """Loads a net, in evaluation mode.

    Weights stored in the precision asked for are mapped from the file and read when they are first used.

    Args:
        model: a model file, a run folder or a published name.
        features_only: take the convolutions and leave the fully connected layers on the disk: for features and
            activations up to ``pool5``.
        precision: of the weights in memory, whatever the file stores: fp32, bf16 or fp16.

    Raises:
        UserError: there is no such file, it is no model file, or a tensor does not fit its architecture.
        UsageError: an unknown precision.
    """
    return load_file(find_model_file(model), features_only=features_only, precision=precision)


def read_card(model: str | Path) -> ModelCard:
    """Reads what a model file says of itself, and no weights.

    Raises:
        UserError: there is no such file, or it is no model file.
    """
    return ModelFile(find_model_file(model)).card


def unfinished(model: str | Path) -> str | None:
    """Says that a model is what a training that has not ended had at last; None where it is not."""
    path = Path(model)
    if path.is_dir() and not is_transfer_folder(path) and find_model_file(path).name != MODEL_FILE:
        return f"the training in {path} has not ended: this is its net so far"
    return None
