"""The style error of a painting's own parts."""

import numpy as np
import torch

from benchmarks.own_crops import crops, style_of_crops


class MeanColour:
    """A loss whose style is the mean of an image."""

    def __init__(self, style):
        self.style = style

    def content_targets(self, image):
        return {}

    def __call__(self, image, targets):
        error = (image.mean() - self.style.mean()).square()
        return {"style/mean": error, "content/none": torch.tensor(7.0)}


def test_crops_are_of_the_size_and_within_the_image():
    image = torch.arange(3 * 40 * 60.0).view(3, 40, 60)
    for crop in crops(image, 16, np.random.default_rng(0)):
        assert crop.shape == (1, 3, 16, 16)
        top, left = divmod(int(crop[0, 0, 0, 0]), 60)
        assert torch.equal(crop[0], image[:, top : top + 16, left : left + 16])
    assert {crop.shape for crop in crops(image, 48, np.random.default_rng(0))} == {(1, 3, 40, 48)}


def test_a_whole_painting_has_no_error_and_its_halves_have():
    halves = torch.zeros(3, 32, 64)
    halves[:, :, 32:] = 1
    assert style_of_crops(MeanColour(halves), 64) == 0
    assert 0.05 < style_of_crops(MeanColour(halves), 16) <= 0.25
