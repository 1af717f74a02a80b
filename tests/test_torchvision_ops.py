import subprocess
import sys
from pathlib import Path

import allaprima
from allaprima.torchvision_ops import import_torchvision

# Stands in for a torchvision whose compiled part cannot be loaded: as the real one, it registers
# something for an operator at import, which must exist. Or it fails for another reason.
BROKEN_TORCHVISION = """
import os, torch
if "FAIL" in os.environ:
    raise RuntimeError(os.environ["FAIL"])
import torchvision.first
for name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, name):
        raise RuntimeError(f"operator torchvision::{name} does not exist")
"""
SCRIPT = """
import os, sys, torch
from allaprima.torchvision_ops import import_torchvision
os.environ["FAIL"] = "something else"
try:
    import_torchvision()
except RuntimeError as error:
    assert str(error) == "something else", error
else:
    raise AssertionError("another failure was hidden")
assert not hasattr(torch.ops.torchvision, "nms")
del os.environ["FAIL"]
import_torchvision()
import_torchvision()
import torchvision.first
assert torchvision.first is sys.modules["torchvision.first"]
assert torch.ops.torchvision.nms and torch.ops.torchvision.qnms
"""


def test_torchvision_can_be_imported_again_and_again():
    import_torchvision()
    first = sys.modules["torchvision"]
    import_torchvision()
    assert sys.modules["torchvision"] is first
    from torchvision import models

    assert models.get_model_weights("vgg16").IMAGENET1K_FEATURES.url.endswith(".pth")


def test_missing_operators_are_declared_and_other_errors_are_not_hidden(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text(BROKEN_TORCHVISION)
    (tmp_path / "torchvision/first.py").touch()
    source = Path(allaprima.__file__).parent.parent
    paths = [str(tmp_path), str(source)]
    script = f"import sys; sys.path[:0] = {paths}\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
