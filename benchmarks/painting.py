"""One pass over a photo: the compiled painter against plain torch and ONNX Runtime.

torch is imported by the functions that need it, so that the painter's memory is weighed without.
"""

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from allaprima.painter import Painter
from allaprima.processors import num_cores
from benchmarks.figures import Goal, Row, Section, interleave, ratio
from benchmarks.memory import peak_memory

FULL, DEFAULT = (32, 64, 128), (16, 32, 64)  # filters
LARGE, SMALL = (1088, 1920), (360, 640)
PLAIN, LAST, ONNX = "plain torch", "torch, channels last", "ONNX Runtime"
OURS = {"32": "allaprima", "bf16": "allaprima, bf16"}
MARGIN_PX = 24  # configs/generator/johnson.yaml
AS_SHIPPED = ", with its margin"  # 16-32-64, that no other engine has here


def painting_figures(quick: bool) -> dict[str, Any]:
    """Both widths of Johnson's network at two sizes, every engine in turn; memory of each alone.

    Args:
        quick: the smaller size alone, few rounds, no memory.
    """
    import torch

    from benchmarks.arithmetic import generator_gmac
    from benchmarks.machine import product_rates

    sections = []
    with tempfile.TemporaryDirectory() as folder:
        for size in (SMALL,) if quick else (LARGE, SMALL):
            names = [(filters, name) for filters in (FULL, DEFAULT) for name in engines()]
            names += [(DEFAULT, n + AS_SHIPPED) for n in engines() if n in OURS.values()]
            if quick:
                names = [(f, n) for f, n in names if n != LAST and (f == FULL or n != PLAIN)]
            calls = {name: make_call(*name, *size, folder) for name in names}
            seconds = interleave(calls, rounds=2 if quick else 7, limit_s=120)
            rows = [
                Row(
                    row_name(filters, name),
                    seconds[filters, name],
                    work=size[0] * size[1] / 1e6,
                    unit="megapixels",
                    gmac=sum(generator_gmac(arguments_of(filters, name), *size)),
                    precision="bf16" if name.startswith(OURS["bf16"]) else "32",
                    memory_mb=None if quick else weigh(filters, name, size, folder),
                )
                for filters, name in names
            ]
            sections.append(Section(f"painting_{size[1]}", f"One pass, {size[1]}×{size[0]}", rows))
    large, small = sections[0], sections[-1]  # the same if quick
    large.goals += goals_of_large(large)
    small.goals += goals_of_small(small, product_rates(quick))
    large.notes = [
        "Plain: eager, float32, NCHW, native instance norm. ONNX Runtime: the same network, "
        "exported at that very size. Memory is the peak over the bare interpreter. The share "
        "counts direct convolutions, of whose products Winograd's need a part. The margin is the "
        f"shipped generators': {MARGIN_PX} px more on every side."
    ]
    if torch.cuda.is_available():
        from benchmarks.painting_gpu import gpu_sections

        sections += gpu_sections(quick)
    return {"sections": [section.as_dict() for section in sections]}


def arguments_of(filters: tuple[int, int, int], name: str) -> dict[str, Any]:
    margin = {"margin_px": MARGIN_PX} if name.endswith(AS_SHIPPED) else {}
    return {"filters": list(filters), "num_residual_blocks": 5, **margin}


def row_name(filters: tuple[int, int, int], name: str) -> str:
    return f"{'-'.join(map(str, filters))}, {name}"


def engines() -> list[str]:
    """Those that there are here."""
    from importlib.util import find_spec

    ours = [name for precision, name in OURS.items() if Painter.available(precision)]
    onnx = [ONNX] if find_spec("onnxruntime") and find_spec("onnxscript") else []
    return [PLAIN, LAST, *onnx, *ours]


def goals_of_large(section: Section) -> list[Goal]:
    found = {row.name: row for row in section.rows}
    plain, onnx, ours = (found.get(row_name(FULL, n)) for n in (PLAIN, ONNX, OURS["32"]))
    default = found.get(row_name(DEFAULT, OURS["32"] + AS_SHIPPED))
    assert plain is not None
    memory = ours and ours.memory_mb and plain.memory_mb and ours.memory_mb / plain.memory_mb
    return [
        Goal("32-64-128 against plain torch", ours and ratio(plain, ours), least=3.5),
        Goal("… against ONNX Runtime", ours and onnx and ratio(onnx, ours), least=1.1),
        Goal("16-32-64 against plain 32-64-128", default and ratio(plain, default), least=10),
        Goal(
            "peak memory, 32-64-128, of plain torch's",
            memory or None,
            most=0.5,
            note="" if memory else "not weighed in this run",
        ),
    ]


def goals_of_small(section: Section, rates: dict[str, float]) -> list[Goal]:
    name = row_name(DEFAULT, OURS["bf16"] + AS_SHIPPED)
    rows = [row for row in section.rows if row.name == name]
    share = rows[0].gmac / rows[0].median_s / rates["bf16"] if rows and rows[0].gmac else None
    what = "16-32-64 in bf16, share of the bf16 product rate"
    return [Goal(what, share, least=0.4, unit="", note="" if rows else "no bf16 products here")]


def weigh(
    filters: tuple[int, int, int], name: str, size: tuple[int, int], folder: str
) -> float | None:
    peak = peak_memory("benchmarks.painting:make_call", filters, name, *size, folder).over_start
    return peak if peak == peak else None  # NaN: the system does not tell


def make_call(
    filters: tuple[int, int, int], name: str, height: int, width: int, folder: str
) -> Callable[[], Any]:
    """One call paints the same photo with the same weights; files are kept in the folder."""
    photo = np.random.default_rng(1).random((height, width, 3), np.float32)
    if name in (PLAIN, LAST):
        return _torch_call(filters, photo, name == LAST)
    if name == ONNX:
        return _onnx_call(filters, photo, folder)
    plain = name.removesuffix(AS_SHIPPED)
    [precision] = (precision for precision, ours in OURS.items() if ours == plain)
    painter = Painter(arguments_of(filters, name), _weights(filters, folder), precision)
    return lambda: painter(photo)


def _weights(filters: tuple[int, int, int], folder: str) -> dict[str, np.ndarray]:
    file = Path(folder, f"{row_name(filters, 'weights')}.npz")
    if not file.exists():
        import torch

        from allaprima.generators.johnson import JohnsonGenerator

        torch.manual_seed(0)
        state = JohnsonGenerator(filters).state_dict()
        np.savez(file, **{name: tensor.numpy() for name, tensor in state.items()})
    with np.load(file) as weights:
        return dict(weights)


def _torch_call(
    filters: tuple[int, int, int], photo: np.ndarray, channels_last: bool
) -> Callable[[], Any]:
    import torch

    from benchmarks.baseline import PlainGenerator

    layout = torch.channels_last if channels_last else torch.contiguous_format
    torch.manual_seed(0)
    network = PlainGenerator(filters).eval().to(memory_format=layout)  # pyright: ignore
    photos = torch.from_numpy(photo).permute(2, 0, 1)[None].contiguous(memory_format=layout)

    def paint() -> None:
        with torch.inference_mode():
            network(photos)

    return paint


def _onnx_call(filters: tuple[int, int, int], photo: np.ndarray, folder: str) -> Callable[[], Any]:
    import onnxruntime

    file = Path(folder, f"{row_name(filters, str(photo.shape))}.onnx")
    if not file.exists():
        _export(filters, photo.shape[:2], file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_cores()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    [name] = (node.name for node in session.get_inputs())
    photos = np.ascontiguousarray(photo.transpose(2, 0, 1)[None])
    return lambda: session.run(None, {name: photos})


def _export(filters: tuple[int, int, int], size: tuple[int, ...], file: Path) -> None:
    import torch

    from benchmarks.baseline import PlainGenerator

    network = PlainGenerator(filters).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            network, (torch.zeros(1, 3, *size),), os.fspath(file), dynamo=True, verbose=False
        )
