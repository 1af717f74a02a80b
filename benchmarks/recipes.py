"""The recipes under measurement, composed as train.py composes them."""

from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from allaprima.entrypoints.configuration import register_resolvers
from allaprima.resources import resource_dir

# Johnson 2016's networks and losses with instance norm, as benchmarks/baseline.py has them.
SAME = (
    "generator=johnson_full",
    "generator.margin_px=0",
    "loss_network=vgg16",
    "loss=johnson",
    "optimizer=adam",
    "optimizer.lr=1e-3",
    "run.module.jitter_px=0",
)
DEFAULT = ()


def compose_recipe(*overrides: str) -> DictConfig:
    """The configuration of ``train.py style=starry_night OVERRIDES``."""
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(resource_dir("configs").resolve()), version_base="1.3"):
        return compose("train", ["style=starry_night", "output_dir=.", *overrides])


def build(overrides: tuple[str, ...] | list[str], *parts: str) -> Any:
    """What train.py builds of it: "module", "data" or both; alone if there is one.

    Everything of one recipe shares a loss network and a style image.
    """
    run: Any = compose_recipe(*overrides).run
    built = [instantiate(run[part], _convert_="all") for part in parts]
    return built[0] if len(built) == 1 else built
