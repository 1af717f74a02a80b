"""train.py from its command line, in this process, on generated photos and real VGG features."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from allaprima.data import PhotoDataModule
from allaprima.entrypoints.train import main, photos_seen
from allaprima.lightning import pl
from allaprima.photos import list_folder
from allaprima.weights import load_generator

ROOT = Path(__file__).parents[1]
SMALL = [
    "style=starry_night",
    "generator.filters=[4,4,8]",
    "+generator.num_residual_blocks=1",
    "data=folder",
    "data.crop_px=32",
    "++loss.pattern_weight=0",  # too small for it
    "data.batch_size=2",
    "data.num_val=2",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.log_every_n_steps=1",
]


@pytest.fixture
def train(tmp_path, noise_photos, monkeypatch, capsys):
    """Run train.py in tmp_path: (exit status, what it printed)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, small: bool = True) -> tuple[int, str]:
        defaults = [*SMALL, f"data.root={noise_photos}"] if small else []
        monkeypatch.setattr(sys, "argv", ["scripts/train.py", *defaults, *arguments])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def read_events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard")).Reload()


def weights(file: Path) -> dict[str, torch.Tensor]:
    return load_generator(file)[0].state_dict()


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_a_run_leaves_a_generator_a_card_a_picture_and_its_curves(train, tmp_path, monkeypatch):
    commits = iter(["at the start", "moved on meanwhile"])
    monkeypatch.setattr("allaprima.result.source_commit", lambda: next(commits))
    status, said = train("trainer.max_steps=3", "hydra.run.dir=run", "trainer.val_check_interval=2")
    assert status == 0, said
    last_line = said.strip().splitlines()[-1]
    assert "stylize.py" in last_line
    assert "run/starry_night.safetensors" in last_line
    generator, metadata = load_generator(tmp_path / "run/starry_night.safetensors")
    assert metadata["style"]["title"] == "The Starry Night"
    assert metadata["commit"] == "at the start"
    assert metadata["grain"] == 4
    assert metadata["metrics"]["steps"] == 3
    assert metadata["metrics"]["photos seen"] == 6
    assert generator(torch.rand(1, 3, 20, 21)).shape == (1, 3, 20, 21)
    card = (tmp_path / "run/starry_night.md").read_text()
    assert "style_weight" in card
    assert "starry_night.jpg" in card
    assert Image.open(tmp_path / "run/starry_night.jpg").size == (64, 64)

    events = read_events(tmp_path / "run")
    scalars = events.Tags()["scalars"]
    for name in ("train/loss", "train/style/relu4_3", "train/content/relu3_3", "learning_rate"):
        assert name in scalars
    assert "validation/loss" in scalars
    assert {"style", "validation/photo_and_painting"} <= set(events.Tags()["images"])


@pytest.mark.parametrize(
    ("experiment", "name", "extra", "baseline"),
    [
        ("johnson2016", "starry_night", [], None),
        ("johnson_instance_norm", "starry_night", [], None),
        ("johnson2016_superres4", "superres4", ["generator.filters=4"], "bicubic"),
        ("johnson2016_superres8", "superres8", ["generator.filters=4"], "bicubic"),
        ("johnson2016_colorization", "colorization", [], "grey"),
    ],
)
def test_johnsons_experiments(train, tmp_path, experiment, name, extra, baseline):
    arguments = [f"experiment={experiment}", "loss_network=vgg19", "data.crop_px=48", *extra]
    short = ["trainer.max_steps=2", "trainer.val_check_interval=1", "trainer.precision=32"]
    status, said = train(*arguments, *short, "hydra.run.dir=run")
    assert status == 0, said
    file = tmp_path / f"run/{name}.safetensors"
    assert f"run/{name}.safetensors" in said.strip().splitlines()[-1]
    generator, metadata = load_generator(file)
    metrics, card = metadata["metrics"], file.with_suffix(".md").read_text()
    assert metrics["steps"] == 2
    told = [f"{m}{of}" for m in ("psnr", "ssim") for of in ("", f"_{baseline}") if baseline]
    scalars = read_events(tmp_path / "run").Tags()["scalars"]
    for metric in told:
        assert metrics[f"validation/{metric}"] > 0
        assert f"validation/{metric} |" in card
        assert f"validation/{metric}" in scalars
    assert ("none" if baseline else "starry_night.png") in card
    width = 48 * (3 if baseline else 2)
    assert Image.open(file.with_suffix(".jpg")).size == (width, 2 * 48)
    factor = metadata["arguments"].get("factor", 1)
    assert generator(torch.rand(1, 3, 16, 17)).shape == (1, 3, 16 * factor, 17 * factor)
    # The file's generator is the one that was measured, batch norm's statistics and all.
    data = PhotoDataModule(list_folder(tmp_path / "photos"), crop_px=48, num_val=2)
    photos = torch.stack(data.fixed_photos(2))
    task = instantiate(OmegaConf.create(metadata["recipe"]).task)
    assert metadata["grain"] == (0 if baseline else 4)
    given = task.input(photos)
    again = task.metrics(generator(given), photos, given)
    assert set(again) == set(told)
    for metric, value in again.items():
        assert value.item() == pytest.approx(metrics[f"validation/{metric}"], rel=1e-3), metric


@pytest.mark.parametrize("name", ["starry_night.safetensors", "last.ckpt"])
def test_an_earlier_run_is_not_overwritten_unasked(train, tmp_path, name):
    kept = tmp_path / "run" / name
    kept.parent.mkdir()
    kept.write_text("precious")
    status, said = train("trainer.max_steps=1", "hydra.run.dir=run")
    assert status == 1
    assert "overwrite=true" in said
    assert kept.read_text() == "precious"


def test_an_interrupted_run_resumes_bit_for_bit(train, tmp_path, monkeypatch):
    steps = ["trainer.max_steps=6", "data.num_workers=1", "data.crop_px=[32,48]"]
    assert train(*steps, "hydra.run.dir=whole")[0] == 0

    class Terminate(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sys.modules[__name__], "Terminate", Terminate, raising=False)
    status, said = train(
        *steps, "hydra.run.dir=part", f"+callbacks.terminate._target_={__name__}.Terminate"
    )
    assert status == 128 + signal.SIGTERM
    assert "resume=part/last.ckpt" in said
    assert not (tmp_path / "part/starry_night.safetensors").exists()
    assert train(*steps, "hydra.run.dir=rest", "resume=part")[0] == 0
    whole, rest = (tmp_path / f"{run}/starry_night.safetensors" for run in ("whole", "rest"))
    assert_equal(weights(whole), weights(rest))
    assert load_generator(rest)[1]["metrics"]["photos seen"] == 12


def test_training_starts_from_the_weights_of_another_generator(train, tmp_path):
    still = ["optimizer=adam", "optimizer.lr=0", "trainer.max_steps=1"]
    assert train("trainer.max_steps=2", "seed=1", "hydra.run.dir=first")[0] == 0
    first, second = (tmp_path / f"{run}/starry_night.safetensors" for run in ("first", "second"))
    assert train(*still, f"start_from={first}", "hydra.run.dir=second")[0] == 0
    assert_equal(weights(first), weights(second))
    metadata = load_generator(second)[1]
    assert "start_from: starry_night.safetensors" in metadata["recipe"]
    assert metadata["metrics"]["photos seen"] == 2
    assert metadata["metrics"]["photos seen before, by start_from"] == 4
    assert photos_seen(metadata) == 6
    far = ["hydra.run.dir=third", "generator.dilations=[3]"]
    assert train(*still, f"start_from={first}", *far)[0] == 0
    third = tmp_path / "third/starry_night.safetensors"
    assert_equal(weights(first), weights(third))
    assert load_generator(third)[0].arguments["dilations"] == [3]
    assert photos_seen({}) == photos_seen({"metrics": "none"}) == 0


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    train, tmp_path, monkeypatch
):
    class Break(pl.Callback):
        def on_train_batch_start(self, trainer, module, *_):
            if trainer.global_step == 3:
                module.generator.to_rgb.bias.data.fill_(float("nan"))

    monkeypatch.setattr(sys.modules[__name__], "Break", Break, raising=False)
    status, said = train(
        "trainer.max_steps=6",
        "hydra.run.dir=run",
        "callbacks.checkpoint.train_time_interval=null",
        "callbacks.checkpoint.every_n_train_steps=1",
        f"+callbacks.break._target_={__name__}.Break",
    )
    assert status == 1
    assert "step 4" in said
    assert "not finite" in said
    good = torch.load(tmp_path / "run/last.ckpt", weights_only=True)
    assert good["global_step"] == 3
    weights(tmp_path / "run/last.ckpt")  # finite, and paints


def test_a_budget_ends_the_run_and_anneals_to_its_end(train, tmp_path, monkeypatch):
    def tick(budget):  # a clock that shows one more second at the start and at the end of a step
        budget.elapsed_s += 1

    monkeypatch.setattr("allaprima.callbacks.TimeBudget._tick", tick)
    status, said = train("budget=8s", "hydra.run.dir=run", "schedule.warm_up_steps=0")
    assert status == 0, said
    assert load_generator(tmp_path / "run/starry_night.safetensors")[1]["metrics"]["steps"] == 4
    rates = [event.value for event in read_events(tmp_path / "run").Scalars("learning_rate")]
    # Steps start after 1, 3, 5 and 7 of the 8 seconds; the rate falls from a fifth of them on.
    assert rates == pytest.approx([2e-3, 1.5625e-3, 0.9375e-3, 0.3125e-3])


def test_a_full_disk_is_told_plainly_and_loses_nothing(train, tmp_path, monkeypatch):
    steps = ["trainer.max_steps=3", "hydra.run.dir=run"]
    every_step = [
        "callbacks.checkpoint.train_time_interval=null",
        "callbacks.checkpoint.every_n_train_steps=1",
    ]
    replace, num_moved = os.replace, 0

    def fill_up(source, target):
        nonlocal num_moved
        num_moved += str(target).endswith("last.ckpt")
        if num_moved > 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr("allaprima.training.os.replace", fill_up)
    status, said = train(*steps, *every_step)
    assert status == 1
    assert "disk is full" in said
    assert torch.load(tmp_path / "run/last.ckpt", weights_only=True)["global_step"] == 1
    assert not list(tmp_path.glob("run/*.part"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["style=", "starry_night", "style.image="]),
        (["style=nighthawks"], ["nighthawks", "starry_night"]),
        (["style.image=absent.jpg"], ["absent.jpg"]),
        (["style.image=broken.jpg"], ["broken.jpg"]),
        (["style=starry_night", "data=folder", "data.root=nowhere"], ["nowhere"]),
        (["style=starry_night", "data=folder"], ["data.root"]),
        (["style=starry_night", "data=coco", "data.root=."], ["train2017", "download_coco"]),
        (["style=starry_night", "data=folder", "data.root=broken"], ["broken"]),
        (["style=starry_night", "budget=soon"], ["soon", "10m"]),
        (["style=starry_night", "resume=nowhere"], ["resume=nowhere"]),
        (["style=starry_night", "start_from=monet"], ["start_from=monet", "shipped are"]),
        (
            ["experiment=polish", "style=wave", "style.name=mine"],
            ["start_from=mine", "neither a file nor a shipped generator"],
        ),
        (
            ["style=starry_night", "start_from=starry_night", "generator.norm=batch"],
            ["start_from must be built", "batch", "start_from=null"],
        ),
        (["style=starry_night", "+loss.content_layers.relu9_9=1"], ["relu9_9", "relu3_3"]),
        (["style=starry_night", "loss_network.weights=absent.pth"], ["absent.pth", "original"]),
        (["style=starry_night", "data.batch_size=0"], ["batch_size"]),
        (["style=starry_night", "task=superresolution"], ["do not fit", "johnson_superres"]),
        (
            ["style=starry_night", "generator=johnson_superres", "data.crop_px=32"],
            ["do not fit", "superresolution"],
        ),
        (
            ["experiment=johnson2016_superres8", "loss_network=vgg19", "data.crop_px=100"],
            ["100×100", "crop_px", "multiple of 8"],
        ),
    ],
)
def test_bad_input_is_told_plainly(train, tmp_path, arguments, words):
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    (tmp_path / "broken").mkdir()
    for i in range(12):
        (tmp_path / "broken" / f"{i}.jpg").write_bytes(b"not a picture")
    extra = ["data.num_workers=0", "trainer=cpu", "trainer.max_steps=1", "hydra.run.dir=run"]
    status, said = train(*arguments, *extra, small=False)
    assert status != 0
    for word in words:
        assert word in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("run/*.safetensors"))
