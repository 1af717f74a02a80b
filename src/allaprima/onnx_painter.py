"""Painting with an exported generator: ONNX Runtime and numpy, no torch."""

from pathlib import Path
from typing import Any

import numpy as np

from allaprima.errors import InputError
from allaprima.weights import FORMAT_VERSION, from_text

MISSING = "needs ONNX Runtime, which is not installed: pip install 'allaprima[onnx]'"
FLOAT, UINT8 = "float32 1×3×H×W", "uint8 H×W×3"
MAX_BYTES = 2**31 - 1  # protobuf's own limit; a generator has a thousandth


class OnnxPainter:
    """A generator that :func:`allaprima.export.export_generator` wrote; threads may share it.

    The file is read whole, and nothing beside it: weights in other files are refused.

    Args:
        threads: that compute; None leaves it to ONNX Runtime, which takes the physical cores.

    Attributes:
        metadata: what the file says of itself: style, licence, recipe, generator.

    Raises:
        InputError: ONNX Runtime is not installed, or the file is missing, damaged, no ONNX file,
            or another network's.
    """

    def __init__(self, path: str | Path, threads: int | None = None):
        self.path = Path(path)
        self._session = _open(self.path, threads)
        self.metadata = _read_metadata(self.path, self._session)
        self._pixels = _read_pixels(self.path, self._session)
        self.min_size_px: int = self.metadata["min_size_px"]

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Paint RGB (H, W, 3) float32 in [0,1]: the same, larger for super-resolution.

        Raises:
            InputError: smaller than the generator takes, or more than the memory holds.
        """
        height, width = rgb.shape[:2]
        if min(height, width) < self.min_size_px:
            raise InputError(
                f"photo of {width}×{height} px; each side must be ≥ {self.min_size_px} px"
            )
        if self._pixels == UINT8:
            return self._run(_to_uint8(rgb)).astype(np.float32) / 255
        photo = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32)
        return np.ascontiguousarray(self._run(photo)[0].transpose(1, 2, 0))

    def _run(self, photo: np.ndarray) -> np.ndarray:
        try:
            [painted] = self._session.run(None, {self._session.get_inputs()[0].name: photo})
        except Exception as error:  # ONNX Runtime has no exception of its own for want of memory
            words = str(error).lower()
            if "alloc" not in words and "memory" not in words:
                raise
            height, width = photo.shape[:2] if self._pixels == UINT8 else photo.shape[2:]
            raise InputError(
                f"{width} × {height} px need more memory than there is; scale the photo down"
            ) from error
        return painted


def _open(path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{path} {MISSING}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is told by an exception, once
    options.intra_op_num_threads = threads or 0
    try:
        size_bytes = path.stat().st_size
        if not 0 < size_bytes <= MAX_BYTES:
            raise InputError(f"{path} has {size_bytes} bytes; it is no ONNX file of a generator")
        model = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of a damaged file ONNX Runtime says nearly anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{path} is no ONNX file, damaged, or made for a newer ONNX Runtime than "
            f"{onnxruntime.__version__} ({reason:.160})"
        ) from error


def _read_metadata(path: Path, session: Any) -> dict[str, Any]:
    texts = session.get_modelmeta().custom_metadata_map
    version = texts.get("format_version")
    if version is None:
        raise InputError(
            f"{path} holds another network: it was not written by scripts/export.py, and what its "
            "pixels mean is not known"
        )
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {version!r:.40}; this release reads {FORMAT_VERSION!r}"
        )
    metadata = {name: from_text(text) for name, text in texts.items()}
    metadata["format_version"] = version
    least = metadata.get("min_size_px")
    if type(least) is not int or least < 1:
        raise InputError(f"{path}: min_size_px is {least!r:.40}; must be a whole number above 0")
    return metadata


def _read_pixels(path: Path, session: Any) -> str:
    """Which of the two forms of pixels the network takes and gives."""
    forms = [
        (len(inputs), inputs[0].type, _channels(inputs[0].shape)) if inputs else None
        for inputs in (session.get_inputs(), session.get_outputs())
    ]
    for name, form in {
        FLOAT: (1, "tensor(float)", (4, 3)),
        UINT8: (1, "tensor(uint8)", (3, 3)),
    }.items():
        if forms == [form, form]:
            return name
    found = "; ".join(
        ", ".join(f"{value.name}: {value.type} {value.shape}" for value in values)
        for values in (session.get_inputs(), session.get_outputs())
    )
    raise InputError(
        f"{path} holds another network: it maps {found:.200}; a generator maps one photo to one "
        f"painting, {FLOAT} or {UINT8}"
    )


def _channels(shape: list[Any]) -> tuple[int, Any]:
    """How many dimensions there are, and the size of the one that is colour."""
    place = {4: 1, 3: 2}.get(len(shape))
    return len(shape), None if place is None else shape[place]


def _to_uint8(rgb: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray((rgb * np.float32(255) + np.float32(0.5)).clip(0, 255), np.uint8)
