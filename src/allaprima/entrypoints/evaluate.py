"""evaluate.py: a checkpoint's single pass against slow optimisation, on validation photos."""

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from allaprima.entrypoints.configuration import expand_home, register_resolvers, run_or_explain
from allaprima.entrypoints.evaluation_job import Job, check_size, prepare
from allaprima.entrypoints.train import command, shown
from allaprima.errors import InputError
from allaprima.evaluate import STARTS, Figures, Plan, describe_machine
from allaprima.evaluation_files import EvaluationFolder, find_runs, fingerprint
from allaprima.photos import read_square
from allaprima.resources import resource_dir
from allaprima.weights import find_generator

INTERRUPTED = 130  # the shell's status of a command that Ctrl-C ended
MAX_SEED = 2**32 - 1  # as train.py has it
MAX_SIZE_PX = 8192  # of which VGG's first activations take 17 GB
PATH = "a name or path; one that reads as a number, a list or a switch begins with ./"
SWITCH = "true or false"
TYPES: dict[str, tuple[Any, str]] = {
    "checkpoint": (str, PATH),
    "output_dir": (str, PATH),
    "style.image": (str | None, PATH),
    "reuse": (str | None, PATH),
    "data.root": (str | None, PATH),
    "until_beaten": (bool, SWITCH),
    "resume": (bool, SWITCH),
    "overwrite": (bool, SWITCH),
}

console = Console(highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Console entry point."""
    register_resolvers()
    expand_home()
    configs = str(resource_dir("configs").resolve())
    task = hydra.main(version_base="1.3", config_path=configs, config_name="evaluate")
    task(lambda cfg: run_or_explain(evaluate, cfg))()


def evaluate(cfg: DictConfig) -> None:
    """Evaluate as configured; leave figures, page, plot and contact sheet in ``cfg.output_dir``.

    Raises:
        InputError: what the user gave cannot be evaluated.
    """
    plan = read_plan(cfg)
    folder = EvaluationFolder(
        Path(cfg.output_dir), cfg.sizes, resume=cfg.resume, overwrite=cfg.overwrite
    )
    job, recipe = prepare(cfg, plan)
    reuse = None if cfg.reuse is None else Path(cfg.reuse)
    if reuse and (job.loss is None or not (reuse / "photos").is_dir()):
        raise InputError(f"reuse={reuse} must be the folder of a stylisation's evaluation")
    for size_px in cfg.sizes:
        check_size(job, size_px)
    paths = list_photos(cfg, recipe)
    try:
        by_size = evaluate_photos(job, folder, reuse, paths, list(cfg.sizes), cfg.data.num_val)
    except KeyboardInterrupt:
        words = command().split(" ")
        words = [w for w in words if not w.startswith(("resume=", "overwrite=", "hydra.run.dir="))]
        go_on = [*words, f"hydra.run.dir={shown(folder.path)}", "resume=true"]
        print(f"\nStopped; photos that are done are kept. To go on:\n  {' '.join(go_on)}")
        sys.exit(INTERRUPTED)
    name = find_generator(cfg.checkpoint).name
    about = {"checkpoint": name, "command": command(), "machine": describe_machine(job.device)}
    written = folder.write(by_size, job.plan, {**about, "settings": job.settings})
    print(f"\n{written[0].read_text(encoding='utf-8')}")
    print("\n".join(f"Wrote {shown(path)}" for path in written))


def read_plan(cfg: DictConfig) -> Plan:
    """Check the options themselves, before any work."""
    if cfg.checkpoint is None:
        raise InputError("checkpoint is not given: add checkpoint=FILE.safetensors, or a .ckpt")
    for name, (type_, rule) in TYPES.items():
        if not isinstance(value := OmegaConf.select(cfg, name), type_):
            raise InputError(f"{name}={value} must be {rule}")
    for name in ("sizes", "starts"):
        if not OmegaConf.is_list(cfg[name]) or not cfg[name]:
            raise InputError(f"{name}={cfg[name]} must be a list, such as {name}=[{_usual[name]}]")
    for name, number, least, most in (
        ("evaluations", cfg.evaluations, 1, math.inf),
        ("data.num_val", cfg.data.num_val, 1, math.inf),
        ("seed", cfg.seed, 0, MAX_SEED),
        *(("sizes", size, 1, MAX_SIZE_PX) for size in cfg.sizes),
    ):
        if type(number) is not int or not least <= number <= most:
            end = f" and at most {most}" if most < math.inf else ""
            raise InputError(f"{name}: {number} must be a whole number of at least {least}{end}")
    if unknown := [start for start in cfg.starts if start not in STARTS]:
        raise InputError(f"starts: {unknown[0]} is unknown; take some of {', '.join(STARTS)}")
    starts = tuple(dict.fromkeys(cfg.starts))
    return Plan(starts, cfg.evaluations, cfg.until_beaten, cfg.seed)


_usual = {"sizes": "256,512", "starts": "noise,content"}


def list_photos(cfg: DictConfig, recipe: Mapping[str, Any]) -> list[Path]:
    """The validation photos; of a folder without any, those that training held out of it.

    A folder is all for validation, if the checkpoint was not trained on one.
    """
    data = cfg.data
    if "root" in data.keys() and OmegaConf.is_missing(data, "root"):  # noqa: SIM118
        raise InputError("data.root is not given: add data.root=FOLDER")
    if "val_photos" not in data:
        raise InputError("this data has no photos to evaluate on; take data=coco, folder or demo")
    if data.val_photos is not None:
        return instantiate(data.val_photos)
    photos, trained = instantiate(data.train_photos), recipe.get("data")
    if not isinstance(trained, dict) or trained.get("photos") != "folder":
        return photos
    num_val, seed = trained.get("num_val", 8), trained.get("seed", 0)
    if len(photos) <= num_val:
        return photos  # too few to have been trained on
    from allaprima.data import PhotoDataModule

    return list(map(Path, PhotoDataModule(photos, num_val=num_val, seed=seed).val_photos))


def read_photos(paths: list[Path], size_px: int, num_photos: int) -> Iterator[tuple[Path, Tensor]]:
    """The central squares, RGB (3, size, size) in [0,1], of the first that can be read."""
    num_read = 0
    for path in paths:
        if num_read == num_photos:
            return
        try:
            square = read_square(path, size_px)
        except InputError as error:
            console.print(f"left out: {error}")
            continue
        num_read += 1
        yield path, torch.from_numpy(square).permute(2, 0, 1).float() / 255
    if not num_read:
        raise InputError(f"none of the {len(paths)} photos can be read")


def evaluate_photos(
    job: Job,
    folder: EvaluationFolder,
    reuse: Path | None,
    paths: list[Path],
    sizes: list[int],
    num_photos: int,
) -> dict[int, list[Figures]]:
    """All photos at all sizes; each is written when it is done, and not done again if it was."""
    num_photos = min(num_photos, len(paths))
    each = len(job.plan.starts) * job.plan.evaluations
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    by_size: dict[int, list[Figures]] = {size: [] for size in sizes}
    with Progress(
        *columns,
        TextColumn("left"),
        console=console,
        transient=True,
        speed_estimate_period=600,
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task("", total=num_photos * each * sum(size**2 for size in sizes))
        for size_px in by_size:
            photos = enumerate(read_photos(paths, size_px, num_photos), 1)
            for number, (path, photo) in photos:
                start = progress.tasks[0].completed
                text = f"{path.stem}, {number} of {num_photos} at {size_px}²"
                progress.update(bar, description=text)
                settings = {**job.settings, "photo": path.name, "size_px": size_px}
                settings["pixels"] = fingerprint(photo.numpy().tobytes())
                name = f"{number:03d}_{path.stem}_{size_px}"
                figures = folder.find(name, settings)
                if figures is None:
                    earlier = find_runs(reuse, name, settings) if reuse else None
                    figures, pictures = job.evaluate(
                        photo.to(job.device),
                        lambda area=size_px**2: progress.advance(bar, area),
                        earlier,
                    )
                    figures = {"name": path.stem, "settings": settings, **figures}
                    folder.keep(name, figures, pictures)
                by_size[size_px].append(figures)
                progress.update(bar, completed=start + each * size_px**2)
                console.print(f"{text}: {describe(figures, job.plan)}")
    return by_size


def describe(figures: Figures, plan: Plan) -> str:
    """A photo's outcome in a sentence."""
    if "metrics" in figures:
        return ", ".join(f"{name} {value:.4g}" for name, value in figures["metrics"].items())
    counts = (
        f"{run['equivalent'] or f'more than {plan.evaluations}'} evaluations from {start}"
        for start, run in figures["optimizer"].items()
    )
    return f"loss of one pass {figures['pass']['loss']:.4g}, worth {', '.join(counts)}"
