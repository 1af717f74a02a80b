"""What paintings say of their making, and what is left to paint."""

import os
from pathlib import Path

import numpy as np
import pytest

from allaprima import records
from allaprima.controls import Controls
from allaprima.errors import InputError
from allaprima.images import write_picture
from allaprima.records import Recipes, left_to_paint, made_by, recipe_of

OCHRE = Recipes(photos="ochre", clips="sienna")


@pytest.fixture
def plan(tmp_path):
    """Two photos, and where they are to be painted."""
    photos = [tmp_path / name for name in ("a.png", "b.jpg")]
    for photo in photos:
        write_picture(photo, np.zeros((4, 5, 3), np.uint8))
    return [(photo, tmp_path / "out" / photo.name) for photo in photos]


def paint(photo, painted, recipe="ochre"):
    write_picture(painted, np.ones((4, 5, 3)), overwrite=True, made_by=made_by(recipe, photo))


def test_what_is_painted_and_unchanged_is_left_out(plan):
    assert left_to_paint(plan, OCHRE) == plan
    paint(*plan[0])
    assert left_to_paint(plan, OCHRE) == plan[1:]
    paint(*plan[1])
    assert left_to_paint(plan, OCHRE) == []


def test_a_changed_photo_is_painted_again(plan):
    for pair in plan:
        paint(*pair)
    photo = plan[0][0]
    os.utime(photo, ns=(0, photo.stat().st_mtime_ns + 1))
    assert left_to_paint(plan, OCHRE) == plan[:1]
    plan[1][0].write_bytes(b"longer than before, or shorter")
    assert left_to_paint(plan, OCHRE) == plan


@pytest.mark.parametrize("content", [None, b"", b"mine"])
def test_what_another_recipe_or_a_person_made_is_not_touched(plan, content):
    paint(*plan[0], recipe="umber")
    if content is not None:
        plan[0][1].write_bytes(content)
    with pytest.raises(InputError, match=r"kept unless you say --overwrite: .*a\.png$"):
        left_to_paint(plan, OCHRE)


def test_a_pipe_in_a_paintings_place_is_not_opened(plan, monkeypatch):
    painted = plan[0][1].with_suffix(".webp")
    painted.parent.mkdir()
    os.mkfifo(painted)
    monkeypatch.setattr(records, "read_note", lambda _: pytest.fail("would wait for ever"))
    with pytest.raises(InputError, match="kept unless you say --overwrite"):
        left_to_paint([(plan[0][0], painted)], OCHRE)


def test_a_generator_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.safetensors cannot be read: No such file"):
        recipe_of([tmp_path / "gone.safetensors"], Controls())


def test_a_photo_that_is_gone_is_named(plan):
    with pytest.raises(InputError, match=r"gone\.png cannot be read"):
        made_by("ochre", plan[0][0].with_name("gone.png"))


def test_a_recipe_is_all_that_decides_the_painting(tmp_path):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    a.write_bytes(b"weights")
    b.write_bytes(b"other weights")
    mask = np.zeros((2, 3), np.float32)
    recipes = [
        recipe_of([a], Controls()),
        recipe_of([b], Controls()),
        recipe_of([a, b], Controls()),
        recipe_of([b, a], Controls()),
        recipe_of([a], Controls(), 1),
        recipe_of([a], Controls(), "1"),
        recipe_of([a], Controls(size_px=64)),
        recipe_of([a], Controls(output_size_px=64)),
        recipe_of([a], Controls(strength=0.5)),
        recipe_of([a], Controls(colors="photo")),
        recipe_of([a], Controls(mask=mask)),
        recipe_of([a], Controls(mask=mask.T)),
        recipe_of([a], Controls(mask=mask + 1)),
    ]
    assert len(set(recipes)) == len(recipes)
    b.write_bytes(Path(a).read_bytes())
    assert recipe_of([b], Controls()) == recipes[0]
