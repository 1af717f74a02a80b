"""The commands behind docs/reproduction.md fit the programs; the page's measures by hand."""

import shlex
import string
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from allaprima.entrypoints.configuration import register_resolvers
from allaprima.images import write_picture
from allaprima.resources import resource_dir

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.reproduction import RUNS
from benchmarks.reproduction_measures import lower_contrast, rms_difference

HYDRA_RUNS = [run for run in RUNS if run.program != "gatys_pastiche.py"]


@pytest.mark.parametrize("run", HYDRA_RUNS, ids=lambda run: run.name)
def test_every_command_composes(run):
    words = shlex.split(string.Template(run.command).substitute(PHOTOS="p", PAINTING="a/b.jpg"))
    overrides = [word for word in words[2:] if not word.startswith("hydra.")]
    register_resolvers()
    with initialize_config_dir(str(resource_dir("configs").resolve()), version_base="1.3"):
        name = run.program.removesuffix(".py")
        cfg = compose(name, overrides)
    GlobalHydra.instance().clear()
    assert OmegaConf.to_container(cfg)["seed"] is not None  # an unknown key would have been refused


def test_runs_have_names_of_their_own():
    assert len({run.name for run in RUNS}) == len(RUNS)


def test_lower_contrast_keeps_the_mean():
    rgb = np.random.default_rng(0).random((6, 5, 3), np.float32)
    low = lower_contrast(rgb, 0.25)
    np.testing.assert_allclose(low.mean((0, 1)), rgb.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(low.std((0, 1)), rgb.std((0, 1)) / 4, atol=1e-6)


def test_rms_difference_by_hand(tmp_path):
    for name, grey in (("a", 51), ("b", 102)):
        write_picture(tmp_path / f"{name}.png", np.full((4, 4, 3), grey, np.uint8))
    found = rms_difference(tmp_path / "a.png", tmp_path / "b.png")
    assert found == pytest.approx(0.2, abs=1e-6)
