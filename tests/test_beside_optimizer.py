"""The sheet of single passes beside the optimiser."""

import json

import numpy as np
import pytest

from allaprima.images import read_picture, write_picture
from allaprima.weights import OURS, load_generator, save_generator
from benchmarks import beside_optimizer, shipped

LOSSES = {"50": 1.0, "100": 0.75, "150": 0.5, "500": 0.25}
SIZES = 256, 512


@pytest.fixture
def evaluations(tmp_path, monkeypatch):
    """Folders of evaluations that are done, each with five panels, the darker the later."""
    monkeypatch.setattr(beside_optimizer, "WORK", tmp_path)
    monkeypatch.setattr(
        beside_optimizer, "SHEETS", {size: tmp_path / f"sheet_{size}.webp" for size in SIZES}
    )
    commands = []
    monkeypatch.setattr(beside_optimizer, "run", lambda *words: commands.append(words))
    panels = np.repeat(np.linspace(1, 0.2, 5, dtype=np.float32), 128)
    strip = np.broadcast_to(panels[None, :, None], (128, 640, 3))
    for size in SIZES:
        for name in shipped.PAINTINGS:
            folder = beside_optimizer.evaluate(name, tmp_path, tmp_path / "photo.jpg", size)
            photos = folder / "photos"
            photos.mkdir(parents=True)
            write_picture(photos / "001_castle.png", strip)
            at = {count: {"loss": loss} for count, loss in LOSSES.items()}
            noise = {"equivalent": None if name == "udnie" else 60, "at": at}
            figures = {"pass": {"loss": 0.9}, "optimizer": {"noise": noise}}
            (photos / "001_castle.json").write_text(json.dumps(figures))
            (folder / "evaluation.json").write_text("{}")
    return commands


def test_every_generator_is_evaluated_once_on_one_photo_to_the_last_picture(evaluations, tmp_path):
    both = 2 * len(shipped.PAINTINGS)
    assert len(evaluations) == both
    assert f"data.root={tmp_path}" in evaluations[0]
    common = {"data.num_val=1", "starts=[noise]"}
    assert common | {"sizes=[256]", "evaluations=500"} < set(evaluations[0])
    assert common | {"sizes=[512]", "evaluations=150"} < set(evaluations[-1])
    beside_optimizer.main(["--paintings", str(tmp_path)])
    assert len(evaluations) == both


def test_a_generator_with_other_weights_is_evaluated_anew_one_with_other_figures_is_not(
    evaluations, tmp_path, monkeypatch
):
    def folder(gain=1.0, **figures):
        generator, metadata = load_generator(shipped.CHECKPOINTS / "udnie.safetensors")
        record = {key: value for key, value in metadata.items() if key not in OURS}
        record["metrics"] |= figures
        next(generator.parameters()).data.mul_(gain)
        file = tmp_path / "checkpoints" / "udnie.safetensors"
        save_generator(file, generator, record, overwrite=True)
        with monkeypatch.context() as patch:
            patch.setattr(beside_optimizer, "CHECKPOINTS", file.parent)
            return beside_optimizer.evaluate("udnie", tmp_path, tmp_path / "photo.jpg", 256)

    assert folder() == folder(one_pass_s=1.0) == next(tmp_path.glob("beside_256/udnie_*"))
    assert folder(gain=1.01) != folder()


def test_a_row_has_the_photo_the_pass_and_the_optimizer_on_its_way(evaluations, tmp_path):
    udnie, wave = (next(tmp_path.glob(f"beside_256/{name}_*")) for name in ("udnie", "wave"))
    pictures, captions = beside_optimizer.read("udnie", udnie, (50, 100, 500))
    assert [picture[0, 0, 0] for picture in pictures] == [255, 204, 153, 102, 51]
    assert captions[0] == "udnie: one pass is worth more than 500"
    assert captions[1:] == ["loss 0.900", "loss 1.000", "loss 0.750", "loss 0.250"]
    assert beside_optimizer.read("wave", wave, (50, 100, 500))[1][0].endswith("worth 60")


def test_a_row_can_leave_out_what_was_on_the_way(evaluations, tmp_path):
    udnie = next(tmp_path.glob("beside_512/udnie_*"))
    pictures, captions = beside_optimizer.read("udnie", udnie, (50, 150))
    assert [picture[0, 0, 0] for picture in pictures] == [255, 204, 153, 51]
    assert captions[0] == "udnie: one pass is worth more than 150"
    assert captions[1:] == ["loss 0.900", "loss 1.000", "loss 0.500"]


@pytest.mark.parametrize(("size", "columns"), [(256, 5), (512, 4)])
def test_there_is_a_sheet_for_every_size(evaluations, tmp_path, size, columns):
    beside_optimizer.main(["--paintings", str(tmp_path)])
    sheet = read_picture(tmp_path / f"sheet_{size}.webp").rgb
    assert sheet.shape[0] > 6 * 128
    assert columns * 128 < sheet.shape[1] < (columns + 1) * 128
