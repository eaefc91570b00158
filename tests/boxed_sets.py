"""Small drawn images with boxes: a bright square or disc on dark noise."""

import numpy as np

from verydeep.data.boxes.boxed import BoxedImages, BoxedSet
from verydeep.data.image_set import array_images

CLASSES = ("disc", "square")


def drawn(seed: int, label: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture, and the box of its object."""
    generator = np.random.default_rng([11, seed])
    pixels = generator.integers(0, 60, (height, width, 3), dtype=np.uint8)
    side = int(generator.integers(12, 28))
    left, top = int(generator.integers(0, width - side)), int(generator.integers(0, height - side))
    y, x = np.mgrid[:height, :width]
    inside = (x >= left) & (x < left + side) & (y >= top) & (y < top + side)
    if label == 0:
        middle = (left + side / 2 - 0.5, top + side / 2 - 0.5)
        inside = (x - middle[0]) ** 2 + (y - middle[1]) ** 2 <= (side / 2) ** 2
    pixels[inside] = (230, 120, 40) if label else (60, 200, 230)
    return pixels, np.array([[left, top, left + side, top + side]], float)


def boxed_images(split: str, count: int, *, num_classes: int = 2, first: int = 0) -> BoxedImages:
    labels = np.arange(count) % num_classes
    made = [drawn(first + number, int(label), 48, 44 + number % 3) for number, label in enumerate(labels)]
    arrays = {f"{split}/{number}.png": pixels for number, (pixels, _) in enumerate(made)}
    nothing = np.zeros(0, np.int64), np.zeros((0, 4))
    images = array_images(split, CLASSES[:num_classes], labels, "drawn", arrays)
    return BoxedImages(images=images, boxes=[corners for _, corners in made], others=[nothing] * count)


def boxed_set(count: int = 48, *, num_classes: int = 2) -> BoxedSet:
    return BoxedSet(
        name="drawn",
        train=boxed_images("train", count, num_classes=num_classes),
        val=boxed_images("val", 12, num_classes=num_classes, first=1000),
        test=boxed_images("test", 12, num_classes=num_classes, first=2000),
        mirror=True,
        validation="drawn apart",
        fingerprint=f"drawn {count} {num_classes}",
        findings=(),
    )
