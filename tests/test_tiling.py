import errno
import tempfile
from itertools import pairwise

import numpy as np
import pytest
from test_painter import network, state

from allaprima import tiling
from allaprima.errors import InputError
from allaprima.painter import Painter
from allaprima.tiling import Strip, TiledPainter, strips
from allaprima.weights import list_generators
from benchmarks.tiling import FULL_HD, make_painter, make_photo, nearness

pytestmark = pytest.mark.skipif(not Painter.available(), reason="no C compiler here")
SIZES = [(200, 160), (61, 43), (17, 130), (146, 35), (16, 16), (83, 50)]
NETWORKS = [
    {"filters": (16, 32, 64), "num_residual_blocks": 2},
    {"filters": (16, 16, 32), "norm": "batch", "num_residual_blocks": 2},
    {"filters": (8, 20, 24), "num_residual_blocks": 1, "output": "linear"},
    {"filters": (16, 32, 80), "num_residual_blocks": 0},
    {"filters": (16, 16, 32), "num_residual_blocks": 2, "dilations": (3, 2)},
    {"filters": (16, 16, 32), "num_residual_blocks": 1, "dilations": (8,), "margin_px": 24},
]


def painter_of(**arguments) -> Painter:
    generator = network(**arguments)
    return Painter(generator.arguments, state(generator), threads=2)


def photo(height: int, width: int) -> np.ndarray:
    """Coarse and fine structure, and no two parts alike."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / 40
    waves = np.dstack([np.sin(x + y * y), np.cos(y - x), np.sin(3 * x * y)])
    noise = random.normal(0, 0.05 + 0.1 * x[..., None] / x.max(), waves.shape)
    return (0.5 + 0.3 * waves + noise).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("arguments", NETWORKS, ids=str)
@pytest.mark.parametrize("band_px", [16, 64])
@pytest.mark.parametrize("budget_bytes", [0, 1 << 30], ids=["file", "memory"])
def test_exact_paints_what_the_whole_photo_gives(arguments, band_px, budget_bytes, monkeypatch):
    monkeypatch.setattr(tiling, "BAND_PX", band_px)
    painter = painter_of(**arguments)
    tiled = TiledPainter(painter, "exact", budget_bytes)
    for size in SIZES:
        np.testing.assert_allclose(tiled(photo(*size)), painter(photo(*size)), atol=2e-5)


def test_bands_leave_no_trace_where_statistics_are_fixed(monkeypatch):
    painter = painter_of(filters=(16, 16, 32), norm="batch")
    expected = painter(photo(200, 160))
    for band_px in (16, 48, 256):
        monkeypatch.setattr(tiling, "BAND_PX", band_px)
        for mode in ("exact", "fast"):
            painted = TiledPainter(painter, mode)(photo(200, 160))
            np.testing.assert_array_equal(painted, expected)


def test_fast_is_near_and_does_not_depend_on_the_bands(monkeypatch):
    painter = painter_of(filters=(16, 32, 64), num_residual_blocks=2)
    rgb = photo(1000, 80)
    whole = painter(rgb)
    paintings = []
    for band_px in (64, 128):
        monkeypatch.setattr(tiling, "BAND_PX", band_px)
        paintings.append(TiledPainter(painter, "fast")(rgb))
    np.testing.assert_allclose(*paintings, atol=2e-5)
    error = np.sqrt(np.square(paintings[0] - whole).mean())
    assert 1e-4 < error < 0.05


@pytest.mark.parametrize("margin", [8, 24])
def test_rows_at_the_ends_of_a_strip_are_seen_but_not_counted(margin, monkeypatch):
    painter = painter_of(filters=(16, 32, 64), num_residual_blocks=2)
    rgb = np.tile(photo(32, 80), (32, 1, 1))  # so that 32 rows within say all of the others
    whole = painter(rgb)

    def difference(strip: Strip) -> float:
        monkeypatch.setattr(tiling, "strips", lambda _: [strip])
        return np.abs(TiledPainter(painter, "fast")(rgb) - whole)[64:-64].max()

    seen = difference(Strip(512 - margin, 544 + margin, margin))
    cut_off = difference(Strip(512, 544))
    assert seen < 0.02
    assert seen < cut_off / 4


@pytest.mark.parametrize("height", [16, 127, 128, 383, 1001, 4000, 8301])
def test_strips_are_a_part_of_the_photo_all_over_it(height):
    parts = strips(height)
    assert all(0 <= top < bottom <= height and top % 4 == 0 for top, bottom, _ in parts)
    assert all(a.bottom <= b.top for a, b in pairwise(parts))
    counted = [row for top, bottom, m in parts for row in range(top + m, bottom - m)]
    if height < 128:
        assert counted == list(range(height))
    else:
        assert height / 5 < len(counted) < 0.55 * height
        assert abs(np.mean(counted) - height / 2) < 20


@pytest.mark.parametrize("name", list_generators())
def test_every_shipped_generator_paints_alike_in_bands(name):
    exact, psnr_db, _ = nearness(make_painter(name), make_photo(*FULL_HD))
    assert exact <= 1 / 255
    assert psnr_db >= 35


def test_bytes_become_bytes_and_progress_is_told():
    painter = painter_of(filters=(16, 16, 16), num_residual_blocks=1)
    rgb = (photo(100, 70) * 255).round().astype(np.uint8)
    for mode in ("fast", "exact"):
        told: list[float] = []
        painted = TiledPainter(painter, mode, progress=told.append)(rgb)
        assert painted.dtype == np.uint8
        assert np.abs(painted - 255 * painter(rgb / np.float32(255))).max() < 0.51
        assert told == sorted(told)
        assert told[0] > 0
        assert told[-1] == pytest.approx(1)


def test_what_fits_the_budget_is_painted_at_once(monkeypatch):
    painter = painter_of(filters=(16, 16, 16), num_residual_blocks=1)
    rgb = photo(64, 48)
    monkeypatch.setattr(tiling, "_Banded", None)  # would be called for bands
    np.testing.assert_array_equal(TiledPainter(painter)(rgb), painter(rgb))
    np.testing.assert_array_equal(TiledPainter(painter, "off", 0)(rgb), painter(rgb))
    with pytest.raises(TypeError):
        TiledPainter(painter, budget_bytes=0)(rgb)


def test_one_colour_stays_one_colour():
    painter = painter_of(filters=(16, 16, 16), num_residual_blocks=1)
    painted = TiledPainter(painter, "exact")(np.full((40, 40, 3), 77, np.uint8))
    assert (painted == painted[0, 0]).all()


def test_a_full_disk_and_wrong_options_are_told(monkeypatch):
    painter = painter_of(filters=(16, 16, 16), num_residual_blocks=0)
    with pytest.raises(InputError, match="--tile small; choose one of auto"):
        TiledPainter(painter, "small")
    with pytest.raises(InputError, match="15×40"):
        TiledPainter(painter, "exact")(photo(40, 15))

    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(InputError, match=r"No space left.*--tile fast"):
        TiledPainter(painter, "exact", 0)(photo(40, 50))
