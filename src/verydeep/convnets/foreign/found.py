"""What a foreign file of weights holds, in our terms: what every reader gives."""

from dataclasses import dataclass, field, replace

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
        squeezed_crops: crops for which its program pools the last map to the side of fc6, as torchvision does for any,
            so that fc6 can be rewritten exactly for a net trained on them.
    """

    kind: str
    tensors: dict[str, Tensor] = field(repr=False)
    mean: tuple[float, float, float]
    divisor: tuple[float, float, float]
    convention: str
    classes: tuple[str, ...] | None = None
    features_only: bool = False
    squeezed_crops: range = range(0)

    def with_input(
        self,
        *,
        mean: tuple[float, float, float] | None = None,
        divisor: tuple[float, float, float] | None = None,
        bgr: bool = False,
    ) -> "ForeignWeights":
        """Another convention for the pixels than the usual one of its program, as the one who trained it knows it.

        Args:
            mean: subtracted from the pixels, RGB in 0..255.
            divisor: divides them afterwards.
            bgr: whether the first convolution was trained on blue, green, red.
        """
        tensors = self.tensors
        if bgr and "conv1_1.weight" in tensors:
            tensors = tensors | {"conv1_1.weight": tensors["conv1_1.weight"].flip(1)}
        return replace(
            self,
            tensors=tensors,
            mean=mean or self.mean,
            divisor=divisor or self.divisor,
            convention="as given by --mean, --divisor and --bgr" if mean or divisor or bgr else self.convention,
        )
