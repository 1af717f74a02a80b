"""gatys.py from its command line, in this process, at small sizes with real VGG features."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from PIL import Image

from allaprima.colors import luminance
from allaprima.entrypoints import gatys
from allaprima.entrypoints.configuration import register_resolvers
from allaprima.images import read_picture, resize, write_picture
from allaprima.loss_network import LossNetwork
from allaprima.resources import resource_dir

PRESETS = [
    file.stem
    for file in sorted((resource_dir("configs") / "experiment").glob("*.yaml"))
    if "# gatys.py" in file.read_text(encoding="utf-8")
]
SHALLOW = ["+loss.content_layers.relu2_1=1", "loss.content_layers.relu4_2=0"] + [
    f"loss.style_layers.relu{block}_1=0" for block in (3, 4, 5)
]
SMALL = ["content=photo.png", "style.image=style.png", "style.size_px=null", "size_px=48"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, vgg19):
    """Run gatys.py in a folder with pictures: (exit status, what it printed)."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, (height, width) in {"photo": (60, 96), "style": (64, 80), "other": (70, 70)}.items():
        coarse = rng.random((6, 8, 3), dtype=np.float32)
        write_picture(f"{name}.png", resize(coarse, height, width))
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")

    def call(*arguments: str, small: bool = True) -> tuple[int, str]:
        GlobalHydra.instance().clear()
        defaults = [*SMALL, *SHALLOW] if small else []
        monkeypatch.setattr(sys, "argv", ["scripts/gatys.py", *defaults, *arguments])
        try:
            gatys.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return call


def pixels(file: str) -> np.ndarray:
    return read_picture(file).rgb


def test_a_photo_is_painted_at_its_working_size_and_all_is_recorded(run, tmp_path):
    status, said = run("evaluations=[12]", "save_every=5", "record=run.json")
    assert status == 0, said
    assert "Wrote photo_style.png" in said
    assert "12 of 12 evaluations" in said
    assert "peak memory" in said
    written = {file.name for file in tmp_path.iterdir()}
    assert written == {
        *(f"{name}.png" for name in ("photo", "style", "other", "broken", "small")),
        *("photo_style.png", "photo_style_0005.png", "photo_style_0010.png", "run.json"),
    }
    for file in ("photo_style.png", "photo_style_0005.png"):
        assert pixels(file).shape == (30, 48, 3)
    assert not np.array_equal(pixels("photo_style.png"), pixels("photo_style_0005.png"))

    record = json.loads(Path("run.json").read_text(encoding="utf-8"))
    curve = record["curve"]
    assert [point["evaluation"] for point in curve] == list(range(1, 13))
    for point in curve:
        parts = point["content"] + point["style"] + point["total_variation"]
        assert parts == pytest.approx(point["loss"], rel=1e-5)
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[-1]["seconds"] <= record["seconds"]
    assert record["peak_memory_mb"] > 50
    assert record["options"]["evaluations"] == [12]


def test_what_is_there_is_kept_unless_told_otherwise(run):
    quick = ["evaluations=[1]"]
    assert run(*quick)[0] == 0
    for more in ([], ["output=new.png", "record=photo_style.png"]):
        status, said = run(*quick, *more)
        assert status == 1
        assert "overwrite=true" in said
    Path("other_0002.png").write_bytes(b"precious")
    assert run("evaluations=[4]", "output=other.png", "save_every=2")[0] == 1
    assert Path("other_0002.png").read_bytes() == b"precious"
    assert run(*quick, "overwrite=true")[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_writes_the_best_so_far(run, monkeypatch, number):
    before = signal.getsignal(number)
    on_evaluation = gatys.Watch.__call__

    def interrupt(watch, evaluation):
        if evaluation.num_done == 5:
            os.kill(os.getpid(), number)
        return on_evaluation(watch, evaluation)

    monkeypatch.setattr(gatys.Watch, "__call__", interrupt)
    status, said = run("evaluations=[50,50]", "record=run.json")
    assert status == 128 + number
    assert "Stopped: photo_style.png" in said
    assert pixels("photo_style.png").shape == (30, 48, 3)
    assert len(json.loads(Path("run.json").read_text(encoding="utf-8"))["curve"]) == 5
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("init", ["content", "style", "noise", "start.png"])
def test_every_init_starts_where_it_says(run, init):
    photo = resize(pixels("photo.png") if Path("photo.png").exists() else None, 30, 48)
    write_picture("start.png", photo[::-1])
    status, said = run(f"init={init}", "evaluations=[0]", "output=out.png")
    assert status == 0, said
    found = pixels("out.png")
    if init == "content":
        np.testing.assert_allclose(found, photo, atol=1 / 255)
    elif init == "start.png":
        np.testing.assert_allclose(found, photo[::-1], atol=1 / 255)
    elif init == "style":  # the middle of 80 × 64 px, as wide as it is: 80 × 50 px
        expected = resize(pixels("style.png"), 30, 48, (0, 7, 80, 57))
        np.testing.assert_allclose(found, expected, atol=1 / 255)
    else:
        colour = pixels("style.png").mean((0, 1))
        np.testing.assert_allclose(found.mean((0, 1)), colour, atol=0.03)
        assert run("init=noise", "evaluations=[0]", "output=again.png")[0] == 0
        assert run("init=noise", "evaluations=[0]", "output=new.png", "seed=1")[0] == 0
        assert np.array_equal(found, pixels("again.png"))
        assert not np.array_equal(found, pixels("new.png"))


def test_colors(run):
    photo = resize(pixels("photo.png"), 30, 48)
    found = {}
    for colors in ("style", "matched", "photo"):
        status, said = run(f"colors={colors}", "evaluations=[15]", f"output=as_{colors}.png")
        assert status == 0, said
        found[colors] = pixels(f"as_{colors}.png")
    away = {c: np.abs(x.mean((0, 1)) - photo.mean((0, 1))).sum() for c, x in found.items()}
    assert away["matched"] < away["style"]
    chroma = [x - luminance(x)[..., None] for x in (found["photo"], photo)]
    inside = ((found["photo"] > 0) & (found["photo"] < 1)).all(-1)
    np.testing.assert_allclose(chroma[0][inside], chroma[1][inside], atol=3 / 255)
    assert np.abs(luminance(found["photo"]) - luminance(photo)).max() > 0.02


def test_several_styles_scales_and_adam(run):
    status, said = run(
        "style.image=[style.png,other.png]",
        "style.blend=[2,1]",
        "evaluations=[3,3]",
        "optimizer=pixel_adam",
    )
    assert status == 0, said
    assert "Wrote photo_style_other.png" in said


def test_a_texture_without_content(run):
    arguments = ["style.image=style.png", "style.size_px=null", "size_px=32", "evaluations=[2,2]"]
    shallow = [f"texture_loss.style_layers.relu{b}_1=0" for b in (3, 4, 5)]
    shallow += [f"texture_loss.style_layers.relu{b}_3=0" for b in (3, 4)]
    status, said = run(*arguments, *shallow, small=False)
    assert status == 0, said
    assert "train.py style.image=style_texture.png style.size_px=null" in said
    assert pixels("style_texture.png").shape == (32, 32, 3)


def compose_gatys(*overrides: str):
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(resource_dir("configs").resolve()), version_base="1.3"):
        return compose("gatys", overrides=list(overrides))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_takes_a_step(run, preset, monkeypatch):
    """With VGG-19 throughout: it has all the layers of VGG-16, and its weights are installed."""
    cfg = compose_gatys(f"experiment={preset}", "style=starry_night")
    OmegaConf.to_container(cfg, resolve=True)
    content = [] if "content=" not in preset_command(preset) else ["content=photo.png"]
    status, said = run(
        f"experiment={preset}",
        *content,
        "style.image=style.png",
        "style.size_px=null",
        "size_px=32",
        "loss_network=vgg19",
        "evaluations=[3]",
        "record=run.json",
        "output=out.png",
        small=False,
    )
    assert status == 0, said
    losses = [p["loss"] for p in json.loads(Path("run.json").read_text())["curve"]]
    assert losses[-1] < losses[0]


def preset_command(preset: str) -> str:
    text = (resource_dir("configs") / f"experiment/{preset}.yaml").read_text(encoding="utf-8")
    return next(line for line in text.splitlines() if line.startswith("# gatys.py"))


def test_the_presets_are_there_and_named_as_they_are_called():
    assert set(PRESETS) == {
        "gatys2016",
        "improved",
        "keras_example",
        "novak_nikulin2016",
        "texture2015",
    }
    for preset in PRESETS:
        assert preset_command(preset).endswith(f"experiment={preset}")


def test_the_papers_chain_instead_of_the_articles():
    article = compose_gatys("experiment=novak_nikulin2016").loss.style_layers
    paper = compose_gatys("experiment=novak_nikulin2016", "loss=novak_nikulin2016_paper").loss
    assert article.weights._target_.endswith("difference_chain")
    assert paper.style_layers._target_.endswith("correlation_chain")
    assert paper.gram.shift == -1


def test_the_keras_example_by_the_formula_of_the_example(vgg19):
    """Its style loss, plain sums over 4 · 3² · pixels², written out."""
    from hydra.utils import instantiate

    cfg = compose_gatys("experiment=keras_example", "loss_network=vgg19")
    torch.manual_seed(0)
    style, image, photo = (torch.rand(1, 3, 32, 32) for _ in range(3))
    options = {**OmegaConf.to_container(cfg.loss), "network": None, "style": None}
    loss = instantiate({**options, "_partial_": True}, _convert_="all")(
        network=vgg19, style=style[0]
    )
    expected = 0.0
    layers = [f"relu{block}_1" for block in range(1, 6)]
    ours, painted = (vgg19(x, layers) for x in (image, style))
    for layer in layers:
        f, g = (x[layer][0].flatten(1) for x in (ours, painted))
        expected += 0.2 * (f @ f.T - g @ g.T).square().sum() / (4 * 9 * 1024**2)
    content = [vgg19(x, ["relu4_2"])["relu4_2"] for x in (image, photo)]
    expected += 0.025 * (content[0] - content[1]).square().sum()
    x = 255 * torch.nn.functional.pad(image, (0, 1, 0, 1), mode="replicate")
    squares = x.diff(dim=2)[..., :-1].square() + x.diff(dim=3)[:, :, :-1].square()
    expected += squares.pow(1.25).sum()
    found = torch.stack(list(loss(image, loss.content_targets(photo)).values())).sum()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["content=absent.jpg"], ["absent.jpg"]),
        (["content=broken.png"], ["broken.png"]),
        (["style.image=absent.jpg"], ["absent.jpg"]),
        (["style.image=null"], ["style=", "style.image="]),
        (["style.image=[style.png,broken.png]"], ["broken.png"]),
        (["style.image=[style.png,other.png]", "style.blend=[1]"], ["blend", "2 style images"]),
        (["style.image=[style.png,other.png]", "style.blend=[0,0]"], ["blend"]),
        (["init=small.png"], ["20 × 20", "48 × 30", "size_px"]),
        (["init=nothing"], ["init=nothing", "noise"]),
        (["optimizer=sgd"], ["sgd", "lbfgs", "pixel_adam"]),
        (["colors=grey"], ["grey", "style, matched, photo"]),
        (["loss=nothing"], ["nothing", "calibrated"]),
        (["+loss.style_layers.relu9_9=1"], ["relu9_9", "relu3_3"]),
        (["+loss.style_layers={relu1_1*relu2_1:1}"], ["relu2_1*relu1_1"]),
        (
            ["loss.style_weight=0", "loss.content_weight=0", "loss.total_variation_weight=0"],
            ["> 0"],
        ),
        (["loss.content_weight=-1"], ["≥ 0"]),
        (["size_px=1"], ["photo of 1 × 1", "relu2_1", "2 px"]),
        (["size_px=0"], ["size_px=0"]),
        (["evaluations=[-1]"], ["evaluations=[-1]"]),
        (["evaluations=[1,1,1,1,1,1,1]"], ["too small"]),
        (["save_every=0"], ["save_every=0"]),
        (["output=out.gif"], ["out.gif", ".png"]),
        (["record=nowhere/run.json"], ["nowhere/run.json"]),
        (["device=tpu"], ["tpu", "cpu"]),
        (["content=null", "colors=photo"], ["colors=photo", "content=PHOTO"]),
        (["content=null", "size_px=33"], ["33", "divisible"]),
    ],
)
def test_bad_input_is_told_plainly_and_nothing_is_written(run, tmp_path, arguments, words):
    before = {file.name for file in tmp_path.iterdir()}
    status, said = run("evaluations=[1]" if "size_px=33" not in arguments else "seed=0", *arguments)
    assert status != 0
    for word in words:
        assert word in said
    assert "Traceback" not in said
    assert {file.name for file in tmp_path.iterdir()} == before


@pytest.fixture(autouse=True)
def _one_network(vgg19, monkeypatch):
    """Reading the weights takes longer than all the rest of a run."""
    build = LossNetwork.__init__

    def quick(self, *args, **kwargs):
        monkeypatch.setattr("allaprima.loss_network.load_vgg_weights", loaded)
        build(self, *args, **kwargs)

    state = {
        f"{name}.{key}": getattr(layer, key)
        for name, layer in vgg19.named_children()
        for key in ("weight", "bias")
    }
    statistics = ([0.485020, 0.457957, 0.407604], [1 / 255] * 3)

    def loaded(*_):
        return state, statistics

    monkeypatch.setattr(LossNetwork, "__init__", quick)
