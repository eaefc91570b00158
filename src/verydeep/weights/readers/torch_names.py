"""Finds the convolutions of a VGG in a state dict, by the names that programs and people give to them.

Two kinds of names are read, under prefixes of any length: numbers in a container, as ``features.0``, ``features_0``,
``0`` or ``features.0.conv``, and labels of Table 1, as ``conv1_1``, ``conv_1_1`` or ``block1_conv1``.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from torch import Tensor

from verydeep.errors import UserError, printable

_WRAPPERS: Final = ("module", "_orig_mod")  # what DataParallel, DistributedDataParallel and torch.compile add
_WORD: Final = r"(?:conv\w*?|bn\w*?|batch_?norm\w*?|norm\w*?)"
_NUMBERED: Final = tuple(
    re.compile(rf"(?P<container>(?:.*[._])?)(?P<number>\d{{1,4}}){inner}\.(?P<part>\w+)", re.IGNORECASE)
    for inner in ("", rf"\.(?:{_WORD}\d?|[01])")
)
_LABELLED: Final = re.compile(
    rf"(?P<prefix>(?:.*\.)?)(?:{_WORD}|block|stage)_?(?P<block>[1-5])[._]{{1,2}}(?:{_WORD}_?)?(?P<index>[1-4])"
    rf"(?:[._]{_WORD}|\.[01])?\.(?P<part>[a-z]\w+)",
    re.IGNORECASE,
)
_FEWEST: Final = 5  # convolutions that a net has at least


@dataclass(frozen=True, kw_only=True)
class Convolutions:
    """The convolutions of a state dict.

    Attributes:
        tensors: by our names.
        container: of their numbers, such as ``vgg.features.``; None where they have labels.
        rest: the other tensors of the net, by their names in the file.
        outside: names in the file of tensors of something else.
        prefix: what stands before all names of the net, with its dot.
    """

    tensors: dict[str, Tensor] = field(repr=False)
    container: str | None = None
    rest: dict[str, Tensor] = field(repr=False)
    outside: tuple[str, ...] = ()
    prefix: str = ""


def plain_name(name: str) -> str:
    """Takes off what wrappers add, wherever they stand: ``features.module.0.weight`` is ``features.0.weight``."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def find_convolutions(state: Mapping[str, Tensor]) -> Convolutions | None:
    """Finds the convolutions of the net in a state dict; None where no names are those of any.

    Raises:
        UserError: there are two nets, or a layer is where a VGG has none.
    """
    plain = {plain_name(name): name for name in state}
    if len(plain) < len(state):
        twice = next(name for name in state if plain[plain_name(name)] != name)
        raise UserError(f"{twice} is there twice, as {plain[plain_name(twice)]} too")
    kernels = [name for name, theirs in plain.items() if name.endswith(".weight") and state[theirs].ndim == 4]
    labelled = Counter(found["prefix"] for name in kernels if (found := _LABELLED.fullmatch(name)))
    numbered, pattern = max(
        ((Counter(found["container"] for name in kernels if (found := row.fullmatch(name))), row) for row in _NUMBERED),
        key=lambda pair: max(pair[0].values(), default=0),
    )
    best = max([*labelled.values(), *numbered.values()], default=0)
    if best < _FEWEST:
        return None
    is_labelled = best in labelled.values()
    places = [place for place, count in (labelled if is_labelled else numbered).items() if count == best]
    if len(places) > 1:
        if {"features.", "net."} == set(places):
            raise UserError("net.* is there twice, as features.* too")
        shown = " and ".join(repr(printable(place[:60])) for place in places[:3])
        raise UserError(f"it has {len(places)} nets of {best} convolutions, under {shown}: save one of them alone")
    place = places[0]
    named = _by_labels(place, plain) if is_labelled else _by_numbers(place, pattern, plain, state)
    tensors = {ours: state[plain[name]] for ours, name in named.items()}
    used = set(named.values())
    has_head = any(name.startswith(place) and name not in used for name in plain)
    prefix = place if is_labelled and has_head else _prefix_of(place)
    return Convolutions(
        tensors=_with_biases(tensors),
        container=None if is_labelled else place,
        rest={theirs: state[theirs] for name, theirs in plain.items() if name not in used and name.startswith(prefix)},
        outside=tuple(theirs for name, theirs in plain.items() if not name.startswith(prefix)),
        prefix=prefix,
    )


def _prefix_of(container: str) -> str:
    """What stands before a net whose convolutions are numbered in this container; in fastai's they are in 0.0."""
    parts = container.rstrip("._").split(".")
    while len(parts) > 1 and parts[-1].isdigit():
        parts.pop()
    return "" if len(parts) < 2 or parts[-1].isdigit() else ".".join(parts[:-1]) + "."


def _with_biases(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adds biases of zeros to convolutions without any, as they stand before a batch norm."""
    for name in [name for name in tensors if re.fullmatch(r"conv\d_\d\.weight", name)]:
        bias = name.replace("weight", "bias")
        if bias not in tensors:
            tensors[bias] = tensors[name].new_zeros(len(tensors[name]))
    return tensors


def _by_labels(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """Our names of tensors by the block and index in theirs."""
    found = [match for name in names if (match := _LABELLED.fullmatch(name)) and match["prefix"] == prefix]
    norms = {match[0].rpartition(".")[0] for match in found if match["part"] == "running_mean"}
    named: dict[str, str] = {}
    for match in found:
        kind = "bn" if match[0].rpartition(".")[0] in norms else "conv"
        ours = f"{kind}{match['block']}_{match['index']}.{match['part']}"
        if ours in named:
            raise UserError(f"{match[0]} is there twice, as {named[ours]} too")
        named[ours] = match[0]
    return named


def _by_numbers(
    container: str, pattern: re.Pattern[str], names: Mapping[str, str], state: Mapping[str, Tensor]
) -> dict[str, str]:
    """Our names of tensors by the numbers in theirs; a pooling shows as a number that is left out."""
    modules: dict[tuple[int, bool, str], dict[str, str]] = {}
    for name in names:
        match = pattern.fullmatch(name)
        if match and match["container"] == container:
            path = name.rpartition(".")[0]
            is_norm = f"{path}.running_mean" in names or (
                f"{path}.weight" in names and state[names[f"{path}.weight"]].ndim == 1
            )
            modules.setdefault((int(match["number"]), is_norm, path), {})[match["part"]] = name
    kernels = [key for key, parts in modules.items() if "weight" in parts and state[names[parts["weight"]]].ndim == 4]
    last = max(number for number, _, _ in kernels)
    has_inner = any(path != f"{container}{number}" for number, _, path in kernels)
    step = 1 if has_inner else 2  # numbers from a convolution to the next: it and its ReLU, or both in one
    named: dict[str, str] = {}
    block, index, following, label, before = 1, 0, min(number for number, _, _ in kernels), "", -1
    for (number, is_norm, path), parts in sorted(modules.items(), key=lambda item: item[0]):
        if is_norm:
            if number > last + 1:
                continue  # of the head
            if not label or number != before + (0 if has_inner else 1):
                raise UserError(f"{path} is not where a VGG has a batch norm: right after its convolution")
            ours = f"bn{label}"
            following += 0 if has_inner else 1
        elif (number, is_norm, path) in kernels:
            if number == following + 1 and index:
                block, index = block + 1, 0
            elif number != following:
                raise UserError(f"{path} is not where a VGG has a convolution: {following} was expected")
            index += 1
            label, before, following = f"{block}_{index}", number, number + step
            ours = f"conv{label}"
        elif number <= last:
            raise UserError(f"{path} is no convolution and no batch norm, and stands between them: no VGG has it")
        else:
            continue
        named |= {f"{ours}.{part}": name for part, name in parts.items()}
    return named
