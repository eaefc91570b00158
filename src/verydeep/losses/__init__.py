"""Distances of pictures by the features of a net: content, style, LPIPS and DISTS.

All take two batches of pictures and give one number for each pair; gradients flow to both:
``verydeep.losses.LPIPS()(x, y, data_range=1)``.
"""

from verydeep.losses.distances import DISTS, LPIPS, Content, Style
from verydeep.losses.pictures import Reference

__all__ = ["DISTS", "LPIPS", "Content", "Reference", "Style"]
