"""The measured mean and covariance against NumPy's on all pixels."""

import numpy as np

from verydeep.data.open import open_data
from verydeep.data.pixels import measure_pixels


def test_statistics_are_those_of_all_pixels(make_folder):
    train = open_data(make_folder("photos", {"a": 20, "b": 20})).train
    same_size = train.subset([index for index in range(len(train)) if train.read(index).size == (40, 40)])
    pixels = np.concatenate([np.asarray(same_size.read(i)).reshape(-1, 3) for i in range(len(same_size))]).astype(float)
    measured = measure_pixels(same_size)
    assert np.allclose(measured.mean, pixels.mean(0), rtol=1e-6)
    assert np.allclose(measured.covariance, np.cov(pixels.T, bias=True), rtol=1e-4, atol=0.05)
    assert np.allclose(measured.deviation, pixels.std(0), rtol=1e-4)


def test_a_set_of_one_colour_has_a_usable_deviation(make_folder):
    train = open_data(make_folder("photos", {"a": 20, "b": 20})).train
    black = train.subset([0])
    for index in range(len(black)):
        black.decoded[index] = np.zeros_like(black.pixels(index))
    assert measure_pixels(black).deviation.tolist() == [1, 1, 1]
