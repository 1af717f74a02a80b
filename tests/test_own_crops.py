"""The style error of several images, and what of it differs from one to the next."""

import json

import numpy as np
import pytest
import torch

from allaprima.losses import PerceptualLoss, gram_matrix
from benchmarks.own_crops import crops, errors, worth_by_scatter

LAYERS = {"relu1_2": 0.5, "relu2_1": 2.0}


@pytest.fixture(params=["zeros", "reflect"])
def loss(vgg19, request):
    halves = torch.zeros(3, 32, 64)
    halves[:, :, 32:] = 1
    return PerceptualLoss(vgg19, halves, {}, LAYERS, padding=request.param)


def test_crops_are_of_the_size_and_within_the_image():
    image = torch.arange(3 * 40 * 60.0).view(3, 40, 60)
    for crop in crops(image, 16, np.random.default_rng(0)):
        assert crop.shape == (1, 3, 16, 16)
        top, left = divmod(int(crop[0, 0, 0, 0]), 60)
        assert torch.equal(crop[0], image[:, top : top + 16, left : left + 16])
    assert {crop.shape for crop in crops(image, 48, np.random.default_rng(0))} == {(1, 3, 40, 48)}


def test_the_whole_painting_has_no_error(loss):
    assert errors(loss, [loss.style[None]] * 4) == (0, 0)


def test_images_that_are_alike_have_an_error_and_no_scatter(loss):
    error, scatter = errors(loss, [loss.style[None, :, :, :32]] * 4)
    assert error > 1e-4
    assert scatter == 0


def test_scatter_is_what_the_mean_has_not(loss, vgg19):
    images = [loss.style[None, :, :, left : left + 32] for left in (0, 16, 32)]
    activations = vgg19(torch.cat(images), list(LAYERS), loss.padding)
    of_mean = sum(
        weight * (gram_matrix(activations[layer]).mean(0) - loss.target_grams[layer]).square().sum()
        for layer, weight in LAYERS.items()
    )
    error, scatter = errors(loss, images)
    assert error - 2 / 3 * scatter == pytest.approx(float(of_mean), rel=1e-4)
    assert scatter > 0


def test_worth_by_scatter_is_the_median_of_where_the_optimiser_is_no_worse(tmp_path):
    (tmp_path / "photos").mkdir()
    losses = [1 / n for n in range(1, 101)]
    for content in (0.05, 0.15, 0.4):  # with 0.1: reached by 7, 4 and 2
        run = {"at": {"100": {"content/relu3_3": content, "style/relu1_2": 9}}, "losses": losses}
        file = tmp_path / "photos" / f"{content}.json"
        file.write_text(json.dumps({"optimizer": {"noise": run}}))
    assert worth_by_scatter(tmp_path, 0.1) == "4"
    assert worth_by_scatter(tmp_path, -0.4) == "–"  # beyond the last evaluation
    assert worth_by_scatter(tmp_path / "photos", 0.1) == "–"
