"""docs/reproduction.md and its pictures, from what the runs left; every figure is computed here."""

import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from allaprima.evaluation_report import table, worth
from allaprima.weights import read_metadata
from benchmarks.reproduction import RUNS
from benchmarks.reproduction_measures import (
    contrast_change,
    rms_difference,
    score,
    validation_curve,
)
from benchmarks.reproduction_pictures import draw_pictures

HEAD = """# The papers' claims, measured

Written by `python scripts/reproduce.py --photos COCO --painting starry_night.jpg`, which does the
runs below and computes every figure. {name}, {threads} threads, torch {torch}. No GPU: trainings
are scaled down from the papers' schedules to what two cores do in minutes (a few hundred steps at
128², in the table of commands), one seed each, so that small differences mean little. Trained on
1 255 photographs in COCO's layout and *The Starry Night*; judged on photographs that were not
trained on. Losses compare only within a row. The pictures' photographs are credited in
[SOURCES.md](../src/allaprima/assets/photos/SOURCES.md).
"""
COMMANDS_NOTE = "`$PHOTOS` is COCO or a folder in its layout, `$PAINTING` an image of the painting."


class Claim(NamedTuple):
    """A row of the page: what a paper says, what came out, if that agrees, and the runs."""

    says: str
    figure: str
    holds: str
    runs: tuple[str, ...]


class Results:
    """What the runs left in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def metrics(self, run: str) -> dict[str, float]:
        """Of a training run, on its validation photos at the end."""
        metrics = read_metadata(next((self.folder / run).glob("*.safetensors")))["metrics"]
        return {name.removeprefix("validation/"): value for name, value in metrics.items()}

    def record(self, run: str) -> dict[str, Any]:
        return json.loads((self.folder / run / "record.json").read_text(encoding="utf-8"))

    def evaluation(self, run: str) -> dict[str, Any]:
        return json.loads((self.folder / run / "evaluation.json").read_text(encoding="utf-8"))

    def score(self, run: str) -> dict[str, float]:
        options = self.record(run)["options"]
        picture, style = self.folder / run / "picture.png", options["style"]
        return score(picture, options["content"], style["image"], style["size_px"])


def yes(holds: bool) -> str:
    return "yes" if holds else "**no**"


def one_pass_is_worth(results: Results) -> Iterator[Claim]:
    for run in ("yardstick_256", "yardstick_256_content", "yardstick_512"):
        evaluation = results.evaluation(run)
        [(size, summary)] = evaluation["summary"].items()
        [(start, figures)] = summary["starts"].items()
        equivalent, limit = figures["equivalent_evaluations"], evaluation["settings"]["evaluations"]
        median, steps = equivalent["median"], results.metrics("half_hour")["steps"]
        yield Claim(
            "One pass reaches the loss of 50–100 evaluations (Johnson 2016, fig. 5): from "
            f"{start}, {size}², trained for 30 minutes on two busy cores ({steps} steps)",
            f"{worth(equivalent, limit)}; {summary['num_photos']} photos",
            yes(median is None or median >= 50),
            ("half_hour", run),
        )


def one_pass_is_faster(results: Results) -> Iterator[Claim]:
    published = {256: 1060, 512: 1026, 1024: 1042}
    for size, says in published.items():
        run = f"yardstick_{size}"
        summary = results.evaluation(run)["summary"][str(size)]
        start = summary["starts"]["noise"]
        pass_s, evaluation_s = summary["pass_s"], start["s_per_evaluation"]
        ups = [n * evaluation_s / pass_s for n in (100, 300, 500)]
        yield Claim(
            f"One pass at {size}² is {says}× as fast as 500 iterations (Johnson 2016, table 1)",
            f"{', '.join(f'{up:.0f}×' for up in ups)} for 100, 300, 500 evaluations; one pass "
            f"{pass_s:.3f} s, one evaluation {evaluation_s:.2f} s",
            yes(ups[-1] >= 0.5 * says),
            (run,),
        )


def instance_norm_is_better(results: Results) -> Iterator[Claim]:
    for network in ("johnson", "ulyanov"):
        runs = f"batch_{network}", f"instance_{network}"
        batch, instance = (results.metrics(run)["loss"] for run in runs)
        yield Claim(
            f"Instance norm reaches a lower loss than batch norm at equal steps (Ulyanov 2016b, "
            f"fig. 3), {network.title()}'s network",
            f"validation loss {instance:.4g} against {batch:.4g}: {instance / batch:.2f}×",
            yes(instance < batch),
            runs,
        )
    for network in ("johnson", "ulyanov"):
        runs = f"batch_{network}", f"instance_{network}"
        batch, instance = (contrast_change(results.folder / run) for run in runs)
        yield Claim(
            f"The result should not depend on the photo's contrast; with instance norm it hardly "
            f"does (Ulyanov 2016b, sec. 2), {network.title()}'s network",
            f"at a quarter of the contrast pixels move by {instance:.3f} (RMS, of 1) with instance "
            f"norm, {batch:.3f} with batch norm",
            yes(instance < batch),
            runs,
        )


def few_photos_are_better(results: Results) -> Iterator[Claim]:
    runs = "photos_few", "photos_many"
    few, many = (results.metrics(run)["loss"] for run in runs)
    yield Claim(
        "A texture network stylises better when trained on 16 photos than on many (Ulyanov 2016a, "
        "sec. 3.3)",
        f"validation loss {few:.4g} with 16 against {many:.4g} with all: {few / many:.2f}×",
        "no difference" if abs(few / many - 1) < 0.02 else yes(few < many),
        runs,
    )


def textures_from_noise(results: Results) -> Iterator[Claim]:
    curve = validation_curve(results.folder / "texture")
    yield Claim(
        "A texture network needs a few hundred steps and makes endless textures in one pass "
        "(Ulyanov 2016a, sec. 4)",
        f"style loss falls from {curve[0][1]:.4g} at step {curve[0][0]} to {curve[-1][1]:.4g} at "
        f"step {curve[-1][0]}",
        yes(curve[-1][1] < 0.5 * curve[0][1]),
        ("texture",),
    )


def optimiser_variants(results: Results) -> Iterator[Claim]:
    starts = "gatys", "from_content", "from_style", "from_other_noise"
    final = [min(e["loss"] for e in results.record(run)["curve"]) for run in starts]
    pictures = [results.folder / run / "picture.png" for run in starts]
    seeds, others = rms_difference(pictures[0], pictures[3]), rms_difference(*pictures[:2])
    spread = max(final) / min(final)
    yield Claim(
        "The start has little effect on the outcome, and noise gives many (Gatys 2016, fig. 6)",
        f"losses from noise, photo, painting, other noise: {', '.join(f'{v:.4g}' for v in final)} "
        f"(factor {spread:.2f}); two noises differ by {seeds:.3f}, noise and photo by "
        f"{others:.3f} (RMS, of 1)",
        yes(spread < 1.5),
        starts,
    )
    for says, ours, theirs in (
        (
            "Average pooling is slightly more appealing than max (Gatys 2016, sec. 2)",
            "gatys",
            "max_pooling",
        ),
        ("VGG-19 (Gatys 2016) or VGG-16 (Johnson 2016)", "gatys", "vgg16"),
        (
            "Activation shift, all layers and the article's chain, against plain Gram matrices",
            "novak_nikulin",
            "gatys",
        ),
        ("The same with the paper's chain (Novak & Nikulin 2016)", "novak_nikulin_paper", "gatys"),
        ("The article's improved run against its basic one", "improved", "keras_example"),
    ):
        scores = [results.score(run) for run in (ours, theirs)]
        told = (
            f"{n} {a:.3g} against {b:.3g}"
            for n, a, b in zip(scores[0], scores[0].values(), scores[1].values(), strict=True)
        )
        yield Claim(says, ", ".join(told), "[see](#the-optimisers)", (ours, theirs))


def restoration(results: Results) -> Iterator[Claim]:
    for factor in (4, 8):
        m = results.metrics(f"superres{factor}")
        yield Claim(
            f"×{factor} super-resolution by features has a lower PSNR and SSIM than bicubic "
            "enlargement (Johnson 2016, sec. 4.2)",
            f"{m['psnr']:.2f} dB / {m['ssim']:.3f} against bicubic's {m['psnr_bicubic']:.2f} / "
            f"{m['ssim_bicubic']:.3f}",
            yes(m["psnr"] < m["psnr_bicubic"] and m["ssim"] < m["ssim_bicubic"]),
            (f"superres{factor}",),
        )
    m = results.metrics("colorization")
    gain = m["psnr"] - m["psnr_grey"]
    yield Claim(
        "A feature loss can teach colour to grey photos (Johnson 2016, sec. 5, named as a task)",
        f"{m['psnr']:.2f} dB / {m['ssim']:.3f} against the grey photo's {m['psnr_grey']:.2f} / "
        f"{m['ssim_grey']:.3f}",
        "no difference" if abs(gain) < 0.1 else yes(gain > 0),
        ("colorization",),
    )


def optimiser_is_fast(results: Results) -> Iterator[Claim]:
    record = results.record("pastiche")
    (_, theirs), (_, ours) = ((k, statistics.median(v)) for k, v in record["seconds"].items())
    their_mb, our_mb = record["memory_mb"].values()
    yield Claim(
        f"(No claim.) Our optimiser against the package pastiche, the same weights and layers, "
        f"{record['size_px']}², in turns",
        f"{ours:.2f} s an evaluation against {theirs:.2f} s: {theirs / ours:.2f}× as fast; peak "
        f"memory {our_mb:.0f} against {their_mb:.0f} MB",
        "–",
        ("pastiche",),
    )


CLAIMS: tuple[Callable[[Results], Iterator[Claim]], ...] = (
    one_pass_is_worth,
    one_pass_is_faster,
    instance_norm_is_better,
    few_photos_are_better,
    textures_from_noise,
    optimiser_variants,
    restoration,
    optimiser_is_fast,
)


def write_page(folder: Path, docs: Path) -> None:
    """Write the page and the folder of pictures beside it."""
    results = Results(folder)
    if missing := [run.name for run in RUNS if run.result(folder) is None]:
        raise SystemExit(f"The page is not written, for these runs are missing: {missing}")
    machine = results.evaluation("yardstick_256")["machine"]
    claims = [claim for make in CLAIMS for claim in make(results)]
    rows = [[c.says, c.figure, c.holds, ", ".join(c.runs)] for c in claims]
    commands = [[run.name, f"`{run.command}`"] for run in RUNS]
    lines = [
        HEAD.format(**machine),
        *table(["the papers", "here", "agrees", "runs"], rows),
    ]
    for title, caption, files in draw_pictures(folder, docs / "reproduction"):
        lines += ["", f"## {title}", "", caption]
        lines += [line for file in files for line in ("", f"![{title}](reproduction/{file})")]
    lines += ["", "## Commands", "", COMMANDS_NOTE, "", *table(["run", "command"], commands)]
    (docs / "reproduction.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
