"""How a net is tested: protocols by name, and how each averages: over crops, mirror images, scales and methods.

Paper: sections 3.2, 4.1, 4.2 and 4.3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float, UInt8
from numpy import ndarray

from verydeep.errors import UsageError
from verydeep.images import views
from verydeep.nets.architecture import scaled_length
from verydeep.nets.described import DescribedNet
from verydeep.speed.backend import Backend
from verydeep.speed.tiling import adaptive_score_map, score_map, score_map_rounded_up

_SCALE_STEP = 32
"""Distance of the test scales of a net trained at one S, pixels at crop 224 (section 4.2)."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to get posteriors of an image at one test scale: the mean of those of its parts."""

    view: views.View  # gives the parts
    parts: int  # mirrored ones not counted
    score_map: Callable[[Backend, UInt8[ndarray, "n h w 3"]], Float[ndarray, "n k i j"]] = score_map
    rounds_up: bool = False  # needs a backend whose pooling rounds sizes up
    is_dense: bool = False  # a part may have several positions in its score map


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A way of testing: the mean over methods of the means over test scales, parts and their mirror images.

    Choice: the mean over positions is taken of the scores, and then the soft-max; all other means are of posteriors.
    """

    name: str
    remark: str
    methods: tuple[Method, ...]  # several count alike
    several_scales: bool = False  # by default
    mirrored: bool = True  # mirrored parts are tested too, where the net's data allow it

    @property
    def rounds_up(self) -> bool:
        return any(method.rounds_up for method in self.methods)

    @property
    def is_dense(self) -> bool:
        """Whether score maps may have several positions in all its methods."""
        return all(method.is_dense for method in self.methods)

    def test_scales(self, net: DescribedNet) -> tuple[int, ...]:
        return self.scales_of(net.train_scale, net.geometry.crop)

    def scales_of(self, train_scale: tuple[int, int], crop: int) -> tuple[int, ...]:
        """The test scales Q, pixels, for a net of a training scale and a crop."""
        return _several_scales(train_scale, crop) if self.several_scales else (_middle(train_scale),)

    def forward_passes(self, net: DescribedNet, scales: Sequence[int]) -> int:
        """Number of parts of an image that the net is applied to, at all scales, mirrored ones too."""
        mirrored = self.mirrored and net.mirror
        return (1 + mirrored) * len(scales) * sum(method.parts for method in self.methods)


_DENSE = Method(view=views.whole, parts=1, is_dense=True)
_GRID = Method(view=views.grid, parts=views.GRID_SIDE**2)

_ROWS = (
    Protocol(
        name="centre",
        remark="the central crop of the image rescaled to Q",
        methods=(Method(view=views.centre, parts=1),),
        mirrored=False,
    ),
    Protocol(
        name="ten-crop",
        remark="the crops at the corners and the centre of the image rescaled to Q, and their mirror images",
        methods=(Method(view=views.corners_and_centre, parts=5),),
    ),
    Protocol(
        name="single",
        remark="dense: the whole image rescaled to Q, and its mirror image, the mean over positions (section 3.2)",
        methods=(_DENSE,),
    ),
    Protocol(
        name="multi-scale",
        remark="dense at several Q (section 4.2)",
        methods=(_DENSE,),
        several_scales=True,
    ),
    Protocol(
        name="multi-crop",
        remark="a grid of 5x5 crops and their mirror images at several Q: 150 crops at three (section 4.3)",
        methods=(_GRID,),
        several_scales=True,
    ),
    Protocol(
        name="dense+multi-crop",
        remark="the mean of multi-scale and multi-crop (section 4.3)",
        methods=(_DENSE, _GRID),
        several_scales=True,
    ),
    Protocol(
        name="caffe",
        remark="dense, with pooling that rounds sizes up as in the authors' Caffe, and nothing trimmed",
        methods=(Method(view=views.untrimmed, parts=1, score_map=score_map_rounded_up, rounds_up=True, is_dense=True),),
    ),
    Protocol(
        name="adaptive",
        remark="the whole image rescaled to Q, its last map pooled to fc6's size, as torchvision's VGG does",
        methods=(Method(view=views.untrimmed, parts=1, score_map=adaptive_score_map),),
        mirrored=False,
    ),
)

PROTOCOLS: dict[str, Protocol] = {row.name: row for row in _ROWS}
"""The protocols by name."""


def find_protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def default_test_scale(net: DescribedNet) -> int:
    """The single test scale Q of a net: S, or the middle of its training scales.

    Paper: section 4.1.
    """
    return _middle(net.train_scale)


def _middle(train_scale: tuple[int, int]) -> int:
    return sum(train_scale) // 2


def default_test_scales(net: DescribedNet) -> tuple[int, ...]:
    """The several test scales Q of a net: S - 32, S and S + 32, or the smallest, middle and largest training scale.

    Choice: the step of 32 scales with the crop; a scale below the crop becomes the crop, and none counts twice.

    Paper: section 4.2.
    """
    return _several_scales(net.train_scale, net.geometry.crop)


def _several_scales(train_scale: tuple[int, int], crop: int) -> tuple[int, ...]:
    (low, high), step = train_scale, scaled_length(_SCALE_STEP, crop)
    scales = (low - step, low, low + step) if low == high else (low, _middle(train_scale), high)
    return tuple(sorted({max(crop, scale) for scale in scales}))


def check_scales(net: DescribedNet, scales: Sequence[int]) -> tuple[int, ...]:
    """Checks that test scales leave room for the crop, and that none would count twice."""
    return check_scales_for(net.geometry.crop, scales)


def check_scales_for(crop: int, scales: Sequence[int]) -> tuple[int, ...]:
    if not scales:
        raise UsageError("no test scales: give one or more, such as 256,384,512")
    for scale in scales:
        if scale < crop:
            raise UsageError(f"test scale {scale} is below the net's crop of {crop}: give that or more")
        if list(scales).count(scale) > 1:
            raise UsageError(f"test scale {scale} is given twice: give each once, they count alike")
    return tuple(scales)


@dataclass(frozen=True)
class ProtocolAt:
    protocol: Protocol
    scales: tuple[int, ...]


def at_scales(protocol: Protocol, net: DescribedNet, test_scales: Sequence[int] | None = None) -> ProtocolAt:
    """Gives a protocol its test scales for a net: those given, else what it says for the net's training scale."""
    scales = protocol.test_scales(net) if test_scales is None else check_scales(net, test_scales)
    return ProtocolAt(protocol, scales)


@dataclass(frozen=True)
class PlannedView:
    """A view of an image that one or several tests need."""

    method: Method  # cuts it out, and computes its maps
    scale: int  # test scale Q, pixels
    plain: list[tuple[int, float]] = field(default_factory=list)  # number of a test and the weight of a part in it
    mirrored: list[tuple[int, float]] = field(default_factory=list)  # the same, for the mirror image of a part


class ViewPlan:
    """The views of an image that tests need, each once, with the weight of their parts in each test.

    A test is a mean: each of the ten crops of ``ten-crop`` weighs 1/10, each of the 150 of ``multi-crop`` 1/150.
    """

    def __init__(self, tests: Sequence[ProtocolAt], crop: int, *, mirror: bool) -> None:
        self.crop = crop
        views: dict[tuple[object, int], PlannedView] = {}
        for number, test in enumerate(tests):
            protocol = test.protocol
            for method in protocol.methods:
                flips = 1 + (protocol.mirrored and mirror)
                weight = 1 / (len(protocol.methods) * len(test.scales) * method.parts * flips)
                for scale in test.scales:
                    view = views.setdefault((method, scale), PlannedView(method, scale))
                    view.plain.append((number, weight))
                    if flips == 2:
                        view.mirrored.append((number, weight))
        self.views = tuple(views.values())

    def cut(self, image: UInt8[ndarray, "h w 3"]) -> list[tuple[int, UInt8[ndarray, "_ _ 3"]]]:
        """Cuts the parts of all views out of an image, each with the number of its view."""
        parts: dict[tuple[object, int], list[ndarray]] = {}  # methods that differ in how they compute share them
        for view in self.views:
            key = (view.method.view, view.scale)
            if key not in parts:
                parts[key] = view.method.view(image, view.scale, self.crop)
        return [
            (number, part) for number, view in enumerate(self.views) for part in parts[view.method.view, view.scale]
        ]
