"""Thousands of damaged pictures and generators: read, or refused by an InputError; no more.

``CORRUPTED_FILES=50000 pytest tests/test_corrupted_files.py`` makes so many of each kind.
"""

import io
import json
import os
import signal
import struct
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms
from safetensors.torch import save

from allaprima.errors import InputError
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.images import count_pixels, read_made_by, read_photo, read_picture
from allaprima.weights import load_generator, read_metadata, read_weights

NUM_CORRUPTED = int(os.environ.get("CORRUPTED_FILES", "0"))
LONGEST_S = 5  # for one file of some thousand bytes: beyond it hangs
FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen")
FORBIDDEN += ("socket.connect", "os.remove", "os.rename", "os.mkdir", "shutil.rmtree")
EXTREME = (0, 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1)

caught: list[str] = []
watching = False


def _audit(event: str, _arguments: tuple) -> None:
    if watching and event in FORBIDDEN:
        caught.append(event)


sys.addaudithook(_audit)  # for good; it looks only while a file is read


def corrupted(seeds: dict[str, bytes], number: int):
    """Name of a seed and the damaged content, over and over, the same in every run."""
    rng = np.random.default_rng(0)
    names = list(seeds)
    for i in range(number):
        name = names[i % len(names)]
        content = bytearray(seeds[name])
        for _ in range(rng.integers(1, 4)):
            content = _spoil(content, seeds[names[rng.integers(len(names))]], rng)
        yield name, bytes(content)


def _spoil(content: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    # Headers decide most: half of the damage is there.
    reach = min(len(content), 80 if rng.random() < 0.5 else len(content))
    place = int(rng.integers(reach)) if reach else 0
    length = int(rng.integers(1, 40))
    match rng.integers(7):
        case 0:  # cut off
            return content[:place]
        case 1:  # bytes lost
            return content[:place] + content[place + length :]
        case 2:  # bytes twice
            return content[: place + length] + content[place:]
        case 3:  # another file's middle
            start = int(rng.integers(len(other)))
            content[place : place + length] = other[start : start + length]
        case 4:  # a number at its limit, of either byte order
            number = int(rng.choice(EXTREME))
            content[place : place + 4] = struct.pack("<I" if rng.random() < 0.5 else ">I", number)
        case 5:  # one bit
            if content:
                content[place] ^= 1 << int(rng.integers(8))
        case _:  # noise
            content[place : place + length] = rng.bytes(length)
    return content


def read_all(seeds, number, readers, folder):
    """Read every damaged file by every reader; how many were refused and how many read."""
    global watching

    def hangs(*_):
        raise TimeoutError(f"{name} takes over {LONGEST_S} s")

    before = signal.signal(signal.SIGALRM, hangs)
    outcomes = {True: 0, False: 0}
    told: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, content in corrupted(seeds, number):
                file = folder / name
                file.write_bytes(content)
                for read in readers:
                    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
                    watching = True
                    try:
                        read(file)
                        outcomes[True] += 1
                    except InputError as error:
                        outcomes[False] += 1
                        told.append(str(error))
                    except Exception as error:
                        (kept := folder / f"kept_{name}").write_bytes(content)
                        raise AssertionError(f"{read.__name__}({kept}): {error!r}") from error
                    finally:
                        watching = False
                        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not caught
    assert not [words for words in told if str(folder) not in words or len(words) > 2000]
    return outcomes


def pictures() -> dict[str, bytes]:
    """Small files of every format and of modes with code of their own, with EXIF and profile."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (19, 24, 3), np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (19, 24), np.uint16))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Software] = "allaprima recipe 0 photo 0"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    known = {"exif": exif, "icc_profile": profile}
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    made = {
        "plain.jpg": (rgb, known),
        "progressive.jpg": (rgb, {"progressive": True, "exif": exif}),
        "cmyk.jpg": (rgb.convert("CMYK"), known),
        "grey.jpg": (rgb.convert("L"), {}),
        "plain.png": (rgb, known),
        "palette.png": (rgb.convert("P"), {"transparency": 3}),
        "deep.png": (deep, {}),
        "animated.png": (rgb, frames),
        "lossy.webp": (rgb, known),
        "animated.webp": (rgb.convert("RGBA"), frames),
        "plain.tiff": (rgb, {**known, "compression": "tiff_lzw"}),
        "jpeg.tiff": (rgb, {"compression": "jpeg"}),
        "float.tiff": (deep.convert("F"), {"compression": "tiff_adobe_deflate"}),
        "plain.bmp": (rgb, {}),
        "animated.gif": (rgb.convert("P"), frames),
    }
    files = {}
    for name, (image, options) in made.items():
        image.save(
            encoded := io.BytesIO(),
            Image.registered_extensions()[f".{name[-4:].lstrip('.')}"],
            **options,
        )
        files[name] = encoded.getvalue()
    return files


def generators() -> dict[str, bytes]:
    """A generator's file, and the checkpoint of its training."""
    generator = JohnsonGenerator((2, 3, 4), num_residual_blocks=1)
    header = {"format_version": "1", "generator": "johnson"}
    arguments = generator.arguments
    whole = save(generator.state_dict(), {**header, "arguments": json.dumps(arguments)})
    half = {name: tensor.half() for name, tensor in generator.state_dict().items()}
    record = {**header, "arguments": arguments, "weights": half, "metadata": {"style": "wave"}}
    torch.save({"allaprima": record}, checkpoint := io.BytesIO())
    # The older form is no archive with checksums: damage reaches the unpickler.
    torch.save({"allaprima": record}, plain := io.BytesIO(), _use_new_zipfile_serialization=False)
    return {
        "float32.safetensors": whole,
        "float16.safetensors": save(half, {**header, "arguments": json.dumps(arguments)}),
        "last.ckpt": checkpoint.getvalue(),
        "plain.ckpt": plain.getvalue(),
    }


def test_the_seeds_are_sound(tmp_path):
    for name, content in {**pictures(), **generators()}.items():
        (tmp_path / name).write_bytes(content)
        readers = (load_generator, read_weights)
        if name in pictures():
            readers = (read_picture, read_photo)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for read in readers:
                read(tmp_path / name)


def read_small(file):
    return read_picture(file, max_pixels=10**6)


@pytest.mark.parametrize("readers", [(read_small,), (count_pixels, read_made_by)])
def test_damaged_pictures(tmp_path, readers):
    outcomes = read_all(pictures(), NUM_CORRUPTED or 4000, readers, tmp_path)
    if readers == (read_small,):
        assert min(outcomes.values()) > 0.1 * sum(outcomes.values())


@pytest.mark.parametrize("kind", [".safetensors", ".ckpt"])
def test_damaged_generators(tmp_path, kind):
    seeds = {name: content for name, content in generators().items() if name.endswith(kind)}
    readers = (read_weights, load_generator)
    if kind == ".safetensors":
        readers = (*readers, read_metadata)
    outcomes = read_all(seeds, NUM_CORRUPTED or 2000, readers, tmp_path)
    assert outcomes[False] > 0.3 * sum(outcomes.values())
