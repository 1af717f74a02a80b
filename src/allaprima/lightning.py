"""The one door to Lightning: ``from allaprima.lightning import pl``."""

import logging
import warnings

from allaprima.torchvision_ops import import_torchvision

import_torchvision()  # Lightning's metrics import torchvision and need it to succeed

import pytorch_lightning as pl  # noqa: E402
from pytorch_lightning import callbacks  # noqa: E402
from pytorch_lightning.loggers import TensorBoardLogger  # noqa: E402
from pytorch_lightning.plugins import TorchCheckpointIO  # noqa: E402

# What is not news here: tips, "GPU available: False", few workers on a small machine, a run's
# folder with a run's files in it, the averaged generator in evaluation mode. Other warnings and
# errors still show.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
for message in ("does not have many workers", "is not empty", "LeafSpec", "in eval mode at the st"):
    warnings.filterwarnings("ignore", f".*{message}.*")

__all__ = ["TensorBoardLogger", "TorchCheckpointIO", "callbacks", "pl"]
