"""How much sooner our training reaches the loss that the plain loop has after its 500 steps.

As a section, both train from scratch in turns. To tune a schedule, the plain loop's curve is kept
in a folder and gone on with, and ours is tried with other options:

    python benchmarks/time_to_loss.py FOLDER --steps 220 -o optimizer.lr=4e-3 --small-crops 100:96
"""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import typer

from allaprima.photos import list_coco, list_folder
from allaprima.resources import resource_dir
from benchmarks.figures import Goal, Row, Section
from benchmarks.racers import BATCH, CROP_PX, Judge, OurRun, PlainRun, Schedule, fresh_caches

PLAIN_STEPS = 500
PLAIN, OURS = "plain float32 loop", "ours, same networks and losses"


def photo_lists(coco: Path | None = None) -> tuple[list[Path], list[Path]]:
    """To train on and to validate on: COCO's, or those that come with the package."""
    if coco:
        return list_coco(coco, "train2017"), list_coco(coco, "val2017")
    assets = resource_dir("assets") / "photos"
    return list_folder(assets / "train"), list_folder(assets / "val")


def time_to_loss_figures(quick: bool) -> dict[str, Any]:
    """Both from scratch, in turns of a twentieth of each; what is compiled is compiled anew."""
    train, val = photo_lists()
    schedule = Schedule()
    judge = Judge(val)
    with fresh_caches():
        plain, ours = PlainRun(train), OurRun(train, schedule)
        turns = schedule.steps // schedule.validate_every
        for turn in range(turns):
            plain.advance(PLAIN_STEPS * (turn + 1) // turns - plain.num_steps)
            ours.advance(schedule.validate_every)
            for run in (plain, ours):
                run.validate(judge)
        ours.training.close()
    return section(plain.curve, ours.curve, schedule).as_dict()


def reached(curve: list[dict[str, float]], level: float) -> dict[str, float] | None:
    """The first point of a curve at or below a loss."""
    return next((point for point in curve if point["loss"] <= level), None)


def section(plain: list[dict], ours: list[dict], schedule: Schedule) -> Section:
    """Both curves, and the ratio of times at the plain one's last loss."""
    level, point = plain[-1]["loss"], reached(ours, plain[-1]["loss"])
    rows = [Row(f"{PLAIN}, {plain[-1]['step']:.0f} steps", [plain[-1]["seconds"]], unit="runs")]
    if point:
        rows.append(Row(f"{OURS}, {point['step']:.0f} steps", [point["seconds"]], unit="runs"))
    best = min(p["loss"] for p in ours)
    goal = Goal(
        "time to the plain loop's own validation loss, compile time included",
        plain[-1]["seconds"] / point["seconds"] if point else None,
        least=6,
        note="" if point else f"not reached: {best:.4g} against {level:.4g}",
    )
    title = f"Time to a validation loss of {level:.4g}, {CROP_PX}², batch {BATCH}"
    found = Section("time_to_loss", title, rows, goals=[goal])
    found.notes = [
        f"Scaled down: the plain loop's loss after {plain[-1]['step']:.0f} steps at {CROP_PX}². "
        "Both are judged by the plain float32 loss on the same photos that neither is trained on; "
        f"ours with averaged weights, every {schedule.validate_every} steps, the clock standing "
        f"still meanwhile. Our schedule: {schedule.steps} steps, {' '.join(schedule.overrides)}"
        + (f", crops of {schedule.small_crops[1]} px in the first {schedule.small_crops[0]} steps."
           if schedule.small_crops else "."),
    ]  # fmt: skip
    found.extra = {
        "curves": {
            name: {
                "x": [p["seconds"] for p in curve],
                "y": [p["loss"] for p in curve],
                "steps": [p["step"] for p in curve],
            }
            for name, curve in ((PLAIN, plain), (OURS, ours))
        },
        "level": level,
        "x_label": "seconds of training",
        "y_label": "validation loss",
    }
    return found


def main(
    folder: Annotated[Path, typer.Argument(help="Where the plain loop's run is kept.")],
    steps: Annotated[int, typer.Option(help="Of our run.")] = Schedule.steps,
    override: Annotated[list[str], typer.Option("-o", help="Of train.py's options.")] = [],  # noqa: B006
    small_crops: Annotated[str | None, typer.Option(help="STEPS:PX at the start.")] = None,
    every: Annotated[int, typer.Option(help="Validate ours each so many steps.")] = 10,
    coco: Annotated[Path | None, typer.Option(help="COCO, not the package's photos.")] = None,
    plain_steps: Annotated[int, typer.Option(help="Of the plain loop.")] = PLAIN_STEPS,
    limit_s: Annotated[float, typer.Option(help="End the plain loop for now after this.")] = 1e9,
    output: Annotated[Path | None, typer.Option(help="Both curves as JSON.")] = None,
) -> None:
    """Go on with the plain loop until it is done, then try a schedule of ours against it."""
    folder.mkdir(parents=True, exist_ok=True)
    train, val = photo_lists(coco)
    judge, start = Judge(val), time.monotonic()
    curve = go_on(PlainRun(train), folder / "plain.pt", judge, plain_steps, start + limit_s)
    if curve[-1]["step"] < plain_steps:
        print(f"Plain loop at step {curve[-1]['step']:.0f}; call again to go on.")
        return
    level = curve[-1]["loss"]
    small = tuple(map(int, small_crops.split(":"))) if small_crops else None
    schedule = Schedule(steps, override or Schedule().overrides, small, every)  # type: ignore
    ours = OurRun(train, schedule)
    while ours.num_steps < steps and not reached(ours.curve, level):
        ours.advance(min(every, steps - ours.num_steps))
        ours.validate(judge)
        print({key: round(value, 4) for key, value in ours.curve[-1].items()}, flush=True)
    ours.training.close()
    found = section(curve, ours.curve, schedule)
    print(f"Plain: {curve[-1]}\n{found.goals[0]}")
    if output:
        output.write_text(json.dumps(found.as_dict(), indent=1), encoding="utf-8")


def go_on(
    run: PlainRun, file: Path, judge: Judge, num_steps: int, until: float
) -> list[dict[str, float]]:
    """The plain loop's curve so far, 25 steps a point, kept in the file."""
    if file.exists():
        run.load(file)
    while run.num_steps < num_steps and time.monotonic() < until:
        run.advance(min(25, num_steps - run.num_steps))
        run.validate(judge)
        run.save(file)
        print({key: round(value, 4) for key, value in run.curve[-1].items()}, flush=True)
    return run.curve


if __name__ == "__main__":
    typer.run(main)
