"""The sheet of single passes beside the optimiser."""

import json

import numpy as np
import pytest

from allaprima.images import read_picture, write_picture
from benchmarks import beside_optimizer, shipped

LOSSES = {"50": 1.0, "100": 0.75, "500": 0.25}


@pytest.fixture
def evaluations(tmp_path, monkeypatch):
    """Folders of evaluations that are done, each with five panels, the darker the later."""
    monkeypatch.setattr(beside_optimizer, "WORK", tmp_path)
    monkeypatch.setattr(beside_optimizer, "SHEET", tmp_path / "sheet.webp")
    commands = []
    monkeypatch.setattr(beside_optimizer, "run", lambda *words: commands.append(words))
    panels = np.repeat(np.linspace(1, 0.2, 5, dtype=np.float32), 128)
    strip = np.broadcast_to(panels[None, :, None], (128, 640, 3))
    for name in shipped.PAINTINGS:
        folder = beside_optimizer.evaluate(name, tmp_path / "painting.jpg", tmp_path / "photo.jpg")
        photos = folder / "photos"
        photos.mkdir(parents=True)
        write_picture(photos / "001_castle_256.png", strip)
        at = {count: {"loss": loss} for count, loss in LOSSES.items()}
        noise = {"equivalent": None if name == "udnie" else 60, "at": at}
        figures = {"pass": {"loss": 0.9}, "optimizer": {"noise": noise}}
        (photos / "001_castle_256.json").write_text(json.dumps(figures))
        (folder / "evaluation.json").write_text("{}")
    return commands


def test_every_generator_is_evaluated_once_on_one_photo_to_the_last_picture(evaluations, tmp_path):
    assert len(evaluations) == len(shipped.PAINTINGS)
    assert f"data.root={tmp_path}" in evaluations[0]
    assert {"data.num_val=1", "evaluations=500", "starts=[noise]"} < set(evaluations[0])
    beside_optimizer.main(["--paintings", str(tmp_path)])
    assert len(evaluations) == len(shipped.PAINTINGS)


def test_a_row_has_the_photo_the_pass_and_the_optimizer_on_its_way(evaluations, tmp_path):
    folder = beside_optimizer.evaluate("udnie", tmp_path, tmp_path / "photo.jpg")
    pictures, captions = beside_optimizer.read("udnie", folder)
    assert [picture[0, 0, 0] for picture in pictures] == [255, 204, 153, 102, 51]
    assert captions[0] == "udnie: one pass is worth more than 500"
    assert captions[1:] == ["loss 0.900", "loss 1.000", "loss 0.750", "loss 0.250"]
    assert beside_optimizer.read("wave", next(tmp_path.glob("beside/wave_*")))[1][0].endswith(
        "worth 60"
    )
    beside_optimizer.main(["--paintings", str(tmp_path)])
    sheet = read_picture(tmp_path / "sheet.webp").rgb
    assert sheet.shape[0] > 6 * 128
    assert sheet.shape[1] > 5 * 128
