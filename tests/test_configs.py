"""Every file under configs/ composes and instantiates; a new one is tested by existing."""

import re
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

from allaprima.entrypoints.configuration import best_precision, expand_home, register_resolvers
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.losses import PerceptualLoss
from allaprima.resources import resource_dir
from allaprima.weights import find_generator, load_generator

CONFIGS = resource_dir("configs")
CHOICES = [
    (file.parent.name, file.stem)
    for file in sorted(CONFIGS.glob("*/*.yaml"))
    if file.parent.name != "hydra"
]
ROOTED = {"folder", "coco"}  # datasets that need data.root
EXPERIMENTS = {  # by the program that the header names
    file.stem: re.findall(rf"^# (\w+)\.py .*experiment={file.stem}\b", file.read_text(), re.M)[0]
    for file in sorted((CONFIGS / "experiment").glob("*.yaml"))
}
TRAINED = [name for name, program in EXPERIMENTS.items() if program == "train"]
OPTIMISED = [name for name, program in EXPERIMENTS.items() if program == "gatys"]
VGG19 = "loss_network=vgg19"  # in the package; it has the layers that VGG-16 has


@pytest.fixture(autouse=True)
def hydra_in_process():
    register_resolvers()
    with initialize_config_dir(str(CONFIGS.resolve()), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def compose_train(*overrides: str):
    if not any(o.startswith("style") for o in overrides):
        overrides = ("style=starry_night", *overrides)
    return compose("train", overrides=["output_dir=.", *overrides])


def test_every_experiment_names_its_program():
    assert set(EXPERIMENTS.values()) == {"train", "gatys"}


@pytest.mark.parametrize(("group", "option"), [c for c in CHOICES if c[1] not in OPTIMISED])
def test_every_choice_composes_and_resolves(group, option):
    needs = [f"{group}={option}"]
    if option in ROOTED:
        needs.append("data.root=somewhere")
    if (group, option) == ("style", "custom"):
        needs.append("style.image=a/b/painting.jpg")
    cfg = compose_train(*needs)
    resolved = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert resolved[group] if group != "experiment" else resolved


@pytest.mark.parametrize("option", [o for g, o in CHOICES if g == "generator"])
def test_every_generator_keeps_size_and_range(option):
    generator = instantiate(compose_train(f"generator={option}").generator, _convert_="all")
    height, width = max(24, generator.min_size_px), 37
    painted = generator(torch.rand(1, 3, height, width))
    factor = getattr(generator, "factor", 1)
    assert painted.shape == (1, 3, factor * height, factor * width)
    assert painted.min() >= 0
    assert painted.max() <= 1


@pytest.mark.parametrize("option", [o for g, o in CHOICES if g == "loss"])
def test_every_loss_takes_a_step(option):
    cfg = compose_train(f"loss={option}", "generator.filters=[4,4,4]")
    loss = instantiate(cfg.loss, _convert_="all")
    assert isinstance(loss, PerceptualLoss)
    generator = instantiate(cfg.generator, _convert_="all")
    photo = torch.rand(1, 3, 64, 64)
    terms = loss(generator(photo), loss.content_targets(photo))
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())


@pytest.mark.parametrize("name", TRAINED)
def test_every_training_experiment_takes_a_step(name):
    cfg = compose_train(f"experiment={name}", VGG19, "data.crop_px=64")
    generator = instantiate(cfg.generator, _convert_="all")
    if cfg.start_from:
        generator.load_state_dict(load_generator(find_generator(cfg.start_from))[0].state_dict())
    task, loss = instantiate(cfg.task), instantiate(cfg.loss, _convert_="all")
    photos = torch.rand(2, 3, 64, 64)
    optimizer = instantiate(cfg.optimizer)(generator.parameters())
    before = [p.detach().clone() for p in generator.parameters()]
    terms = loss(generator(task.input(photos)), loss.content_targets(photos))
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, generator.parameters(), strict=True)]
    assert sum(moved) > 0.8 * len(moved)  # biases before a norm have no effect
    assert all(p.isfinite().all() for p in generator.parameters())


@pytest.mark.parametrize("option", [o for g, o in CHOICES if g == "style" and o != "custom"])
def test_every_style_says_whose_it_is_and_opens(option):
    cfg = compose_train(f"style={option}")
    assert cfg.style.name == option
    for key in ("title", "artist", "year", "licence", "source"):
        assert cfg.style[key], key
    style = instantiate(cfg.style_image)
    assert style.shape[0] == 3
    assert min(style.shape[1:]) >= 384


def test_presets_are_the_papers():
    johnson = compose_train("loss=johnson").loss
    assert dict(johnson.content_layers) == {"relu2_2": 1.0}
    assert list(johnson.style_layers) == ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
    assert (johnson.content_weight, johnson.style_weight) == (1, 5)
    assert johnson.style_error._target_.endswith(".mean_squared_error")  # what the 5 is meant for
    assert (johnson.total_variation_weight, johnson.variation.pixel_range) == (1e-6, 255)
    later = compose_train("loss=johnson_instance_norm").loss
    assert {k for k, w in later.content_layers.items() if w} == {"relu3_3"}
    full = instantiate(compose_train("generator=johnson_full").generator, _convert_="all")
    assert sum(p.numel() for p in full.parameters()) == 1_679_235
    assert isinstance(full, JohnsonGenerator)


def test_custom_style_is_named_after_its_file():
    assert compose_train("style.image=some/My Cat.png", "style=custom").style.name == "My Cat"


def test_a_budget_replaces_the_number_of_steps():
    assert compose_train().trainer.max_steps > 0
    assert compose_train("budget=10m").trainer.max_steps == -1
    assert compose_train("budget=10m", "trainer.max_steps=7").trainer.max_steps == 7


def test_the_home_folder_is_what_the_shell_and_hydra_leave(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/h"))
    given = ["data.root=~/a b", "style.image=[~/a.jpg,~/b.jpg]", "~data", "x=a~/b", "y=~"]
    monkeypatch.setattr(sys, "argv", ["train.py", *given])
    expand_home()
    assert sys.argv[1:] == ["data.root=/h/a b", "style.image=[/h/a.jpg,/h/b.jpg]", *given[2:]]


def test_precision_is_one_that_lightning_takes():
    assert best_precision("cpu") in {"32", "bf16-mixed"}


def test_configs_travel_with_the_package():
    assert (Path(__file__).parents[1] / "configs").samefile(CONFIGS)
