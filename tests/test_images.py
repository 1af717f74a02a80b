"""Picture files: every mode against pixel values known by hand, damage, resize, safe writing."""

import os
import resource
import struct
import subprocess
import sys
import warnings
import zlib
from contextlib import nullcontext, suppress

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from allaprima.errors import InputError
from allaprima.images import (
    Picture,
    check_long_side,
    check_writable,
    count_pixels,
    find_pictures,
    read_made_by,
    read_photo,
    read_picture,
    resize,
    resize_short_side,
    to_uint8,
    write_picture,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def stored(tmp_path):
    """Save an image by Pillow: its path."""

    def save(image, suffix, **options):
        path = tmp_path / f"stored{suffix}"
        image.save(path, **options)
        return path

    return save


def noise(height=12, width=17, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def in_255(path):
    """The colours of a file on the scale 0…255, not rounded; the photo reader must agree."""
    picture = read_picture(path)
    assert picture.rgb.dtype == np.float32
    if picture.alpha is None:
        np.testing.assert_allclose(read_photo(path), picture.rgb * 255, atol=0.501)
    return picture.rgb * 255


# --- formats and modes


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp", ".webp"])
def test_lossless_formats_give_their_pixels_exactly(stored, suffix):
    pixels = noise()
    options = {"lossless": True} if suffix == ".webp" else {}
    path = stored(Image.fromarray(pixels), suffix, **options)
    np.testing.assert_array_equal(in_255(path), pixels)
    assert read_picture(path).alpha is None


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_formats_give_nearly_their_pixels(stored, suffix):
    ramp = np.linspace(0, 255, 64).repeat(3 * 64).reshape(64, 64, 3).round()
    path = stored(Image.fromarray(ramp.astype(np.uint8)), suffix, quality=95)
    np.testing.assert_allclose(in_255(path), ramp, atol=4)


def test_grey_and_bilevel(stored):
    grey = noise(channels=1)
    np.testing.assert_array_equal(in_255(stored(Image.fromarray(grey), ".png")), grey_rgb(grey))
    bits = grey > 128
    path = stored(Image.fromarray(bits), ".tiff")
    np.testing.assert_array_equal(in_255(path), grey_rgb(bits * 255))


def grey_rgb(grey):
    return np.stack([grey] * 3, axis=-1)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_grey_of_16_bits_keeps_its_depth(stored, suffix):
    ramp = np.linspace(0, 65535, 300).round().astype(np.uint16)[None]
    path = stored(Image.fromarray(ramp), suffix)
    np.testing.assert_allclose(read_picture(path).rgb, grey_rgb(ramp / 65535), atol=1e-6)
    np.testing.assert_allclose(read_photo(path), grey_rgb(ramp / 257), atol=0.501)


def test_big_endian_and_32_bit_integers_and_floats(stored):
    values = np.array([[0, 256, 65535]])
    big = Image.frombytes("I;16B", (3, 1), values.astype(">u2").tobytes())
    for image in (big, Image.fromarray(values.astype(np.int32))):
        np.testing.assert_allclose(in_255(stored(image, ".tiff"))[0, :, 1] * 257, values[0])
    floats = Image.fromarray(np.array([[-1, 0.25, 1, 7, np.nan, np.inf]], np.float32))
    np.testing.assert_allclose(
        read_picture(stored(floats, ".tiff")).rgb[0, :, 2], [0, 0.25, 1, 1, 0, 1]
    )


def test_rgb_of_16_bits_from_png(tmp_path):
    samples = np.array([[(0, 32768, 65535), (257, 514, 51400)]], ">u2")
    (path := tmp_path / "deep.png").write_bytes(png(2, 1, 16, 2, b"\0" + samples.tobytes()))
    np.testing.assert_allclose(in_255(path), samples / 257, atol=1)


def png(width, height, depth, colour_type, rows=b""):
    """A PNG written by hand: Pillow writes no 16-bit colour and no false sizes."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


@pytest.mark.parametrize("suffix", [".jpg", ".tiff"])
def test_cmyk(stored, suffix):
    inks = {(0, 0, 0, 0): (255,) * 3, (0, 255, 255, 0): RED, (255, 0, 255, 0): GREEN}
    inks |= {(0, 0, 0, 255): (0, 0, 0), (0, 0, 0, 128): (127,) * 3}
    for ink, colour in inks.items():
        image = Image.new("CMYK", (16, 16), ink)
        options = {"quality": 95} if suffix == ".jpg" else {}
        np.testing.assert_allclose(in_255(stored(image, suffix, **options))[8, 8], colour, atol=2)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
def test_alpha_is_straight_and_beside_colour(stored, suffix):
    pixels = noise(channels=4)
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    path = stored(Image.fromarray(pixels), suffix, **options)
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.rgb * 255, pixels[..., :3])
    np.testing.assert_allclose(picture.alpha * 255, pixels[..., 3], atol=1e-4)
    alpha = pixels[..., 3:] / 255
    on_white = alpha * pixels[..., :3] + (1 - alpha) * 255
    np.testing.assert_allclose(read_photo(path), on_white, atol=0.501)


def test_grey_with_alpha(stored):
    grey, alpha = noise(channels=2)[..., 0], noise(channels=2)[..., 1]
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    picture = read_picture(stored(image, ".png"))
    np.testing.assert_array_equal(picture.rgb * 255, grey_rgb(grey))
    np.testing.assert_allclose(picture.alpha * 255, alpha, atol=1e-4)


@pytest.mark.parametrize(
    ("suffix", "transparency"), [(".gif", 1), (".png", 1), (".png", bytes([255, 0, 128]))]
)
def test_palettes_with_and_without_transparency(stored, suffix, transparency):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L").convert("P")
    image.putpalette([*RED, *GREEN, *BLUE])
    plain = read_picture(stored(image, suffix))
    np.testing.assert_array_equal(plain.rgb * 255, [[RED, GREEN, BLUE]])
    assert plain.alpha is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = read_picture(stored(image, suffix, transparency=transparency))
    np.testing.assert_array_equal(picture.rgb[0, ::2] * 255, [RED, BLUE])
    last = 128 if isinstance(transparency, bytes) else 255
    np.testing.assert_allclose(picture.alpha[0] * 255, [255, 0, last])


def test_one_colour_as_transparency(stored):
    for dtype, alpha in ((np.uint8, [0, 1]), (np.uint16, [0, 1])):
        path = stored(Image.fromarray(np.array([[200, 100]], dtype)), ".png", transparency=200)
        np.testing.assert_array_equal(read_picture(path).alpha, [alpha])


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tiff"])
def test_an_animation_gives_its_first_frame(stored, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    options = {"lossless": True} if suffix == ".webp" else {}
    path = stored(frames[0], suffix, save_all=True, append_images=frames[1:], **options)
    told = pytest.warns(UserWarning, match="is animated: its first frame is read")
    with nullcontext() if suffix == ".tiff" else told:  # a TIFF's further pages are no animation
        pixels = in_255(path)
    np.testing.assert_array_equal(pixels[4, 4], RED)


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp", ".jpg"])
def test_exif_orientation(stored, suffix, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}
    pixels = resize(noise(2, 3), 16, 24)
    path = stored(Image.fromarray(pixels), suffix, exif=exif, **options.get(suffix, {}))
    atol = 6 if suffix == ".jpg" else 0
    np.testing.assert_allclose(in_255(path), UPRIGHT[orientation](pixels), atol=atol)


def test_damaged_exif_does_not_lose_the_picture(stored):
    for exif in (b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        path = stored(Image.fromarray(noise()), ".png", exif=exif)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.testing.assert_array_equal(in_255(path), noise())


# --- colour profiles


def profile(space, tags):
    """A minimal ICC version 2 profile of an output device."""
    tags = {b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)} | tags
    directory, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        directory += name + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    pcs = b"XYZ " if space == b"GRAY" else b"Lab "
    head = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02100000, b"prtr", space, pcs) + bytes(12)
    head += b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    whole = head.ljust(128, b"\0") + directory + body
    return struct.pack(">I", len(whole)) + whole[4:]


LINEAR_GREY = profile(b"GRAY", {b"kTRC": b"curv\0\0\0\0" + struct.pack(">I", 0)})


def swapped_primaries():
    """sRGB with the red and the blue primary exchanged."""
    return SRGB.replace(b"rXYZ", b"....").replace(b"bXYZ", b"rXYZ").replace(b"....", b"bXYZ")


def green_cyan():
    """A press whose cyan ink is the green of sRGB; any other ink is black."""
    table = np.zeros((2, 2, 2, 2, 3), np.uint8) + np.array([0, 128, 128], np.uint8)
    table[0, 0, 0, 0] = 255, 128, 128  # bare paper, in Lab
    table[1, 0, 0, 0] = 224, 128 - 79, 128 + 81
    identity = struct.pack(">9i", *(np.eye(3).astype(int).ravel() * 65536))
    line = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + 4 * line + table.tobytes() + 3 * line
    return profile(b"CMYK", {b"A2B0": lut, b"A2B1": lut})


def test_an_rgb_profile_is_converted_to_srgb(stored):
    image = Image.fromarray(np.array([[RED, GREEN, BLUE, (255, 255, 255), (9, 9, 9)]], np.uint8))
    np.testing.assert_allclose(in_255(stored(image, ".png", icc_profile=SRGB)), image, atol=1)
    path = stored(image, ".png", icc_profile=swapped_primaries())
    expected = np.array(image)[..., ::-1]
    np.testing.assert_allclose(in_255(path), expected, atol=2)


def test_a_profile_holds_for_palettes_alpha_and_grey_too(stored):
    swapped = swapped_primaries()
    palette = Image.new("P", (2, 2))
    palette.putpalette(RED)
    np.testing.assert_allclose(
        in_255(stored(palette, ".png", icc_profile=swapped))[0, 0], BLUE, atol=2
    )
    alpha = read_picture(stored(Image.new("RGBA", (2, 2), (*RED, 9)), ".png", icc_profile=swapped))
    np.testing.assert_allclose(alpha.rgb[0, 0] * 255, BLUE, atol=2)
    np.testing.assert_allclose(alpha.alpha * 255, 9, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grey = in_255(stored(Image.new("L", (2, 2), 77), ".png", icc_profile=SRGB))
    np.testing.assert_allclose(grey, 77, atol=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_grey_profile_is_converted_to_srgb(stored, dtype):
    light = np.linspace(0, 1, 256)
    srgb = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    stored_values = (light * np.iinfo(dtype).max).round().astype(dtype)[None]
    path = stored(Image.fromarray(stored_values), ".png", icc_profile=LINEAR_GREY)
    np.testing.assert_allclose(in_255(path)[0, :, 0], 255 * srgb, atol=1)


def test_a_cmyk_profile_is_converted_to_srgb(stored):
    for ink, colour in {
        (255, 0, 0, 0): GREEN,
        (0, 0, 0, 0): (255,) * 3,
        (0, 0, 0, 255): (0,) * 3,
    }.items():
        path = stored(Image.new("CMYK", (2, 2), ink), ".tiff", icc_profile=green_cyan())
        np.testing.assert_allclose(in_255(path)[0, 0], colour, atol=16)


@pytest.mark.parametrize("broken", [b"junk", SRGB[:300], LINEAR_GREY])
def test_a_broken_or_alien_profile_is_ignored_with_a_warning(stored, broken):
    path = stored(Image.fromarray(noise()), ".png", icc_profile=broken)
    with pytest.warns(UserWarning, match=r"stored\.png.*profile"):
        picture = read_picture(path)
    np.testing.assert_array_equal(picture.rgb * 255, noise())


# --- what cannot be read


def test_files_that_cannot_be_read_are_named_with_the_reason(tmp_path, stored):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    whole = stored(Image.fromarray(noise(200, 200)), ".png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    for name, reason in {
        "absent.jpg": "No such file",
        ".": "folder",
        "empty.jpg": "empty",
        "text.jpg": "JPEG, PNG, WEBP",
        "half.png": "damaged or incomplete",
        "nul\0.png": "null byte",
        "x" * 300: "too long",
    }.items():
        for read in (read_picture, read_photo):
            with pytest.raises(InputError, match=reason) as caught:
                read(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)


def test_a_pipe_is_refused_unopened(tmp_path, monkeypatch):
    os.mkfifo(pipe := tmp_path / "pipe.jpg")
    (link := tmp_path / "link.jpg").symlink_to(pipe)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("would wait for ever"))
    for path in (pipe, link):
        for read in (read_picture, read_photo):
            with pytest.raises(InputError, match="is not a regular file; copy it to one"):
                read(path)
        assert (count_pixels(path), read_made_by(path)) == (0, "")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff", ".bmp", ".gif"])
def test_truncated_files_are_refused(stored, suffix):
    path = stored(Image.fromarray(noise(64, 64)), suffix)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"damaged|no image"):
        read_picture(path)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    (path := tmp_path / "bomb.png").write_bytes(png(100_000, 50_000, 8, 2))
    with pytest.raises(InputError, match=r"100000 × 50000.*200,000,000"):
        read_picture(path)
    small = tmp_path / "small.png"
    Image.new("RGB", (10, 11)).save(small)
    with pytest.raises(InputError, match="10 × 11"):
        read_picture(small, max_pixels=109)
    assert read_picture(small, max_pixels=110).rgb.shape == (11, 10, 3)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff", ".bmp", ".gif"])
def test_random_damage_gives_a_picture_or_an_input_error(stored, suffix):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    options = {} if suffix in (".bmp", ".gif") else {"exif": exif, "icc_profile": SRGB}
    path = stored(Image.fromarray(noise(24, 24)), suffix, **options)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(80):
        damaged = whole[: rng.integers(1, len(whole) + 1)].copy()
        for place in rng.integers(0, min(len(damaged), rng.choice([60, len(whole)])), 8):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged.tobytes())
        with suppress(InputError):
            assert read_picture(path, max_pixels=10**6).rgb.ndim == 3


# --- photos at reduced scale


@pytest.mark.parametrize(("min_side_px", "short_side"), [(None, 400), (401, 400), (201, 400)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photo_is_not_reduced_below_what_is_asked(stored, min_side_px, short_side, orientation):
    assert reduced_shape(stored, min_side_px, orientation) == (short_side, short_side * 3 // 2)


@pytest.mark.parametrize(
    ("min_side_px", "short_side"), [(200, 200), (101, 200), (64, 100), (1, 50)]
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photo_is_decoded_at_a_power_of_two(stored, min_side_px, short_side, orientation):
    assert reduced_shape(stored, min_side_px, orientation) == (short_side, short_side * 3 // 2)


def reduced_shape(stored, min_side_px, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = stored(Image.fromarray(noise(400, 600)), ".jpg", exif=exif)
    height, width, _ = read_photo(path, min_side_px).shape
    return (height, width) if orientation == 1 else (width, height)


# --- resize


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(13, 7), (13, 7, 3)])
def test_a_constant_stays_constant(dtype, shape):
    value = dtype(200 if dtype == np.uint8 else 0.3)
    for height, width in ((40, 50), (3, 2), (13, 7)):
        scaled = resize(np.full(shape, value), height, width)
        assert scaled.shape == (height, width, *shape[2:])
        assert scaled.dtype == dtype
        np.testing.assert_allclose(scaled, value, atol=1e-6)


@pytest.mark.parametrize("size", [32, 128, 50])
def test_a_ramp_stays_a_ramp(size):
    def ramp(n):
        return np.tile(((np.arange(n) + 0.5) / n).astype(np.float32), (4, 1))

    scaled = resize(ramp(64), 4, size)
    inside = slice(size // 8, -size // 8)  # at the border the filter is cut off
    np.testing.assert_allclose(scaled[:, inside], ramp(size)[:, inside], atol=2e-3)


def test_reducing_is_antialiased():
    board = (np.indices((64, 64)).sum(0) % 2).astype(np.float32)
    np.testing.assert_allclose(resize(board, 9, 9)[1:-1, 1:-1], 0.5, atol=0.02)


def test_bytes_and_floats_agree_and_stay_in_range():
    pixels = noise(40, 60) // 2 + 64  # where the filter does not overshoot: bytes clip it twice
    for size in ((10, 15), (90, 100)):
        floats = to_uint8(resize((pixels / 255).astype(np.float32), *size))
        np.testing.assert_allclose(floats.astype(int), resize(pixels, *size), atol=1)
    overshot = resize((noise(40, 60) > 128).astype(np.float32), 90, 100)
    assert (overshot.min(), overshot.max()) == (0, 1)


def test_the_same_size_is_the_same_picture_and_the_input_is_left_alone():
    pixels = (noise() / 255).astype(np.float32)
    before = pixels.copy()
    np.testing.assert_array_equal(resize(pixels, *pixels.shape[:2]), before)
    resize(pixels, 5, 5)[:] = 0  # writable, and its own
    np.testing.assert_array_equal(pixels, before)


def test_a_box_is_cut_out_first():
    pixels = noise(20, 30)
    np.testing.assert_array_equal(resize(pixels, 8, 6, (4, 3, 10, 11)), pixels[3:11, 4:10])
    ramp = np.tile(np.arange(30, dtype=np.float32) / 30, (20, 1))
    shifted = resize(ramp, 20, 10, (9.5, 0, 19.5, 20))  # half a pixel: between neighbours
    np.testing.assert_allclose(shifted[0], (np.arange(10) + 9.5) / 30, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "size_px", "expected"),
    [((100, 150), 50, (50, 75)), ((301, 200), 99, (149, 99)), ((1, 7), 3, (3, 21))],
)
def test_the_short_side_is_scaled_and_the_ratio_kept(shape, size_px, expected):
    assert resize_short_side(np.zeros((*shape, 3), np.uint8), size_px).shape == (*expected, 3)


# --- writing


def test_rounding_to_bytes():
    values = np.array([-0.1, 0, 0.49 / 255, 0.5 / 255, 1.5 / 255, 2.5 / 255, 254.6 / 255, 1, 1.2])
    np.testing.assert_array_equal(to_uint8(values), [0, 0, 0, 1, 2, 3, 255, 255, 255])
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8((levels / 255).astype(np.float32)), levels)


def test_written_png_is_read_back_exactly_with_alpha(tmp_path):
    pixels = noise(channels=4)
    picture = Picture(
        *((part / 255).astype(np.float32) for part in (pixels[..., :3], pixels[..., 3]))
    )
    write_picture(tmp_path / "new/folder/a.PNG", picture)
    again = read_picture(tmp_path / "new/folder/a.PNG")
    np.testing.assert_array_equal(to_uint8(again.rgb), pixels[..., :3])
    np.testing.assert_array_equal(to_uint8(again.alpha), pixels[..., 3])
    assert os.listdir(tmp_path / "new/folder") == ["a.PNG"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_what_made_a_picture_is_kept_in_it(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_picture(path, noise(), made_by="brush 3, ink 7")
    assert read_made_by(path) == "brush 3, ink 7"
    write_picture(path, noise(), overwrite=True)
    assert read_made_by(path) == ""
    path.write_bytes(b"no picture")
    assert read_made_by(path) == ""
    assert count_pixels(path) == 0
    write_picture(path, noise(5, 7), overwrite=True)
    assert count_pixels(path) == 35
    assert count_pixels(path, None, 3) == 35
    assert count_pixels(path, 14, 21) == 35 * 9


def test_webp_keeps_alpha_and_jpeg_is_put_on_white(tmp_path):
    rgb = np.zeros((16, 16, 3), np.float32)
    picture = Picture(rgb, np.full((16, 16), 0.25, np.float32))
    write_picture(tmp_path / "a.webp", picture)
    np.testing.assert_allclose(read_picture(tmp_path / "a.webp").alpha, 0.25, atol=0.01)
    write_picture(tmp_path / "a.jpg", picture)
    np.testing.assert_allclose(read_picture(tmp_path / "a.jpg").rgb, 0.75, atol=0.01)


def test_jpeg_keeps_thin_coloured_strokes(tmp_path):
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = RED
    stripes[:, 1::2] = BLUE
    write_picture(tmp_path / "a.jpg", stripes)
    assert np.abs(in_255(tmp_path / "a.jpg") - stripes).mean() < 8


def test_an_existing_file_is_kept_unless_asked(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("precious")
    with pytest.raises(InputError, match="--overwrite"):
        write_picture(path, noise())
    assert path.read_text() == "precious"
    write_picture(path, noise(), overwrite=True)
    np.testing.assert_array_equal(in_255(path), noise())


def test_paths_that_cannot_be_written_are_told_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for name, reason in {
        "a.gif": ".png, .jpg",
        "a": ".png, .jpg",
        "folder.png": "folder",
        "file/a.png": "file is not a folder",
        "file/b/a.png": "file is not a folder",
    }.items():
        for refuse in (check_writable, lambda path: write_picture(path, noise())):
            with pytest.raises(InputError, match=reason):
                refuse(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.png"
    write_picture(path, noise())
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as good as a full disk
    try:
        with pytest.raises(InputError, match=r"a\.png cannot be written: File too large"):
            write_picture(path, noise(100, 100), overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_picture_too_large_for_its_format_is_told(tmp_path):
    with pytest.raises(InputError, match="16383"):
        write_picture(tmp_path / "a.webp", np.zeros((1, 16384, 3), np.uint8))
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match=r"a\.JPG would have a side of 65501 px.* PNG \(-o x.png"):
        check_long_side("a.JPG", 65501)
    for name, side_px in (("a.jpg", 65500), ("a.webp", 16383), ("a.png", 10**6)):
        check_long_side(name, side_px)


def test_the_longest_of_names_can_be_written(tmp_path):
    write_picture(tmp_path / f"{'x' * 251}.png", noise())
    assert os.listdir(tmp_path) == [f"{'x' * 251}.png"]


def test_a_name_that_the_system_refuses_is_told(tmp_path):
    for refuse in (check_writable, find_pictures):
        with pytest.raises(InputError, match=r"xxx\.png cannot be reached: File name too long"):
            refuse(tmp_path / f"{'x' * 300}.png")


# --- finding


def test_pictures_are_found_sorted_without_hidden_ones_and_without_loops(tmp_path):
    for name in (
        "b/2.JPG",
        "b/1.png",
        "a/deep/3.TiFf",
        ".hidden/4.png",
        "a/.5.png",
        "6.txt",
        "7.webp",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "8.gif").touch()
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "same").symlink_to(elsewhere)
    found = [str(path.relative_to(tmp_path)) for path in find_pictures(tmp_path)]
    assert found == ["7.webp", "a/deep/3.TiFf", "b/1.png", "b/2.JPG", "link/8.gif"]
    with pytest.raises(InputError, match="nowhere"):
        find_pictures(tmp_path / "nowhere")


def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    def scandir(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=f"{tmp_path} cannot be reached: Permission denied"):
        find_pictures(tmp_path)


def test_images_can_be_read_without_torch():
    code = "import allaprima.images, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_misnamed_file_is_known_by_its_content(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "misnamed.jpg", "PNG")
    np.testing.assert_array_equal(in_255(tmp_path / "misnamed.jpg"), noise())
