"""The table of palette errors."""

import numpy as np
import pytest
import torch

from allaprima.images import write_picture
from benchmarks.palettes import errors


def test_each_column_of_the_kept_pictures_has_its_error(tmp_path):
    """Black beside a painting half black, half white: half its pixels are √3 away, at best."""
    halves = torch.zeros(3, 256, 256)
    halves[:, :, 128:] = 1
    square, black = halves.permute(1, 2, 0).numpy(), np.zeros((256, 256, 3), np.float32)
    for name in ("001", "002"):
        write_picture(tmp_path / f"{name}.png", np.concatenate([square, black], axis=1))
    own, same, other = errors(halves, tmp_path)
    assert own == same == 0
    assert other == pytest.approx((3 / 2) / (3 / 4), abs=0.01)
