"""A Lightning training that advances one step at each call, so that it can take turns."""

import itertools
import threading
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from allaprima.lightning import pl


class SteppedTraining:
    """``fit`` in a thread of its own that waits between steps: ``training()`` takes one.

    It is the code that train.py runs, loop, precision, averaging and all, without its callbacks.

    Args:
        module: what is trained.
        photos: one batch that every step is given, as the data module would deliver it; or an
            endless iterable of batches.
        callbacks, trainer: further arguments of Lightning's Trainer.
    """

    def __init__(
        self,
        module: pl.LightningModule,
        photos: Tensor | Iterable[Tensor],
        callbacks: Sequence[pl.Callback] = (),
        **trainer: Any,
    ):
        self.module = module
        self.photos = itertools.repeat(photos) if isinstance(photos, Tensor) else photos
        self.proceed, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.error: BaseException | None = None
        self.trainer = plain_trainer(callbacks=[*callbacks, _Turns(self)], **trainer)
        self.thread = threading.Thread(target=self._fit, daemon=True)
        self.thread.start()
        self._wait()  # until the first step could begin

    def __call__(self) -> None:
        self.proceed.release()
        self._wait()

    def close(self) -> None:
        """End the run."""
        self.trainer.should_stop = True
        self.proceed.release()
        self.thread.join()

    def _wait(self) -> None:
        self.done.acquire()
        if self.error:
            raise self.error

    def _fit(self) -> None:
        try:
            self.trainer.fit(self.module, train_dataloaders=self.photos)
        except BaseException as error:
            self.error = error
        self.done.release()


def plain_trainer(**arguments: Any) -> pl.Trainer:
    """Lightning's Trainer without end, logger, progress, checkpoints and validation."""
    warnings.filterwarnings("ignore", "You defined a `validation_step` but")
    return pl.Trainer(
        **{
            "max_steps": 10**9,  # close() is the end
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "limit_val_batches": 0,
            **arguments,
        },
    )


class _Turns(pl.Callback):
    def __init__(self, training: SteppedTraining):
        self.training = training

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._turn()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        if not trainer.should_stop:
            self._turn()

    def _turn(self) -> None:
        self.training.done.release()
        self.training.proceed.acquire()
