"""Section 3.1 and 3.2 of the paper, the pixels: decoding, rescaling, augmentation, what a protocol sees of an image."""
