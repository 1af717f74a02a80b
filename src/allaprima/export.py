"""Generators for other programs: ONNX and torch.export files, compared before they are kept."""

import copy
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from allaprima import __version__
from allaprima.errors import InputError
from allaprima.images import find_pictures, read_photo, resize
from allaprima.onnx_painter import OnnxPainter
from allaprima.portable import PortableGenerator, paint_portably, trace
from allaprima.resources import resource_dir
from allaprima.weights import FORMAT_VERSION, as_text, describe_generator

SUFFIXES = (".onnx", ".pt2")
OPSET, IR_VERSION = 20, 9  # a pair; what torch recommends, and ONNX Runtime reads from 1.17 on
LIMIT = 2 / 255
SIZES = ((256, 256), (401, 301), (1279, 719))
NUM_TIMED = 3
NEEDED = ("onnx", "onnxscript", "onnxruntime")

Paint = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """One photo through the file and through the generator; differences in units of [0,1]."""

    width: int
    height: int
    maximum: float
    mean: float
    latency_s: float


@dataclass(frozen=True)
class Report:
    """What was written, how near it comes to the generator, and how fast it is."""

    file: Path
    size_bytes: int
    engine: str
    comparisons: list[Comparison]

    @property
    def maximum(self) -> float:
        """The largest difference of all."""
        return max(comparison.maximum for comparison in self.comparisons)


def export_generator(
    generator: nn.Module,
    metadata: Mapping[str, Any],
    path: str | Path,
    *,
    half: bool = False,
    uint8: bool = False,
    overwrite: bool = False,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> Report:
    """Write a generator to ``.onnx`` or ``.pt2`` (torch.export), and its report to ``FILE.json``.

    The file takes any height and width from the generator's smallest on. It is read again and
    compared on shipped photos before it gets its name: what differs by more than 2/255 anywhere
    is not kept. A generator with noise paints with :func:`allaprima.portable.position_noise`.

    Args:
        metadata: as :func:`allaprima.weights.load_generator` gives it; goes into the file.
        half: float16 inside, for ONNX; pixels stay float32.
        uint8: pixels are (H, W, 3) uint8, as apps have them; else (1, 3, H, W) float32 in [0,1].
        sizes: (width, height) to compare at; divided by super-resolution's factor.

    Raises:
        InputError: another suffix, a generator of textures, a file that is there already or cannot
            be written, ONNX that is not installed, or a difference beyond the limit.
    """
    path = Path(path)
    _check(path, half, overwrite)
    network = PortableGenerator(generator, half=half, uint8=uint8)
    described = {
        **metadata,
        **describe_generator(generator),
        "format_version": FORMAT_VERSION,
        "precision": "float16" if half else "float32",
        "pixels": "uint8" if uint8 else "float32",
        "min_size_px": network.min_size_px,
    }
    write, open_ = (_write_onnx, OnnxPainter) if path.suffix == ".onnx" else (_write_pt2, _open_pt2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder, not a name of its own: torch writes the name into the file.
        with TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            partial, partial_report = Path(folder, path.name), Path(folder, "report.json")
            write(partial, network, described)
            comparisons = compare(generator, open_(partial), sizes)
            report = Report(path, partial.stat().st_size, _engine(path), comparisons)
            _check_parity(report)
            text = json.dumps(asdict(report) | {"file": path.name, "limit": LIMIT}, indent=1)
            partial_report.write_text(f"{text}\n", encoding="utf-8")
            os.replace(partial, path)
            os.replace(partial_report, _report_of(path))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    return report


def compare(
    generator: nn.Module, paint: Paint, sizes: Sequence[tuple[int, int]]
) -> list[Comparison]:
    """Paint shipped photos, scaled to the sizes, by both; time the second."""
    factor: Any = getattr(generator, "factor", 1)
    photos = find_pictures(resource_dir("assets") / "photos" / "val")
    comparisons = []
    for number, (width, height) in enumerate(sizes):
        if factor > 1:  # the painting is of about that size; the photo's sides are odd
            width, height = width // factor | 1, height // factor | 1
        pixels = resize(read_photo(photos[number % len(photos)]), height, width)
        rgb = np.divide(pixels, 255, dtype=np.float32)
        with torch.inference_mode():
            expected = paint_portably(generator, torch.from_numpy(rgb).permute(2, 0, 1)[None])
        painted = paint(rgb)
        # Not a number differs by more than any number.
        apart = np.nan_to_num(np.abs(painted - expected[0].permute(1, 2, 0).numpy()), nan=np.inf)
        times_s = []
        for _ in range(NUM_TIMED):
            start = time.perf_counter()
            paint(rgb)
            times_s.append(time.perf_counter() - start)
        latency_s = statistics.median(times_s)
        comparisons.append(
            Comparison(width, height, float(apart.max()), float(apart.mean()), latency_s)
        )
    return comparisons


def _check(path: Path, half: bool, overwrite: bool) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: exported files end in {' or '.join(SUFFIXES)}")
    for file in (path, _report_of(path)):
        if file.is_dir():
            raise InputError(f"{file} is a folder, and a file is to be written; name another")
        if file.exists() and not overwrite:
            raise InputError(f"{file} exists already; choose another name or say --overwrite")
    if path.suffix == ".onnx" and (missing := [name for name in NEEDED if not find_spec(name)]):
        raise InputError(
            f"{path} needs {', '.join(missing)}, which are not installed: "
            "pip install 'allaprima[onnx]'"
        )
    if half and path.suffix != ".onnx":
        raise InputError(f"{path}: float16 is for .onnx; torch has it slow or not at all on a CPU")


def _report_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _check_parity(report: Report) -> None:
    if report.maximum > LIMIT:
        worst = max(report.comparisons, key=lambda comparison: comparison.maximum)
        raise InputError(
            f"{report.file} is not written: at {worst.width}×{worst.height} px it would differ "
            f"from the generator by {255 * worst.maximum:.2f}/255, more than {255 * LIMIT:.0f}/255"
        )


def _write_onnx(path: Path, network: PortableGenerator, metadata: Mapping[str, Any]) -> None:
    import onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        program = torch.onnx.export(
            trace(network),
            input_names=["photo"],
            output_names=["painting"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = copy.deepcopy(program.model_proto)
    graph = model.graph
    graph.name = "generator"
    for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        item.ClearField("metadata_props")  # where in whose source files a node comes from
        item.ClearField("doc_string")
    graph.ClearField("value_info")
    same = getattr(network.generator, "factor", 1) == 1
    names = ("height", "width") if same else ("painting_height", "painting_width")
    _name_sizes(graph.input[0], ("height", "width"))
    _name_sizes(graph.output[0], names)
    model.ir_version = IR_VERSION  # torch's is for newer types, which are not used
    model.producer_name, model.producer_version = "allaprima", __version__
    for name, value in metadata.items():
        text = value if name == "format_version" else as_text(value)
        model.metadata_props.add(key=name, value=text)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _name_sizes(value: Any, names: tuple[str, str]) -> None:
    free = [size for size in value.type.tensor_type.shape.dim if size.dim_param]
    assert len(free) == 2, f"{value.name} has {len(free)} free sizes"
    for size, name in zip(free, names, strict=True):
        size.dim_param = name


def _write_pt2(path: Path, network: PortableGenerator, metadata: Mapping[str, Any]) -> None:
    program = trace(network)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where on this machine the source files are
    torch.export.save(program, path, extra_files={"metadata.json": json.dumps(dict(metadata))})


def _open_pt2(path: Path) -> Paint:
    network: Any = torch.export.load(path).module()
    [photo] = [spec for spec in network.graph.nodes if spec.op == "placeholder"]
    uint8 = photo.meta["val"].dtype == torch.uint8

    def paint(rgb: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            if uint8:
                pixels = torch.from_numpy((255 * rgb + 0.5).astype(np.uint8))
                return network(pixels).numpy().astype(np.float32) / 255
            return network(torch.from_numpy(rgb).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()

    return paint


def _engine(path: Path) -> str:
    if path.suffix == ".pt2":
        return f"torch {torch.__version__}"
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}, CPU"
