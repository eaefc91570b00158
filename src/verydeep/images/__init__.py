"""Sections 3.1 and 3.2 of the paper on pixels: decoding, rescaling, augmentation, views of an image."""
