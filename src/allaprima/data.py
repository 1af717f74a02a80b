"""Photos to train on: lists of files, a reproducible stream of crops, and its Lightning module."""

import json
import logging
import math
import os
import re
import signal
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from allaprima.errors import InputError
from allaprima.images import READ_SUFFIXES, find_pictures, read_photo, resize
from allaprima.lightning import pl

Item = tuple[Tensor, list[str]]  # uint8 RGB (3, crop, crop), and a sentence per broken file

MIN_CROP_SHARE = 0.5  # of the short side
WORKER_GRACE_S = 20

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
    rgb = read_photo(path, min_side_px=math.ceil(crop_px / share))
    height, width = rgb.shape[:2]
    side = share * min(height, width)
    left, top = x * (width - side), y * (height - side)
    box = (left, top, min(left + side, width), min(top + side, height))
    return resize(rgb, crop_px, crop_px, box)


class PhotoDataset(Dataset[Item]):
    """Random square crops of photos as an endless stream, indexed by position.

    What is at a position depends on the seed and the position alone, so the stream is the same
    for any number of workers and processes, and resuming is starting at a position. Every epoch
    (so many positions as there are photos) has its own order. A crop's side is between half and
    the whole of the photo's short side, its place and a mirroring are random.

    A photo that cannot be read is replaced by the next one of the epoch and told in the item.
    Where so many in a row are broken that the run must end, the image is black.
    """

    def __init__(self, photos: Sequence[str | Path], crop_px: int, seed: int):
        self.photos = [str(photo) for photo in photos]
        self.crop_px, self.seed = crop_px, seed
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
        broken: list[str] = []
        for offset in range(self.max_tries):
            photo = self.photos[self.order[(index + offset) % len(self.photos)]]
            try:
                square = read_square(photo, self.crop_px, share, x, y)[:, ::step]
                return _to_tensor(square), broken
            except InputError as error:  # told in the item: raised in a worker, it would be garbled
                broken.append(str(error))
        return torch.zeros(3, self.crop_px, self.crop_px, dtype=torch.uint8), broken


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
            raise InputError(f"no validation photo can be read:\n{_some_of(broken)}")

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


class PhotoDataModule(pl.LightningDataModule):
    """Batches of photos, RGB (B, 3, crop, crop) float32 in [0,1], channels last.

    Its state is a position in the stream of :class:`PhotoDataset`.

    Args:
        train_photos: files to train on.
        val_photos: files to validate on; None holds ``num_val`` of ``train_photos`` out.
        crop_px: side of a crop.
        batch_size: photos per step and process.
        num_val: validation photos at most.
        num_workers: processes that read photos. "auto" leaves one core of each training process's
            share to the training itself (on two cores, one worker; on one, none: it would only
            take turns), and takes no more than 8, which read over a thousand photos a second.
        seed: of the order, the crops and the choice of what is held out.
        root: where the photos are from; recorded only.

    Raises:
        InputError: a number out of its range, or too few photos.
    """

    def __init__(
        self,
        train_photos: Sequence[str | Path],
        val_photos: Sequence[str | Path] | None = None,
        crop_px: int = 256,
        batch_size: int = 4,
        num_val: int = 8,
        num_workers: int | Literal["auto"] = "auto",
        seed: int = 0,
        root: str | Path | None = None,
    ):
        super().__init__()
        train_photos = list(dict.fromkeys(train_photos))  # a double might be held out once alone
        _check("crop_px", crop_px, 16, multiple_of=4)
        _check("batch_size", batch_size, 1)
        _check("num_val", num_val, 1)
        _check("seed", seed, 0)
        if num_workers != "auto":
            _check("num_workers", num_workers, 0)
        if val_photos is None:
            train_photos, val_photos = _hold_out(train_photos, num_val, seed)
        if not train_photos or not val_photos:
            raise InputError("there must be photos to train on and photos to validate on")
        self.train_photos, self.val_photos = train_photos, val_photos
        self.crop_px, self.batch_size, self.num_val = crop_px, batch_size, num_val
        self.num_workers, self.seed, self.root = num_workers, seed, root
        self.start_position = self.start_step = 0
        self.num_delivered = 0
        self.broken: dict[str, None] = {}  # in the order of finding

    @property
    def num_train(self) -> int:
        """Photos to train on."""
        return len(self.train_photos)

    @property
    def photos_broken(self) -> int:
        """Different photos that could not be read so far, in this process."""
        return len(self.broken)

    def fixed_photos(self, num_photos: int) -> list[Tensor]:
        """The first validation photos, RGB (3, crop, crop) float32 in [0,1]."""
        return [image.float() / 255 for image in self._validation.images[:num_photos]]

    def train_dataloader(self) -> DataLoader[Item]:
        rank, world_size, sharing = 0, 1, 1
        if self.trainer:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            sharing = self.trainer.num_devices  # processes on this machine
            self.start_step = self.trainer.global_step
        num_workers = self.num_workers
        if not isinstance(num_workers, int):
            num_workers = max(0, min(8, _num_cores() // sharing - 1))
        return DataLoader(
            PhotoDataset(self.train_photos, self.crop_px, self.seed),
            self.batch_size,
            sampler=StreamSampler(self.start_position, self.batch_size, rank, world_size),
            collate_fn=_collate,
            num_workers=num_workers,
            worker_init_fn=_shield_from_signals,
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else it draws from the one that the training draws from
        )

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(self._validation, self.batch_size, generator=torch.Generator())

    def on_before_batch_transfer(self, batch: Item | Tensor, dataloader_idx: int) -> Tensor:
        """Tell of broken photos in a training batch, each once.

        Raises:
            InputError: they are more than 3 and more than 5 % of the photos tried, or all.
        """
        if isinstance(batch, Tensor):
            return batch
        images, broken = batch
        self.num_delivered += len(images)
        for sentence in broken:
            if sentence not in self.broken:
                self.broken[sentence] = None
                _log.warning("Another photo is taken instead: %s", sentence)
        limit = max_broken(min(self.num_train, self.num_delivered))
        if broken and self.photos_broken >= min(self.num_train, limit + 1):
            raise InputError(
                f"{self.photos_broken} photos cannot be read, more than can be passed over: mend "
                f"or remove them\n{_some_of(list(self.broken))}"
            )
        return images

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        return batch.to(torch.float32, memory_format=torch.channels_last).div_(255)

    def state_dict(self) -> dict[str, Any]:
        """The position after the last step: what workers have read ahead does not count."""
        position = self.start_position
        if self.trainer:
            steps = self.trainer.global_step - self.start_step
            global_batch = self.batch_size * self.trainer.world_size
            position += steps * self.trainer.accumulate_grad_batches * global_batch
        return {"position": position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.start_position = state_dict["position"]

    @cached_property
    def _validation(self) -> FixedPhotos:
        return FixedPhotos(self.val_photos, self.crop_px, self.num_val)


def max_broken(num_tried: int) -> int:
    """Broken photos that are passed over: 5 % of those tried, but 3 in any case."""
    return max(3, num_tried // 20)


def _num_cores() -> int:
    affine = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if affine else os.cpu_count() or 1


def _check(name: str, value: Any, least: int, multiple_of: int = 1) -> None:
    if type(value) is not int or value < least or value % multiple_of:
        of = f", a multiple of {multiple_of}" if multiple_of > 1 else ""
        raise InputError(f"{name}={value} must be a whole number of at least {least}{of}")


def _hold_out(photos: Sequence[Any], num_val: int, seed: int) -> tuple[list[Any], list[Any]]:
    if len(photos) <= num_val:
        raise InputError(
            f"{len(photos)} photos are too few to hold num_val={num_val} of them out for "
            "validation: give more photos, or a smaller num_val"
        )
    order = np.random.default_rng(seed).permutation(len(photos))
    return [photos[i] for i in order[:-num_val]], [photos[i] for i in order[-num_val:]]


def _collate(items: list[Item]) -> Item:
    images, broken = zip(*items, strict=True)
    return torch.stack(images), [sentence for sentences in broken for sentence in sentences]


def _to_tensor(rgb: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)


def _some_of(lines: list[str], limit: int = 20) -> str:
    more = [f"and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join([*lines[:limit], *more])


def _shield_from_signals(worker: int) -> None:
    """Let the training process finish its step, which needs photos, and end its workers itself.

    A terminal sends Ctrl-C, a cluster's scheduler SIGTERM, to all processes at once.
    """

    def end_later(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(WORKER_GRACE_S)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_later)
