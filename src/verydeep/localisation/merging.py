"""Greedy merging of boxes: the two that overlap most become their mean, until none overlap enough.

``merging.cpp`` is built once and does 10,000 boxes in a fraction of a second; without it NumPy gives the same boxes, to
the last bit, in more time.

Paper: appendix A.
"""

import ctypes
import hashlib
from ctypes import c_char_p, c_double, c_int, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from numpy import ndarray

_HERE = Path(__file__).parent
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Merged:
    """What is left of boxes that were merged, in the order of the first member of each."""

    corners: Float64[ndarray, "m 4"]  # the mean of its members
    scores: Float64[ndarray, "m k"]  # the sum of those of its members
    counts: Int64[ndarray, "m"]  # of its members


def merge(corners: Float[ndarray, "n 4"], scores: Float[ndarray, "n k"], threshold: float) -> Merged:
    """Merges boxes greedily.

    Choice: the pair with the highest intersection over union is merged while that is above the threshold; of equal ones
    the first, which then stands in the place of its first box. Coordinates are averaged with the numbers of members as
    weights.

    Args:
        corners: left, top, right, bottom of each box.
        scores: of each box; several of them, such as of several classes, are summed each for itself.
        threshold: 0 or more; at 1 or more nothing is merged.

    Paper: appendix A.
    """
    merged = np.array(corners, np.float64, order="C")
    into = np.arange(len(merged))
    library = find_library()
    if library is None:
        merge_with_numpy(merged, into, threshold)
    else:
        if library.verydeep_merge(merged.ctypes.data, into.ctypes.data, len(merged), threshold):
            raise MemoryError
    while (further := into[into]).tolist() != into.tolist():
        into = further
    kept, member_of = np.unique(into, return_inverse=True)
    sums = np.zeros((len(kept), scores.shape[1]))
    np.add.at(sums, member_of, scores)
    return Merged(merged[kept], sums, np.bincount(member_of, minlength=len(kept)))


def merge_with_numpy(corners: Float64[ndarray, "n 4"], into: Int64[ndarray, "n"], threshold: float) -> None:
    """Merges boxes in their array, and says of each which one it was merged into; ``merging.cpp`` says how."""
    boxes = _Boxes(corners)
    while len(boxes.place) > 1:
        i = int(boxes.bound.argmax())
        if not boxes.bound[i] > threshold:
            break
        if boxes.stale[i]:
            boxes.refresh(i)
            continue
        j = int(boxes.partner[i])
        into[boxes.place[j]] = boxes.place[i]
        boxes.merge(i, j)
        if 4 * np.count_nonzero(boxes.count) < 3 * len(boxes.count):
            i -= int(np.count_nonzero(boxes.count[:i] == 0))
            boxes.compact()
        boxes.refresh(i)
    left = boxes.count > 0
    corners[boxes.place[left]] = boxes.edges.T[left]


class _Boxes:
    """The boxes that are left, and for each an upper bound of its IoU with its partner and with all others."""

    def __init__(self, corners: Float64[ndarray, "n 4"]) -> None:
        count = len(corners)
        self.edges = np.ascontiguousarray(corners.T)
        self.area = _area(self.edges)
        self.count, self.place = np.ones(count), np.arange(count)  # 0 members: merged into another
        self.bound, self.second = np.full((2, count), np.inf)  # of the partner, and of all others
        self.partner = np.zeros(count, np.int64)
        self.stale: Bool[ndarray, "n"] = np.ones(count, bool)  # whether the partner is gone

    def refresh(self, i: int) -> None:
        """Finds the best partner of a box, and tells the others of it."""
        left, top, right, bottom = self.edges
        row = np.minimum(right, right[i]) - np.maximum(left, left[i])
        height = np.minimum(bottom, bottom[i]) - np.maximum(top, top[i])
        np.maximum(row, 0, out=row)
        np.maximum(height, 0, out=height)
        row *= height
        row /= np.maximum(self.area + self.area[i] - row, _TINY)
        row[i], row[self.count == 0] = -1, -1
        equal = np.flatnonzero((row == self.bound) & ~self.stale)
        self.partner[equal] = np.minimum(self.partner[equal], i)
        np.maximum(self.second, row, out=self.second)
        better = np.flatnonzero(row > self.bound)
        self.second[better] = self.bound[better]
        self.bound[better], self.partner[better], self.stale[better] = row[better], i, False
        self.partner[i] = partner = row.argmax()
        self.bound[i], self.stale[i] = row[partner], False
        row[partner] = -1
        self.second[i] = row.max()

    def merge(self, i: int, j: int) -> None:
        """Replaces a box by its mean with another, which is left out."""
        mine, theirs = self.count[i], self.count[j]
        self.edges[:, i] = (self.edges[:, i] * mine + self.edges[:, j] * theirs) / (mine + theirs)
        self.edges[:, j] = 0
        self.area[[i, j]] = _area(self.edges[:, [i, j]])
        self.count[i], self.count[j] = mine + theirs, 0
        gone = (self.partner == i) | (self.partner == j)
        self.bound[gone], self.stale[gone] = self.second[gone], True
        self.bound[j] = self.second[j] = -1

    def compact(self) -> None:
        """Leaves the boxes out that have been merged into others; the order remains."""
        kept = self.count > 0
        moved: Int64[ndarray, "n"] = np.cumsum(kept) - kept
        self.edges = np.ascontiguousarray(self.edges[:, kept])
        self.partner = np.where(self.stale, 0, moved[self.partner])[kept]
        for name in ("area", "count", "place", "bound", "second", "stale"):
            setattr(self, name, getattr(self, name)[kept])


def _area(edges: Float64[ndarray, "4 n"]) -> Float64[ndarray, "n"]:
    left, top, right, bottom = edges
    area: ndarray = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    return area


@cache
def find_library() -> ctypes.CDLL | None:
    """Returns what was built of ``merging.cpp``; None where NumPy has to do."""
    try:
        library = ctypes.CDLL(str(_HERE / "_merging_plain.so"))
    except OSError:  # it was not built
        return None
    library.verydeep_source.restype = c_char_p
    if library.verydeep_source().decode() != hashlib.sha256((_HERE / "merging.cpp").read_bytes()).hexdigest()[:16]:
        return None
    library.verydeep_merge.argtypes = [c_void_p, c_void_p, c_int64, c_double]
    library.verydeep_merge.restype = c_int
    return library
