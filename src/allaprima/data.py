"""The Lightning modules that serve photos (stream, validation, position) or white canvases."""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from allaprima.errors import InputError
from allaprima.lightning import pl
from allaprima.photos import (
    FixedPhotos,
    Item,
    PhotoDataset,
    StreamSampler,
    TimedLoader,
    max_broken,
    some_of,
)

WORKER_GRACE_S = 20
MAX_AUTO_WORKERS = 15

_log = logging.getLogger(__name__)


class PhotoDataModule(pl.LightningDataModule):
    """Batches of photos, RGB (B, 3, crop, crop) float32 in [0,1], channels last.

    Its state is a position in the stream of :class:`PhotoDataset`.

    Args:
        train_photos: files to train on.
        val_photos: files to validate on; None holds ``num_val`` of ``train_photos`` out.
        crop_px: side of a crop; or several, which the batches take in turn, for a generator that
            shall paint small and large photos alike. Photos for validation have the first.
        batch_size: photos per step and process.
        num_val: validation photos at most.
        num_workers: processes that read photos. "auto" leaves one core of each training process's
            share to the training itself (on two cores, one worker; on one, none: it would only
            take turns), and takes no more than 15, which read thousands of photos a second.
        seed: of the order, the crops and the choice of what is held out.
        root: where the photos are from; recorded only.
        num_train_photos: train on the first so many photos alone; None takes all.

    Raises:
        InputError: a number out of its range, or too few photos.
    """

    def __init__(
        self,
        train_photos: Sequence[str | Path],
        val_photos: Sequence[str | Path] | None = None,
        crop_px: int | Sequence[int] = 256,
        batch_size: int = 4,
        num_val: int = 8,
        num_workers: int | Literal["auto"] = "auto",
        seed: int = 0,
        root: str | Path | None = None,
        num_train_photos: int | None = None,
    ):
        super().__init__()
        train_photos = list(dict.fromkeys(train_photos))  # a double might be held out once alone
        crop_sizes_px = tuple(crop_px) if isinstance(crop_px, Sequence) else (crop_px,)
        for size_px in crop_sizes_px or [None]:
            _check("crop_px", size_px, 16, multiple_of=4)
        _check("batch_size", batch_size, 1)
        _check("num_val", num_val, 1)
        _check("seed", seed, 0)
        if num_workers != "auto":
            _check("num_workers", num_workers, 0)
        if val_photos is None:
            train_photos, val_photos = _hold_out(train_photos, num_val, seed)
        if not train_photos or not val_photos:
            raise InputError("there must be photos to train on and photos to validate on")
        if num_train_photos is not None:
            _check("num_train_photos", num_train_photos, 1)
            if num_train_photos > len(train_photos):
                raise InputError(
                    f"num_train_photos={num_train_photos}, but there are {len(train_photos)}: give "
                    "more photos, or null to train on all"
                )
            train_photos = train_photos[:num_train_photos]
        self.train_photos, self.val_photos = train_photos, val_photos
        self.crop_sizes_px, self.batch_size, self.num_val = crop_sizes_px, batch_size, num_val
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
            num_workers = max(0, min(MAX_AUTO_WORKERS, _num_cores() // sharing - 1))
        return TimedLoader(
            PhotoDataset(
                self.train_photos,
                self.crop_sizes_px,
                self.seed,
                self.batch_size * world_size,
                self.start_position,
            ),
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
                f"or remove them\n{some_of(list(self.broken))}"
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
        return FixedPhotos(self.val_photos, self.crop_sizes_px[0], self.num_val)


class CanvasDataModule(pl.LightningDataModule):
    """White canvases (B, 3, crop, crop), without end: for generators that paint without a photo.

    Args:
        crop_px: side of a canvas.
        batch_size: canvases per step and process.
        num_val: canvases to validate on.
        seed: recorded only: what differs between two canvases is the generator's noise.

    Raises:
        InputError: a number out of its range.
    """

    def __init__(self, crop_px: int = 256, batch_size: int = 16, num_val: int = 4, seed: int = 0):
        super().__init__()
        _check("crop_px", crop_px, 16, multiple_of=4)
        _check("batch_size", batch_size, 1)
        _check("num_val", num_val, 1)
        self.crop_sizes_px, self.seed = (crop_px,), seed
        self.batch_size, self.num_val = batch_size, num_val
        self.canvas = torch.ones(3, crop_px, crop_px)

    def fixed_photos(self, num_photos: int) -> list[Tensor]:
        """One canvas, RGB (3, crop, crop) of ones: all are alike, and so are their paintings."""
        return [self.canvas][:num_photos]

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(_Endless(self.canvas), self.batch_size, generator=torch.Generator())

    def val_dataloader(self) -> DataLoader[Tensor]:
        # In one batch, for within a batch no two images have the same noise.
        canvases: Any = [self.canvas] * self.num_val
        return DataLoader(canvases, self.num_val, generator=torch.Generator())

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        return batch.to(memory_format=torch.channels_last)


class _Endless(IterableDataset[Tensor]):
    def __init__(self, item: Tensor):
        self.item = item

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self.item


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


def _shield_from_signals(worker: int) -> None:
    """Let the training process finish its step, which needs photos, and end its workers itself.

    A terminal sends Ctrl-C, a cluster's scheduler SIGTERM, to all processes at once.
    """

    def end_later(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(WORKER_GRACE_S)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_later)
