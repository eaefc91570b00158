"""Localisers of random weights, and pictures with boxes."""

from dataclasses import dataclass, field

import numpy as np
import torch

from conftest import scene
from small_nets import make_net
from verydeep import VeryDeep
from verydeep.data.image_set import ImageSet, array_images
from verydeep.images.augment import CropPlace
from verydeep.images.geometry import centred, rescale, rescaled_size, size_of
from verydeep.localisation.boxes import clip, decode
from verydeep.localisation.merging import merge
from verydeep.localisation.result import LocalisationResult

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")


@dataclass
class FakeLocaliser:
    net: VeryDeep
    regression: str = "pcr"
    classes: tuple[str, ...] = CLASSES
    merge_threshold: float = 0.5
    test_scales: tuple[int, ...] | None = None
    classifier: str | None = None


@dataclass(frozen=True)
class FakeBoxed:
    images: ImageSet
    boxes: list[np.ndarray] = field(default_factory=list)


def make_localiser(regression="pcr", *, seed=3, classes=CLASSES, crop=64, name="A", **options):
    """A net whose boxes lie about the middle of each crop."""
    count = 4 * (1 if regression == "scr" else len(classes))
    net = make_net(name, seed=seed, crop=crop, num_classes=count)
    with torch.no_grad():
        net.fc8.bias.copy_(torch.tensor([0.5, 0.5, 0.6, 0.4]).repeat(count // 4))
        net.fc8.weight.mul_(0.01)
    return FakeLocaliser(net, regression, classes, **options)


def make_classifier(*, seed=5, classes=CLASSES, crop=64, name="A"):
    net = make_net(name, seed=seed, crop=crop, num_classes=len(classes))
    net.classes = classes
    return net


def boxed_images(count=6, classes=CLASSES, sizes=((150, 110), (96, 130), (128, 128)), split="val"):
    """Pictures of several sizes, each with one box or two."""
    generator = np.random.default_rng(0)
    arrays, boxes = {}, []
    for index in range(count):
        width, height = sizes[index % len(sizes)]
        arrays[f"{index}.png"] = np.asarray(scene(index, width, height))
        edges = np.sort(generator.random((1 + index % 2, 2, 2)) * (width, height), 1)
        boxes.append(edges.reshape(-1, 4))
    labels = np.arange(count) % len(classes)
    return FakeBoxed(array_images(split, classes, labels, "pictures", arrays), boxes)


def numbers(net, pixels):
    with torch.inference_mode():
        return net.score_map(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])[0].numpy()


def by_hand(localiser, classifier, pixels, scales, threshold=0.5):
    """The best box of each class and the class posteriors, by loops."""
    boxes, scores, posteriors = {name: [] for name in CLASSES}, {name: [] for name in CLASSES}, []
    for scale in scales:
        size = rescaled_size(size_of(pixels), scale)
        view = rescale(pixels, scale, 32)
        left, top, width, _ = centred(size, view.shape[1], view.shape[0])
        for mirrored in (False, True):
            seen = view[:, ::-1] if mirrored else view
            codes, rated = numbers(localiser.net, seen), numbers(classifier, seen)
            posteriors.append(softmax(rated.mean((1, 2))))
            for row, column in np.ndindex(codes.shape[1:]):
                at = left + (width - 32 * column - 64 if mirrored else 32 * column)
                place = CropPlace(
                    size=size, original=size_of(pixels), left=at, top=top + 32 * row, crop=64, mirrored=mirrored
                )
                here = softmax(rated[:, row, column])
                for index, name in enumerate(localiser.classes):
                    group = 0 if localiser.regression == "scr" else index
                    boxes[name].append(decode(codes[4 * group : 4 * group + 4, row, column], place))
                    scores[name].append(here[classifier.classes.index(name)])
    best = {}
    for name in CLASSES:
        merged = merge(np.array(boxes[name]), np.array(scores[name])[:, None], threshold)
        best[name] = clip(merged.corners[merged.scores[:, 0].argmax()], size_of(pixels))
    return best, dict(zip(classifier.classes, np.mean(posteriors, 0), strict=True))


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum()


def made_up(count=200, classes=7, top=5, seed=0):
    generator = np.random.default_rng(seed)
    objects = [np.array([[10.0, 10, 110, 110]])] * count
    shift = generator.random((count, top + 1)) * 60
    boxes = np.stack([10 + shift, 10 + 0 * shift, 110 + shift, 110 + 0 * shift], -1)
    posteriors = generator.random((count, classes)).astype(np.float32)
    return LocalisationResult(
        labels=generator.integers(0, classes, count),
        names=[str(number) for number in range(count)],
        classes=tuple("abcdefghij"[:classes]),
        split="val",
        objects=objects,
        boxes=boxes[:, -1],
        ranked=np.argsort(-posteriors)[:, :top],
        ranked_boxes=boxes[:, :top],
        posteriors=posteriors,
        protocol="full" if top else "centre",
        test_scales=(64,),
        merge_threshold=0.5,
    )
