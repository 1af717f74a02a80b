"""Photos to train on: lists of files, and an endless reproducible stream of their crops."""

import io
import json
import logging
import math
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from allaprima.decoding import check_regular
from allaprima.errors import InputError
from allaprima.images import READ_SUFFIXES, Box, find_pictures, read_photo, resize

Item = tuple[Tensor, list[str]]  # uint8 RGB (3, crop, crop), and a sentence per broken file

MIN_CROP_SHARE = 0.5  # of the short side

_log = logging.getLogger(__name__)


def list_folder(root: str | Path) -> list[Path]:
    """The picture files under a folder, sorted.

    Raises:
        InputError: no such folder, or no picture in it.
    """
    photos = find_pictures(root)
    if not photos:
        raise InputError(f"{root}: no picture in this folder ({', '.join(READ_SUFFIXES)})")
    return photos


def list_coco(root: str | Path, split: str) -> list[Path]:
    """The photos of a COCO split, in the order of its annotation file.

    Raises:
        InputError: the folder, the split or its annotation file is missing or lists nothing.
    """
    folder = Path(root) / split
    annotations = Path(root) / "annotations" / f"instances_{split}.json"
    fix = f"fetch COCO with: python scripts/download_coco.py {root}"
    for path in (folder, annotations):
        if not path.exists():
            raise InputError(f"{path} is missing from the COCO layout; {fix}")
    try:
        names = _image_names(annotations.read_text(encoding="utf-8"))
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{annotations} cannot be read ({error}); {fix}") from error
    if not names:
        raise InputError(f'{annotations} has no "images" with a "file_name"; {fix}')
    return [folder / name for name in names]


def _image_names(text: str) -> list[str]:
    # The annotations proper fill gigabytes once parsed, so only the array "images" is.
    for key in re.finditer(r'"images"\s*:\s*(?=\[)', text):
        images, _ = json.JSONDecoder().raw_decode(text, key.end())
        names = [str(image["file_name"]) for image in images if "file_name" in image]
        if names:
            return names
    return []


def read_square(
    path: str | Path, crop_px: int, share: float = 1.0, x: float = 0.5, y: float = 0.5
) -> np.ndarray:
    """A square part of a photo, scaled to uint8 RGB (crop_px, crop_px, 3).

    Args:
        share: side of the part, as a share of the photo's short side.
        x, y: where it lies, 0 being left or top, 1 right or bottom.
    """
    min_side_px = math.ceil(crop_px / share)
    square = _read_square_of_plain_jpeg(Path(path), crop_px, min_side_px, share, x, y)
    if square is not None:
        return square
    rgb = read_photo(path, min_side_px=min_side_px)
    return resize(rgb, crop_px, crop_px, _box(rgb.shape[1], rgb.shape[0], share, x, y))


def _read_square_of_plain_jpeg(
    path: Path, crop_px: int, min_side_px: int, share: float, x: float, y: float
) -> np.ndarray | None:
    """The same square without the copies that other files need, or None if this is not a plain one.

    Plain are colour JPEGs without profile and EXIF, as nearly all of COCO's.
    """
    try:
        check_regular(path)
        with Image.open(io.BytesIO(path.read_bytes()), formats=("JPEG",)) as image:
            if image.mode != "RGB" or not image.info.keys().isdisjoint(("icc_profile", "exif")):
                return None
            image.draft(None, (min_side_px, min_side_px))
            box = _box(image.width, image.height, share, x, y)
            # What resize() does, on the pixels where they are.
            return np.array(image.resize((crop_px, crop_px), Image.Resampling.BICUBIC, box))
    except Exception:  # the general way knows what is wrong and how to tell it
        return None


def _box(width: int, height: int, share: float, x: float, y: float) -> Box:
    side = share * min(height, width)
    left, top = x * (width - side), y * (height - side)
    return (left, top, min(left + side, width), min(top + side, height))


class PhotoDataset(Dataset[Item]):
    """Random square crops of photos as an endless stream, indexed by position.

    What is at a position depends on the seed and the position alone, so the stream is the same
    for any number of workers and processes, and resuming is starting at a position. Every epoch
    (so many positions as there are photos) has its own order. A crop's side is between half and
    the whole of the photo's short side, its place and a mirroring are random. Of several sizes in
    ``crop_px``, each batch has the next: ``num_together`` positions, from ``start`` on.

    A photo that cannot be read is replaced by the next one of the epoch and told in the item.
    Where so many in a row are broken that the run must end, the image is black.
    """

    def __init__(
        self,
        photos: Sequence[str | Path],
        crop_px: Sequence[int],
        seed: int,
        num_together: int = 1,
        start: int = 0,
    ):
        self.photos = [str(photo) for photo in photos]
        self.crop_px, self.seed = crop_px, seed
        self.num_together, self.start = num_together, start
        self.max_tries = min(len(photos), max_broken(len(photos)) + 1)
        self.epoch, self.order = -1, np.empty(0, int)

    def __getitem__(self, position: int) -> Item:
        epoch, index = divmod(position, len(self.photos))
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.photos))
        rng = np.random.default_rng((self.seed, epoch, position))
        share, x, y = rng.uniform(MIN_CROP_SHARE, 1), rng.random(), rng.random()
        step = -1 if rng.random() < 0.5 else 1
        crop_px = self._size_at(position)
        broken: list[str] = []
        for offset in range(self.max_tries):
            photo = self.photos[self.order[(index + offset) % len(self.photos)]]
            try:
                square = read_square(photo, crop_px, share, x, y)[:, ::step]
                return _to_tensor(square), broken
            except InputError as error:  # told in the item: raised in a worker, it would be garbled
                broken.append(str(error))
        return torch.zeros(3, crop_px, crop_px, dtype=torch.uint8), broken

    def _size_at(self, position: int) -> int:
        """One for a whole batch, though ``start`` be a position of smaller batches."""
        num_before, since = self.start // self.num_together, position - self.start
        return self.crop_px[(num_before + since // self.num_together) % len(self.crop_px)]


class TimedLoader(DataLoader):
    """A DataLoader that knows how long the training process has waited for its batches."""

    waited_s = 0.0

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore
        batches = super().__iter__()
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.waited_s += time.perf_counter() - start
            yield batch


class FixedPhotos(Dataset[Tensor]):
    """The central squares of the first ``num_photos`` photos that can be read, kept in memory.

    Raises:
        InputError: none of them can be read.
    """

    def __init__(self, photos: Sequence[str | Path], crop_px: int, num_photos: int):
        self.images: list[Tensor] = []
        broken: list[str] = []
        for photo in photos:
            if len(self.images) == num_photos:
                break
            try:
                self.images.append(_to_tensor(read_square(photo, crop_px)))
            except InputError as error:
                _log.warning("Left out of validation: %s", error)
                broken.append(str(error))
        if not self.images:
            raise InputError(f"no validation photo can be read:\n{some_of(broken)}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


class StreamSampler(Sampler[int]):
    """Positions of the stream for ever: a process's share of every global batch in turn."""

    def __init__(self, start: int, batch_size: int, rank: int = 0, world_size: int = 1):
        self.start, self.batch_size = start + rank * batch_size, batch_size
        self.stride = world_size * batch_size

    def __iter__(self) -> Iterator[int]:
        first = self.start
        while True:
            yield from range(first, first + self.batch_size)
            first += self.stride


def max_broken(num_tried: int) -> int:
    """Broken photos that are passed over: 5 % of those tried, but 3 in any case."""
    return max(3, num_tried // 20)


def some_of(lines: list[str], limit: int = 20) -> str:
    """The first lines, and how many more."""
    more = [f"and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join([*lines[:limit], *more])


def _to_tensor(rgb: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)
