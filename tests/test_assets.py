"""Every shipped photograph is credited, freely licensed and readable; none is in both splits."""

import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from allaprima.resources import resource_dir

PHOTOS = resource_dir("assets") / "photos"
FILES = sorted(path.relative_to(PHOTOS).as_posix() for path in PHOTOS.rglob("*.jpg"))
# file | subject | author | licence | source | changes
ROWS = re.findall(
    r"^\| `(.+?)` \| (.+?) \| (.+?) \| (\S+) \| (.+?) \| (.+?) \|$",
    (PHOTOS / "SOURCES.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
FREE = {"CC0-1.0", "LicenseRef-public-domain"}
BY = {"CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0"}
SHARE_ALIKE = {"CC-BY-SA-3.0", "CC-BY-SA-4.0"}


def test_every_photograph_has_one_row_and_every_row_a_photograph():
    assert Counter(row[0] for row in ROWS) == Counter(FILES)
    assert len(FILES) >= 40


def test_licences_allow_redistribution_and_change():
    for file, _, _, licence, _, _ in ROWS:
        allowed = FREE | BY if file.startswith("val/") else FREE | BY | SHARE_ALIKE
        assert licence in allowed, file


def test_no_photograph_is_in_both_splits():
    names, sources = (
        {
            split: {key(row) for row in ROWS if row[0].startswith(split)}
            for split in ("train", "val")
        }
        for key in (lambda row: re.sub(r"-[a-z]$", "", Path(row[0]).stem), lambda row: row[4])
    )
    assert not names["train"] & names["val"]
    assert not sources["train"] & sources["val"]  # two crops of one photograph


@pytest.mark.parametrize("file", FILES)
def test_photograph_is_small_rgb_without_metadata(file: str):
    with Image.open(PHOTOS / file) as photo:
        photo.load()
        assert photo.mode == "RGB"
        assert 256 <= min(photo.size) <= 512
        assert not photo.getexif()
        assert "icc_profile" not in photo.info  # so it is sRGB
        assert "progressive" not in photo.info


def test_package_stays_small():
    assert sum((PHOTOS / file).stat().st_size for file in FILES) < 4_500_000
