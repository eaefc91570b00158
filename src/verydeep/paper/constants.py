"""The paper's numbers as data.

Source: K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
arXiv:1409.1556v6.

Paper: sections 2.1, 3.1 and 3.2, Table 2.
"""

from typing import Final

CROP: Final = 224
"""Side of the training crop, pixels (section 2.1)."""

TOTAL_STRIDE: Final = 32
"""Pixels per step of the last feature map: five poolings of stride 2 (section 2.1)."""

TRAIN_SCALE: Final = 256
"""Smaller training scale S: the shorter side of the rescaled image, pixels (section 3.1)."""

LARGER_TRAIN_SCALE: Final = 384
JITTERED_TRAIN_SCALES: Final = (256, 512)
"""The larger S, and the bounds of scale jitter, pixels (section 3.1)."""

FINE_TUNING_RATE: Final = 1e-3
"""Learning rate of the training at S = 384 that begins with the weights of S = 256 (section 3.1)."""

MOMENTUM: Final = 0.9
WEIGHT_DECAY: Final = 5e-4
DROPOUT: Final = 0.5
BATCH_SIZE: Final = 256
LEARNING_RATE: Final = 1e-2
LEARNING_RATE_DROPS: Final = 3
EPOCHS: Final = 74
"""Section 3.1: 370K iterations of 256 images on ILSVRC-2012."""

GAUSSIAN_STD: Final = 0.01
"""Standard deviation of the random weights.

Choice: the paper says variance 0.01, AlexNet's deviation is 0.01, and only the latter trains at the paper's rate; the
literal reading is ``gaussian-variance`` among the initialisations.
"""

LRN_SIZE: Final = 5
LRN_ALPHA: Final = 1e-4
LRN_BETA: Final = 0.75
LRN_K: Final = 2.0
"""AlexNet's local response normalisation, alpha on the plain sum of squares (section 2.1)."""

COLOUR_SHIFT_STD: Final = 0.1
"""Standard deviation of the colour shift along each principal component, in units of its eigenvalue (section 3.1)."""

PARAMETERS_IN_MILLIONS: Final = {"A": 133, "A-LRN": 133, "B": 133, "C": 134, "D": 138, "E": 144}
"""Table 2, for 1000 classes."""
