"""The lists of class names that ship are those that torchvision gives."""

from torchvision.datasets import Flowers102
from torchvision.models import VGG16_Weights

from verydeep.class_names import read_class_names


def test_names_are_torchvisions():
    assert read_class_names("imagenet") == tuple(VGG16_Weights.IMAGENET1K_V1.meta["categories"])
    assert read_class_names("flowers102") == tuple(Flowers102.classes)
