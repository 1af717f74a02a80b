"""gatys.py: synthesise a texture with a painting's statistics by optimising its pixels."""

import time
from pathlib import Path
from typing import Any

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from allaprima.callbacks import format_duration
from allaprima.entrypoints.configuration import register_resolvers, run_or_explain
from allaprima.images import check_writable, write_picture
from allaprima.resources import resource_dir


def main() -> None:
    """Console entry point."""
    register_resolvers()
    configs = str(resource_dir("configs").resolve())
    task = hydra.main(version_base="1.3", config_path=configs, config_name="gatys")
    task(lambda cfg: run_or_explain(synthesize, cfg))()


def synthesize(cfg: DictConfig) -> None:
    """Write the texture that the configuration describes to ``cfg.output``."""
    output = Path(cfg.output)
    check_writable(output, overwrite=cfg.overwrite)
    total, start, num_done = sum(cfg.texture.evaluations), time.monotonic(), 0

    def report(count: int, value: float) -> None:
        nonlocal num_done
        num_done += 1
        if num_done % 10 == 0:
            spent = format_duration(time.monotonic() - start)
            print(f"{num_done:4d} of {total} evaluations  loss {value:.4g}  {spent}", flush=True)

    make_texture: Any = instantiate(cfg.texture, _convert_="all")
    texture = make_texture(on_evaluation=report)
    write_picture(output, texture[0].permute(1, 2, 0).numpy(), overwrite=cfg.overwrite)
    print(f"Wrote {output}. Train on it:")
    print(f"  python scripts/train.py style.image={output} style.size_px=null")
