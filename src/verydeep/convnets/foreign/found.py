"""What a foreign file of weights holds, in our terms: what every reader gives."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ForeignWeights:
    """Weights of another program in the names, shapes and channel order of ours.

    Attributes:
        kind: whose format it is, such as ``torchvision`` or ``keras``.
        tensors: by our names: ``conv1_1.weight`` (o,i,y,x; the first over RGB), ``conv1_1.bias``, ``bn1_1.*`` as torch
            names them, ``fc6.weight`` (o,512,y,x), ``fc7.weight``, ``fc8.weight`` (o,i,1,1).
        mean: subtracted from the pixels, RGB in 0..255.
        divisor: divides them afterwards.
        convention: what the file's own program does to the pixels, in words.
        classes: names of the classes in the order of the scores, where the file has them.
        features_only: whether it has convolutions and no fully connected layers.
    """

    kind: str
    tensors: dict[str, Tensor] = field(repr=False)
    mean: tuple[float, float, float]
    divisor: tuple[float, float, float]
    convention: str
    classes: tuple[str, ...] | None = None
    features_only: bool = False
