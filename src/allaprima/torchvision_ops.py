"""Make ``import torchvision`` work beside a torch build that its compiled part does not fit."""

import importlib
import sys

import torch

_library: torch.library.Library | None = None  # dropping it would undeclare the operators


def import_torchvision() -> None:
    """Import torchvision, whichever builds of torch and torchvision happen to be installed.

    A CPU build of torch next to a CUDA build of torchvision (what a package index alone often
    gives) cannot load torchvision's compiled operators, and ``import torchvision`` then dies
    with "operator torchvision::nms does not exist", taking Lightning with it. Only models and
    weights are needed here, so the two operators that the import insists on are declared
    without an implementation. With builds that fit, this is a plain import.
    """
    global _library
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _library = torch.library.Library("torchvision", "FRAGMENT")
        _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
