"""The stream of photos: the same for any workers, from any start, past broken files."""

import itertools
import json
import logging
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from allaprima import photos as photos_module
from allaprima.data import CanvasDataModule, PhotoDataModule
from allaprima.errors import InputError
from allaprima.images import read_photo, resize
from allaprima.lightning import pl
from allaprima.photos import (
    FixedPhotos,
    PhotoDataset,
    StreamSampler,
    TimedLoader,
    list_coco,
    list_folder,
    read_square,
)


@pytest.fixture
def photos(tmp_path):
    """Twelve small photos, each of one colour: its red is 20 times its number."""
    for i in range(12):
        Image.new("RGB", (40 + i, 30), (20 * i, i, 0)).save(tmp_path / f"{i:02}.png")
    return list_folder(tmp_path)


def numbers(batch):
    """Which of the photos are in a batch."""
    return [round(red / 20) for red in batch[:, 0, 0, 0].tolist()]


def module(photos, **options):
    return PhotoDataModule(photos, photos, **{"crop_px": 16, "num_workers": 0, **options})


def stream(data, num_batches):
    batches = list(itertools.islice(data.train_dataloader(), num_batches))
    return torch.stack([data.on_before_batch_transfer(batch, 0) for batch in batches])


# --- lists


def test_a_folder_lists_its_pictures(photos, tmp_path):
    assert [photo.name for photo in photos] == [f"{i:02}.png" for i in range(12)]
    (tmp_path / "empty").mkdir()
    for folder, reason in (("empty", "no picture"), ("absent", "no such folder")):
        with pytest.raises(InputError, match=rf"{folder}.*{reason}"):
            list_folder(tmp_path / folder)


def coco(root, text):
    (root / "train2017").mkdir()
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2017.json").write_text(text)


@pytest.mark.parametrize("indent", [None, 2])
def test_coco_lists_the_images_of_its_annotation_file(tmp_path, indent):
    content = {
        "info": {"description": 'the "images": [1, 2] are ours', "images": [{"no": "name"}]},
        "annotations": [{"images": [], "segmentation": [[0, 1]]}],
        "images": [{"id": 2, "file_name": "b.jpg"}, {"file_name": "a \\ä.jpg", "id": 1}],
        "categories": [],
    }
    coco(tmp_path, json.dumps(content, indent=indent))
    assert list_coco(tmp_path, "train2017") == [
        tmp_path / "train2017" / n for n in ("b.jpg", "a \\ä.jpg")
    ]


def test_what_follows_the_images_is_not_even_parsed(tmp_path):
    coco(tmp_path, '{"images": [{"file_name": "a.jpg"}], "annotations": [{{{')
    assert len(list_coco(tmp_path, "train2017")) == 1


@pytest.mark.parametrize(
    "text", ["", "{}", '{"images": []}', '{"images": [{"file_na', '{"images": [1]}']
)
def test_coco_without_images_is_told(tmp_path, text):
    coco(tmp_path, text)
    with pytest.raises(InputError, match=r"instances_train2017\.json.*download_coco\.py"):
        list_coco(tmp_path, "train2017")


def test_a_coco_folder_that_is_not_whole_is_told(tmp_path):
    with pytest.raises(InputError, match=r"train2017 is missing.*scripts/download_coco\.py .*"):
        list_coco(tmp_path, "train2017")
    (tmp_path / "train2017").mkdir()
    with pytest.raises(InputError, match=r"instances_train2017\.json is missing"):
        list_coco(tmp_path, "train2017")


def test_the_development_photos_are_listed(shared):
    train, val = (list_coco(shared / "photos", split) for split in ("train2017", "val2017"))
    assert (len(train), len(val)) == (1255, 100)
    assert all(photo.is_file() for photo in train + val)


# --- crops


def test_a_square_is_where_it_is_asked_for(tmp_path):
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    pixels = np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(path := tmp_path / "a.png")
    np.testing.assert_array_equal(read_square(path, 48), pixels[:, 8:56])
    np.testing.assert_array_equal(read_square(path, 24, 0.5, 0, 0), pixels[:24, :24])
    np.testing.assert_array_equal(read_square(path, 24, 0.5, 1, 1), pixels[-24:, -24:])


@pytest.mark.parametrize(("share", "expected"), [(1.0, 200), (0.5, 100)])
def test_reduced_decoding_leaves_the_crop_its_scale(tmp_path, share, expected):
    ramp = np.tile(np.linspace(0, 255, 800), (800, 1)).astype(np.uint8)
    Image.fromarray(ramp).convert("RGB").save(path := tmp_path / "a.jpg", quality=95)
    crop = read_square(path, 100, share, 0, 0)[50, :, 0].astype(float)
    slope = (crop[90] - crop[10]) / 80
    assert slope == pytest.approx(255 * share / 100, rel=0.02)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("extra", [{}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}])
@pytest.mark.parametrize(("crop_px", "share", "x", "y"), [(64, 1, 0.5, 0.5), (32, 0.61, 0.3, 0.9)])
def test_plain_jpegs_take_a_shorter_way_to_the_same_pixels(
    tmp_path, mode, extra, crop_px, share, x, y
):
    noise = np.random.default_rng(0).integers(0, 256, (25, 31, 3)).astype(np.uint8)
    image = Image.fromarray(noise).resize((310, 250)).convert(mode)
    image.save(path := tmp_path / "a.jpg", quality=90, **extra)
    square = read_square(path, crop_px, share, x, y)
    rgb = read_photo(path, min_side_px=math.ceil(crop_px / share))
    assert len(rgb) < 250  # decoded at a part of its size
    side = share * len(rgb)
    left, top = x * (rgb.shape[1] - side), y * (rgb.shape[0] - side)
    expected = resize(rgb, crop_px, crop_px, (left, top, left + side, top + side))
    np.testing.assert_array_equal(square, expected)


def test_a_damaged_jpeg_is_told_and_not_read_in_part(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path := tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="damaged"):
        read_square(path, 32)


def test_a_pipe_is_told_and_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(path := tmp_path / "a.jpg")
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("would wait for ever"))
    with pytest.raises(InputError, match="not a regular file"):
        read_square(path, 32)


def test_small_photos_are_scaled_up(tmp_path):
    Image.new("RGB", (3, 1), (9, 8, 7)).save(path := tmp_path / "a.png")
    dataset = PhotoDataset([path], [32], seed=0)
    for position in range(5):
        image, _ = dataset[position]
        assert image.shape == (3, 32, 32)
        assert image.float().mean((1, 2)).tolist() == [9, 8, 7]


def test_crops_vary_in_scale_place_and_mirroring(tmp_path):
    ramp = np.tile(np.arange(128, dtype=np.uint8), (128, 1))
    Image.fromarray(ramp).convert("RGB").save(path := tmp_path / "a.png")
    dataset = PhotoDataset([path], [32], seed=0)
    rows = torch.stack([dataset[position][0][0, 16] for position in range(200)]).float()
    slopes = (rows[:, 28] - rows[:, 4]) / 24 * 32 / 128  # of the photo's side
    assert 0.4 < (slopes < 0).float().mean() < 0.6
    assert slopes.abs().min() == pytest.approx(0.5, abs=0.03)
    assert slopes.abs().max() == pytest.approx(1, abs=0.03)
    assert len(slopes.unique()) > 50
    assert rows.amin(1).unique().numel() > 30


# --- the stream


def test_every_epoch_has_every_photo_once_in_its_own_order(photos):
    epochs = numbers(stream(module(photos), 9).flatten(0, 1))
    epochs = [epochs[i : i + 12] for i in (0, 12, 24)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_position_decides_alone_and_the_seed_with_it(photos):
    one, other = PhotoDataset(photos, [16], seed=1), PhotoDataset(photos, [16], seed=1)
    forward = [one[i][0] for i in range(30)]
    for i in reversed(range(30)):
        assert torch.equal(other[i][0], forward[i])
    reseeded = PhotoDataset(photos, [16], seed=2)
    assert any(not torch.equal(reseeded[i][0], forward[i]) for i in range(30))


def test_workers_do_not_change_the_stream(shared):
    photos = list_folder(shared / "photos/val2017")[:20]
    photos.insert(3, Path("absent.jpg"))
    plain, one, two = (
        stream(module(photos, crop_px=64, num_workers=workers), 8) for workers in (0, 1, 2)
    )
    assert torch.equal(plain, one)
    assert torch.equal(plain, two)


def test_batches_take_crop_sizes_in_turn_after_a_later_start_too(photos):
    def sizes(position, **options):
        data = module(photos, crop_px=[16, 32, 48], **options)
        data.load_state_dict({"position": position})
        batches = list(itertools.islice(data.train_dataloader(), 4))
        assert {len(images) for images, _ in batches} == {data.batch_size}
        return [images.shape[-1] for images, _ in batches]

    assert sizes(0, batch_size=2) == [16, 32, 48, 16]
    assert sizes(4, batch_size=2) == [48, 16, 32, 48]
    assert sizes(5, batch_size=2) == [48, 16, 32, 48]  # an odd position, of batches of one
    assert sizes(5, batch_size=1, num_workers=1) == [48, 16, 32, 48]
    assert {photo.shape for photo in module(photos, crop_px=[32, 16]).fixed_photos(2)} == {
        (3, 32, 32)
    }


def test_a_later_start_is_the_tail_of_the_stream(photos):
    whole = stream(module(photos), 10)
    late = module(photos)
    late.load_state_dict({"position": 12})
    assert torch.equal(stream(late, 7), whole[3:])


def test_processes_share_each_batch_of_one_process():
    whole = iter(StreamSampler(7, 6))
    shares = [iter(StreamSampler(7, 2, rank, world_size=3)) for rank in range(3)]
    for _ in range(4):
        step = list(itertools.islice(whole, 6))
        assert step == [p for share in shares for p in itertools.islice(share, 2)]


def test_random_numbers_of_the_training_are_left_alone(photos):
    before = torch.get_rng_state()
    data = module(photos, num_workers=1)
    stream(data, 2)
    list(data.val_dataloader())
    assert torch.equal(before, torch.get_rng_state())


def test_the_loader_counts_what_it_was_waited_for(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(photos_module.time, "perf_counter", lambda: now[0])

    class Slow:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index == 3:
                raise IndexError
            now[0] += 2.0
            return index

    loader = TimedLoader(Slow(), batch_size=None)
    for _ in loader:
        now[0] += 50.0  # the training's own time
    assert loader.waited_s == 6.0


def test_workers_outlive_the_signals_that_end_a_run(photos):
    loader = module(photos, num_workers=2).train_dataloader()
    batches = iter(loader)
    for _ in range(2):  # a batch of each, so that both of them have started
        next(batches)
    workers = list(loader._iterator._workers)
    for number in (signal.SIGINT, signal.SIGTERM):
        for worker in workers:
            os.kill(worker.pid, number)
    for _ in range(8):
        next(batches)
    start = time.monotonic()
    del loader, batches
    for worker in workers:
        worker.join()
    assert time.monotonic() - start < 4, "they end at once when the loader does"


# --- broken photos


def test_a_broken_photo_is_replaced_told_once_and_counted(photos, caplog):
    photos[5].write_bytes(b"no photo")
    data = module(photos)
    with caplog.at_level(logging.WARNING, "allaprima.data"):
        batches = stream(data, 9)
    assert 5 not in numbers(batches.flatten(0, 1))
    assert data.photos_broken == 1
    assert [str(photos[5]) in record.getMessage() for record in caplog.records] == [True]


def test_the_last_readable_photo_is_found(photos):
    for photo in photos[1:3]:
        photo.unlink()
    assert numbers(stream(module(photos[:3], batch_size=1), 6).flatten(0, 1)) == [0] * 6


@pytest.mark.parametrize("num_workers", [0, 1])
def test_too_many_broken_photos_end_the_run(photos, num_workers):
    for photo in photos[:4]:
        photo.write_bytes(b"no photo")
    data = module(photos, num_workers=num_workers)
    with pytest.raises(InputError, match="4 photos cannot be read") as caught:
        stream(data, 12)
    assert all(str(photo) in str(caught.value) for photo in photos[:4])


def test_three_broken_photos_and_five_percent_are_passed_over(photos):
    for photo in photos[:3]:
        photo.write_bytes(b"no photo")
    data = module(photos)
    stream(data, 12)
    assert data.photos_broken == 3

    many = module([*(f"absent{i}" for i in range(7)), *(p for p in photos[3:])])
    many.train_photos = list(range(140))  # as if there were so many
    many.num_delivered = 140
    absent = [f"absent{i}" for i in range(7)]
    many.on_before_batch_transfer((torch.zeros(1, 3, 16, 16), absent), 0)
    with pytest.raises(InputError, match="8 photos"):
        many.on_before_batch_transfer((torch.zeros(1, 3, 16, 16), ["one more"]), 0)


@pytest.mark.parametrize("num_photos", [1, 2, 50])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_nothing_but_broken_photos_ends_at_once(photos, num_photos, num_workers):
    data = module([f"absent{i}.jpg" for i in range(num_photos)], num_workers=num_workers)
    with pytest.raises(InputError, match=r"absent\d+\.jpg"):
        stream(data, 1)


def test_a_long_list_of_broken_photos_is_cut(photos):
    data = module(photos)
    broken = [f"absent{i}.jpg" for i in range(30)]
    with pytest.raises(InputError, match=r"absent19\.jpg\nand 10 more$"):
        data.on_before_batch_transfer((torch.zeros(1, 3, 16, 16), broken), 0)


# --- validation


def test_validation_photos_are_fixed_central_and_in_order(photos, caplog):
    photos[1].write_bytes(b"no photo")
    data = module(photos, num_val=5, batch_size=2)
    batches = [data.on_before_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    assert numbers(torch.cat(batches)) == [0, 2, 3, 4, 5]
    assert str(photos[1]) in caplog.text
    floats = data.fixed_photos(3)
    assert [round(photo[0, 0, 0].item() * 255 / 20) for photo in floats] == [0, 2, 3]
    assert floats[0].dtype == torch.float32
    with pytest.raises(InputError, match=r"absent\.png"):
        FixedPhotos(["absent.png"], 16, 1)


def test_photos_held_out_are_never_trained_on(photos):
    data = PhotoDataModule(photos, num_val=3, crop_px=16, num_workers=0, batch_size=3)
    held_out = set(data.val_photos)
    assert len(held_out) == 3
    assert data.num_train == 9
    assert not held_out & set(data.train_photos)
    trained = set(numbers(stream(data, 6).flatten(0, 1)))
    validated = set(numbers(torch.cat(list(data.val_dataloader()))))
    assert trained | validated == set(range(12))
    assert not trained & validated
    again = PhotoDataModule(photos, num_val=3, crop_px=16, seed=0)
    other = PhotoDataModule(photos, num_val=3, crop_px=16, seed=1)
    assert again.val_photos == data.val_photos != other.val_photos
    doubled = PhotoDataModule(photos + photos, num_val=3, crop_px=16)
    assert not set(doubled.val_photos) & set(doubled.train_photos)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop_px": 12}, ["crop_px=12", "16"]),
        ({"crop_px": 18}, ["crop_px=18", "multiple of 4"]),
        ({"crop_px": [16, 18]}, ["crop_px=18", "multiple of 4"]),
        ({"crop_px": []}, ["crop_px=None", "at least 16"]),
        ({"batch_size": 0}, ["batch_size=0", "at least 1"]),
        ({"batch_size": 1.5}, ["batch_size=1.5", "whole"]),
        ({"num_workers": "many"}, ["num_workers=many"]),
        ({"num_val": 0}, ["num_val=0"]),
        ({"seed": -1}, ["seed=-1"]),
        ({"num_val": 12}, ["12 photos are too few", "num_val"]),
    ],
)
def test_numbers_out_of_range_are_told(photos, options, words):
    with pytest.raises(InputError) as caught:
        PhotoDataModule(photos, **options)
    assert all(word in str(caught.value) for word in words)


# --- in training


class Recorder(pl.LightningModule):
    """Learns nothing; remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches = []

    def training_step(self, batch, batch_idx):
        self.batches.append(batch)
        return self.weight * batch.mean()

    def validation_step(self, batch, batch_idx):
        self.validated = batch

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters())


def fit(folder, data, steps, accumulate=1, resume=None):
    recorder = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=accumulate,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        val_check_interval=1,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
    )
    trainer.fit(recorder, datamodule=data, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    return recorder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_lightning_resumes_where_it_stopped_whatever_was_read_ahead(photos, tmp_path, num_workers):
    new = {"num_workers": num_workers, "num_val": 2}
    whole = fit(tmp_path, module(photos, **new), 6, accumulate=2).batches
    assert len(whole) == 12
    assert whole[0].dtype == torch.float32
    assert whole[0].is_contiguous(memory_format=torch.channels_last)
    assert 0.7 < torch.stack(whole).max() <= 1
    first = fit(tmp_path, module(photos, **new), 2, accumulate=2).batches
    data = module(photos, **new)
    rest = fit(tmp_path, data, 6, accumulate=2, resume=tmp_path / "last.ckpt")
    assert torch.equal(torch.stack(whole), torch.stack(first + rest.batches))
    assert data.state_dict() == {"position": 6 * 2 * 4}
    assert rest.validated.shape == (2, 3, 16, 16)
    assert data.fixed_photos(1)[0].dtype == torch.float32


def test_the_stream_of_the_development_photos_is_full_of_colour(shared):
    dataset = PhotoDataset(list_coco(shared / "photos", "train2017"), [64], seed=0)
    images, broken = zip(*(dataset[position] for position in range(24)), strict=True)
    assert not any(broken)
    assert torch.stack(images).float().std() > 30


# --- few photos, or none


def test_some_of_the_photos_are_trained_on(photos):
    data = module(photos, num_train_photos=3, batch_size=3)
    assert data.num_train == 3
    assert {n for batch in stream(data, 4) for n in numbers(batch)} == {0, 1, 2}
    assert module(photos, num_train_photos=None).num_train == 12
    held_out = PhotoDataModule(photos, num_val=4, num_train_photos=8, num_workers=0)
    assert not {*held_out.train_photos} & {*held_out.val_photos}
    with pytest.raises(InputError, match="num_train_photos=13, but there are 12"):
        module(photos, num_train_photos=13)
    with pytest.raises(InputError, match="num_train_photos=0 must be"):
        module(photos, num_train_photos=0)


def test_canvases_are_white_and_without_end():
    data = CanvasDataModule(crop_px=32, batch_size=3, num_val=5)
    batches = list(itertools.islice(data.train_dataloader(), 50))
    for batch in (*batches[::7], *(data.on_after_batch_transfer(b, 0) for b in batches[:1])):
        assert torch.equal(batch, torch.ones(3, 3, 32, 32))
    [validation] = data.val_dataloader()
    assert torch.equal(validation, torch.ones(5, 3, 32, 32))
    assert data.on_after_batch_transfer(validation, 0).is_contiguous(
        memory_format=torch.channels_last
    )
    [canvas] = data.fixed_photos(3)
    assert torch.equal(canvas, torch.ones(3, 32, 32))


def test_canvases_draw_no_random_numbers():
    data = CanvasDataModule(crop_px=16)
    state = torch.get_rng_state()
    next(iter(data.train_dataloader()))
    next(iter(data.val_dataloader()))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("option", ["crop_px", "batch_size", "num_val"])
def test_a_canvas_out_of_range(option):
    with pytest.raises(InputError, match=f"{option}=0 must be a whole number"):
        CanvasDataModule(**{option: 0})
