"""What all tests share: one thread, fixed seeds, the folder of development files."""

import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from allaprima.loss_network import LossNetwork

torch.set_num_threads(1)  # the same sums in the same order on every machine
# A shell's background job ignores Ctrl-C, and so would the commands that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeds():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Paintings, photos and weights for development, beside the checkout; never shipped."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder shared/ of development files is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def vgg19() -> LossNetwork:
    """The default loss network, whole. It is frozen, so that tests may share it."""
    return LossNetwork()


@pytest.fixture
def noise_photos(tmp_path) -> Path:
    """A folder of eight small photos: noise of different colours."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 256, (48, 64, 3)) // (i % 3 + 1)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return folder
