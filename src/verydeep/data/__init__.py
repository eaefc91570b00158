"""Section 3.1 of the paper, the images: decoding, rescaling, augmentation, data sets."""
