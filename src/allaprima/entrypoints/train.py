"""train.py: compose the configuration, train, leave a generator."""

import shlex
import sys
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from allaprima.allocator import keep_freed_memory
from allaprima.entrypoints.configuration import expand_home, register_resolvers, run_or_explain
from allaprima.errors import InputError
from allaprima.images import RESIZE_FILTER
from allaprima.resources import resource_dir
from allaprima.weights import find_generator, load_generator


def main() -> None:
    """Console entry point."""
    register_resolvers()
    expand_home()
    configs = str(resource_dir("configs").resolve())
    task = hydra.main(version_base="1.3", config_path=configs, config_name="train")
    task(lambda cfg: run_or_explain(train, cfg))()


def train(cfg: DictConfig) -> None:
    """Train one generator as configured.

    Raises:
        InputError: what the user gave cannot be trained on.
    """
    from allaprima.callbacks import StopSignals
    from allaprima.lightning import TensorBoardLogger, pl
    from allaprima.result import check_unused, source_commit, write_result

    folder = Path(cfg.output_dir)
    checkpoint = find_checkpoint(cfg.resume)
    if not cfg.overwrite:
        check_unused(folder, cfg.style.name, checkpoint)
    keep_freed_memory()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it

    run: Any = instantiate(cfg.run, _convert_="all")
    module, data, trainer = run["module"], run["data"], run["trainer"]
    before = {}
    if cfg.start_from is not None:
        try:
            generator, metadata = load_generator(find_generator(cfg.start_from))
        except InputError as error:
            raise InputError(f"start_from={cfg.start_from}: {error}") from error
        module.start_from(generator)
        before = {"photos seen before, by start_from": photos_seen(metadata)}
    for size_px in data.crop_sizes_px:
        module.rehearse(size_px)
    style: Any = OmegaConf.to_container(cfg.style, resolve=True)
    module.record = {
        "style": {**style, "image": style["image"] and Path(style["image"]).name},  # no local path
        "recipe": recipe(cfg),
        "command": command(leave_out=("resume=", "overwrite=")),
        "grain": module.task.grain,
        "commit": source_commit(),  # now: the sources may have changed when the run ends
    }

    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    stopped = next(c for c in trainer.callbacks if isinstance(c, StopSignals)).received
    if stopped:
        if trainer.is_global_zero:
            print(f"\nStopped at step {trainer.global_step}. To go on exactly there:")
            print(f"  {command()} resume={shown(folder / 'last.ckpt')}")
        sys.exit(128 + stopped)

    [losses] = trainer.validate(module, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return
    metrics = {"steps": trainer.global_step, "photos seen": module.photos_seen, **before, **losses}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(OmegaConf.to_container(cfg, resolve=True), losses)  # pyright: ignore
            logger.finalize("success")
    photos = data.fixed_photos(3)
    result = write_result(folder, module, photos, {**module.record, "metrics": metrics})
    stylize = f"{program().replace('train', 'stylize')} {module.task.usage}"
    print(f"\nWrote {shown(result)}. Paint with it:\n  {stylize} -c {shown(result)}")


def photos_seen(metadata: Any) -> int:
    """By a generator in all its trainings, as far as its file says."""
    metrics = metadata.get("metrics")
    counts = metrics.items() if isinstance(metrics, dict) else ()
    return sum(n for name, n in counts if name.startswith("photos seen") and type(n) is int)


def find_checkpoint(resume: str | None) -> Path | None:
    """The checkpoint that ``resume=`` names: a file, or a run's folder that holds last.ckpt."""
    if resume is None:
        return None
    path = Path(resume) / "last.ckpt" if Path(resume).is_dir() else Path(resume)
    if not path.is_file():
        raise InputError(f"resume={resume}: no checkpoint at {path}; name a run's folder")
    return path


def recipe(cfg: DictConfig) -> str:
    """The part of the configuration that decides the result, as YAML, without local paths."""
    groups = ("task", "generator", "loss_network", "loss", "data", "optimizer", "schedule")
    chosen: Any = {group: OmegaConf.to_container(cfg[group], resolve=True) for group in groups}
    for told_elsewhere in ("network", "style"):
        del chosen["loss"][told_elsewhere]
    for path in ("root", "train_photos", "val_photos"):
        chosen["data"].pop(path, None)
    chosen["data"]["photos"] = HydraConfig.get().runtime.choices["data"]
    chosen["trainer"] = {key: cfg.trainer[key] for key in ("max_steps", "precision")}
    chosen |= {"resize": RESIZE_FILTER, "budget": cfg.budget, "seed": cfg.seed}
    chosen["start_from"] = cfg.start_from and Path(cfg.start_from).name
    return OmegaConf.to_yaml(chosen)


def shown(path: Path) -> Path:
    """The path as one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def program() -> str:
    """How this program was called: the script of a source tree, or the installed command."""
    script = Path(sys.argv[0])
    return f"python scripts/{script.name}" if script.suffix == ".py" else script.name


def command(leave_out: tuple[str, ...] = ()) -> str:
    """The command line, to be shown or repeated; without options that begin so."""
    options = [option for option in sys.argv[1:] if not option.startswith(leave_out)]
    return " ".join([program(), *map(shlex.quote, options)])
