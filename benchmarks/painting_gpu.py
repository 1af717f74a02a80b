"""One pass on a GPU, with the share that it reaches of the memory's bandwidth."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from allaprima.generators.johnson import JohnsonGenerator
from benchmarks.arithmetic import generator_gmac, generator_traffic_gb
from benchmarks.baseline import PlainGenerator
from benchmarks.figures import Row, Section, interleave
from benchmarks.machine import memory_rate

CASES = ((1024, 1), (256, 64))  # side in px, photos at once
FULL = {"filters": [32, 64, 128], "num_residual_blocks": 5}
DEFAULT = {"filters": [16, 32, 64], "num_residual_blocks": 5, "margin_px": 24}


class Way(NamedTuple):
    """A row: a generator's arguments, and how it is run."""

    arguments: dict[str, Any]
    plain: bool = False
    precision: str = "32"


WAYS = {
    "32-64-128, plain torch": Way(FULL, plain=True),
    "32-64-128, allaprima": Way(FULL),
    "32-64-128, allaprima, bf16": Way(FULL, precision="bf16"),
    "16-32-64 with its margin, allaprima, bf16": Way(DEFAULT, precision="bf16"),
}


def gpu_sections(
    quick: bool, device: str = "cuda", cases: Sequence[tuple[int, int]] = CASES
) -> list[Section]:
    """A table for each case, all ways in turn."""
    bandwidth = memory_rate(quick, device)
    sections = []
    for side_px, batch in cases:
        calls = {name: make_call(way, side_px, batch, device) for name, way in WAYS.items()}
        seconds = interleave(calls, rounds=5 if quick else 20, warm_up=3)
        rows = []
        for name, way in WAYS.items():
            item = 2 if way.precision == "bf16" else 4
            traffic = batch * generator_traffic_gb(way.arguments, side_px, side_px, item)
            row = Row(
                name,
                seconds[name],
                work=batch * side_px**2 / 1e6,
                unit="megapixels",
                gmac=batch * sum(generator_gmac(way.arguments, side_px, side_px)),
                precision=f"{device} {way.precision}",
            )
            row.note = f"{traffic / row.median_s / bandwidth:.0%} of the memory's bandwidth"
            rows.append(row)
        title = f"One pass on a GPU, {batch} × {side_px}²"
        sections.append(Section(f"painting_gpu_{side_px}", title, rows))
    sections[0].notes = [
        f"The bandwidth is that of copying a large tensor, {bandwidth:,.0f} GB/s; the traffic that "
        "is held against it, each convolution's input and output, once. Plain: eager, float32, "
        "NCHW, native instance norm. Photos and paintings stay on the GPU."
    ]
    return sections


def make_call(way: Way, side_px: int, batch: int, device: str) -> Callable[[], None]:
    """One call paints the same photos, and waits for them."""
    torch.manual_seed(0)
    photos = torch.rand(batch, 3, side_px, side_px, device=device)
    if way.plain:
        network = PlainGenerator(way.arguments["filters"]).to(device).eval()
    else:
        network = JohnsonGenerator(**way.arguments).to(device).eval()
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore
        photos = photos.contiguous(memory_format=torch.channels_last)
    half = way.precision == "bf16"

    def paint() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
            network(photos)
        if device == "cuda":
            torch.cuda.synchronize()

    return paint
