"""The generators in checkpoints/, and what makes them."""

import json
import re

import pytest
import torch
from safetensors import safe_open

from allaprima.entrypoints.train import photos_seen
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.images import read_picture
from allaprima.stylize import Stylizer
from allaprima.weights import list_generators, load_generator, read_metadata, save_generator
from benchmarks import gallery, shipped

SHIPPED = list_generators()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_generator_is_small_and_says_all_of_itself(name):
    file = SHIPPED[name]
    assert name in shipped.PAINTINGS
    assert file.stat().st_size <= shipped.MOST_BYTES
    with safe_open(file, framework="numpy") as opened:
        assert {opened.get_tensor(key).dtype.name for key in opened.keys()} == {"float16"}  # noqa: SIM118
    metadata = read_metadata(file)
    assert metadata["style"]["name"] == name
    assert metadata["style"]["licence"] == shipped.LICENCE
    assert "with changes" not in metadata["commit"]
    assert photos_seen(metadata) > 2_000
    card = file.with_suffix(".md").read_text(encoding="utf-8")
    paint = f"    python scripts/stylize.py PHOTO.jpg -c {name}\n"
    for part in (metadata["command"], metadata["commit"], metadata["style"]["licence"], paint):
        assert part in card
    for words in ("photos seen", "Gatys-equivalent evaluations from noise at 256²", "at 512²"):
        assert words in card
    assert not re.search(r"/(home|root|tmp|work)\b", card)
    thumbnail = read_picture(file.with_suffix(".jpg")).rgb
    assert thumbnail.shape[1] > thumbnail.shape[0] > 200


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_generator_paints_by_its_name(name):
    photo = gallery.scale(read_picture(shipped.demo_photo(shipped.THUMBNAILS[0])).rgb)
    painted = Stylizer(name, "cpu").one_pass(photo[:64, :80])
    assert painted.shape == (64, 80, 3)
    assert painted.std() > 0.05


def evaluation():
    rows = {
        "photo": {"loss": 9.0, "content/a": 0.0, "style/b": 6.0, "style/c": 2.0},
        "pass": {"loss": 1.0, "content/a": 0.5, "style/b": 0.3, "style/c": 0.1},
        "noise 300": {"loss": 0.5, "content/a": 0.25, "style/b": 0.1, "style/c": 0.1},
    }
    start = {"equivalent_evaluations": {"lower_quartile": 30, "median": 40, "upper_quartile": None}}
    summary = {"num_photos": 4, "pass_s": 0.05, "starts": {"noise": start}, "mean_terms": rows}
    return {"summary": {"256": summary, "512": summary}, "settings": {"evaluations": 300}}


def test_figures_are_the_evaluations():
    of = "Gatys-equivalent evaluations from noise at 256², 4 photos"
    worth = "40 (quartiles 30–>300)"
    assert shipped.figures(evaluation(), "256_whole") == {f"{of}, by the default loss": worth}
    assert shipped.figures(evaluation(), "256") == {
        f"{of}, by loss=yardstick": worth,
        "one pass at 256², s": 0.05,
        "content error at 256²": 0.5,
        "content error at 256², over that of L-BFGS after 300 evaluations": 2.0,
        "style error at 256²": 0.4,
        "style error at 256², over that of the photo": pytest.approx(0.05),
        "style error at 256², over that of L-BFGS after 300 evaluations": pytest.approx(2.0),
    }


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a finished and evaluated training of The Great Wave."""
    monkeypatch.setattr(shipped, "WORK", tmp_path / "work")
    monkeypatch.setattr(shipped, "CHECKPOINTS", tmp_path / "checkpoints")
    folder = tmp_path / "work" / "wave"
    torch.manual_seed(0)
    style = {"name": "wave", "title": "The Great Wave", "artist": "Hokusai", "year": 1831}
    record = {
        "style": {**style, "licence": "of the swatch", "image": "wave.jpg", "size_px": 512},
        "recipe": "loss: calibrated\n",
        "command": "python scripts/train.py style=wave",
        "metrics": {"photos seen": 12},
        "software": "torch",
        "commit": "abc",
    }
    save_generator(folder / "wave.safetensors", JohnsonGenerator((16, 16, 16), 1), record)
    for kind in shipped.EVALUATIONS:
        file = folder / f"evaluation_{kind}" / "evaluation.json"
        file.parent.mkdir()
        file.write_text(json.dumps(evaluation()))
    return folder


def test_publishing_writes_a_half_precision_file_a_card_and_a_picture(run, tmp_path):
    file = shipped.publish("wave")
    assert file == tmp_path / "checkpoints" / "wave.safetensors"
    full, _ = load_generator(run / "wave.safetensors")
    half, metadata = load_generator(file)
    for name, weight in full.state_dict().items():
        assert torch.equal(half.state_dict()[name], weight.half().float())
    assert metadata["style"]["licence"] == shipped.LICENCE
    assert metadata["metrics"]["photos seen"] == 12
    assert metadata["metrics"]["one pass at 512², s"] == 0.05
    card = file.with_suffix(".md").read_text(encoding="utf-8")
    for told in ("by the default loss", "by loss=yardstick"):
        assert f"| Gatys-equivalent evaluations from noise at 256², 4 photos, {told} | 40" in card
    assert read_picture(file.with_suffix(".jpg")).rgb.shape == (480, 720, 3)


def test_what_is_done_is_not_done_again_and_a_stopped_training_goes_on(run, monkeypatch):
    commands = []
    monkeypatch.setattr(shipped, "run", lambda *words: commands.append(words))
    arguments = ["wave", "--paintings", "paintings", "--photos", "coco"]
    shipped.main(arguments)
    assert commands == []
    (run / "wave.safetensors").rename(run / "last.ckpt")
    shipped.train("wave", run, "budget=1h")
    (run / "last.ckpt").unlink()
    shipped.train("wave", run, "budget=1h")
    assert [words[0] for words in commands] == ["train", "train"]
    assert commands[0][-1] == f"resume={run}"
    assert commands[1] == commands[0][:-1]
    (run / "evaluation_512" / "evaluation.json").unlink()
    shipped.evaluate("wave", "512", "style.image=a.jpg")
    assert commands[2][0] == "evaluate"
    assert {"sizes=[512]", "until_beaten=true", shipped.GATYS} <= set(commands[2])


def test_a_training_is_polished_twice_and_its_result_evaluated(run, monkeypatch):
    commands = []
    monkeypatch.setattr(shipped, "run", lambda *words: commands.append(words))
    result = (run / "wave.safetensors").rename(run / "kept")
    monkeypatch.setattr(shipped, "publish", lambda name: result)
    shipped.main(["wave", "--paintings", "paintings", "--photos", "coco", "--budget", "2h"])
    first, second, third = commands
    assert first[-2:] == ("budget=2h", f"hydra.run.dir={run}/trained")
    assert "start_from=starry_night" in first
    assert f"start_from={run}/trained/wave.safetensors" in second
    assert second[-len(shipped.POLISH) - 1 :] == (*shipped.POLISH, f"hydra.run.dir={run}/polished")
    assert f"start_from={run}/polished/wave.safetensors" in third
    assert third[-len(shipped.AGAIN) - 1 :] == (*shipped.AGAIN, f"hydra.run.dir={run}")


def test_the_gallery_shows_every_subject_in_every_style():
    page = gallery.page(["udnie", "wave"])
    for subject in gallery.SUBJECTS:
        assert f"## {subject.capitalize()}\n" in page
        for name in ("photo", "udnie", "wave"):
            assert f"gallery/{subject.replace(' ', '_')}_{name}.webp" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {gallery.COLUMNS + 1}
    assert len(gallery.SUBJECTS) == 12


def test_the_gallerys_own_subjects_are_lines_and_letters():
    for subject in ("line drawing", "text"):
        rgb = gallery.read_subject(subject)
        assert max(rgb.shape[:2]) == gallery.LONG_SIDE_PX
        assert (rgb == rgb[..., :1]).all()
        assert 0.03 < (rgb < 0.2).mean() < 0.5 < (rgb > 0.8).mean()
