"""The one door to Lightning: ``from allaprima.lightning import pl``."""

import logging

from allaprima.torchvision_ops import import_torchvision

import_torchvision()  # Lightning's metrics import torchvision and need it to succeed

import pytorch_lightning as pl  # noqa: E402
from pytorch_lightning import callbacks  # noqa: E402
from pytorch_lightning.loggers import TensorBoardLogger  # noqa: E402
from pytorch_lightning.plugins import TorchCheckpointIO  # noqa: E402

# Tips and "GPU available: False" are not news; warnings and errors still show.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)

__all__ = ["TensorBoardLogger", "TorchCheckpointIO", "callbacks", "pl"]
