"""Photo, or none → generator → picture.

torch is imported by the functions that need it, so that a mistake in a command is told at once.
"""

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from allaprima.controls import Controls, Paint
from allaprima.engines import Progress, open_painters
from allaprima.errors import InputError
from allaprima.grain import MAX_LEVELS, add_grain
from allaprima.images import Picture, to_float, to_uint8
from allaprima.torch_painter import TEXTURES_ONLY, choose_device, paint_texture, stylize
from allaprima.weights import find_generator

__all__ = ["Stylizer", "choose_device", "paint_texture", "stylize"]

PLAIN = Controls()


class Stylizer:
    """A trained generator that takes and gives pictures; threads may share it.

    On a CPU, Johnson's network is painted by C that is compiled when first used, without torch;
    by torch where there is no compiler, for other networks, and on a GPU.

    Args:
        checkpoint: a shipped style's name, or a generator's file (``.safetensors``, ``.ckpt`` or
            ``.onnx``); or several, whose weights are averaged
            (:func:`allaprima.engines.average_weights`).
        device: "auto" (the first of the others that there is), "cuda", "mps" or "cpu".
        seed: of the noise, for generators that have any; None is 0. The same seed and size give
            the same noise on every device.
        noise: its strength; None is 1, as in training, and 0 leaves none.
        shares: of several checkpoints; None is equal ones.
        precision: "32", or "bf16": products of bfloat16, twice as fast where the processor has
            them, and a few 1/255 away.
        grain: that flat parts of photos are given, so that they are painted in strokes too: its
            deviation in levels of 255 (:func:`allaprima.grain.add_grain`). None is what the
            generator's file says, and none where it says nothing.
        tile: of large photos: "auto", in parts where the whole would need too much memory, with
            the same result; "off"; "exact", always in parts; "fast", sooner and nearly the same.
            Compiled C has bands of rows (:class:`allaprima.tiling.TiledPainter`), torch has
            tiles (:func:`allaprima.torch_tiling.paint_in_tiles`).
        progress: told of the share of a photo that is done, where it is painted in parts.
        num_parallel: pictures painted at once by threads that share this on a CPU; each has its
            part of the cores. One after the other is quicker for one picture, together for many.

    Attributes:
        metadata: what the (first) file says of itself.
        grain: as it is used.
        num_parallel: pictures that are painted at once indeed: 1 but by C.

    Raises:
        InputError: no such generator or a faulty file, different networks to average, no such
            device, noise for a generator without any, or an option out of its range.
    """

    def __init__(
        self,
        checkpoint: str | Path | Sequence[str | Path],
        device: str = "auto",
        seed: int | None = None,
        noise: float | None = None,
        *,
        shares: Sequence[float] | None = None,
        precision: str = "32",
        grain: float | None = None,
        tile: str = "auto",
        progress: Progress | None = None,
        num_parallel: int = 1,
    ):
        names = [checkpoint] if isinstance(checkpoint, str | Path) else checkpoint
        self.metadata: dict[str, Any]
        self.metadata, painters = open_painters(
            [find_generator(name) for name in names],
            shares,
            device=device,
            precision=precision,
            seed=seed,
            noise=noise,
            tile=tile,
            progress=progress,
            num_parallel=num_parallel,
        )
        self.grain = self.metadata.get("grain", 0.0) if grain is None else grain
        if not isinstance(self.grain, int | float) or not 0 <= self.grain <= MAX_LEVELS:
            source = "--grain" if grain is not None else f"{names[0]} says: grain"
            raise InputError(
                f"{source} {self.grain!r:.40}; it must be from 0 to {MAX_LEVELS} levels of 255. "
                "Give --grain 0 for none"
            )
        self._takes_photos: bool = getattr(painters[0], "takes_photos", True)
        self.num_parallel = len(painters)
        self._idle: queue.LifoQueue[Paint] = queue.LifoQueue()
        for painter in painters:
            self._idle.put(painter)

    @overload
    def __call__(self, image: Image.Image, controls: Controls = PLAIN) -> Image.Image: ...
    @overload
    def __call__(
        self, image: Sequence[Image.Image], controls: Controls = PLAIN
    ) -> list[Image.Image]: ...
    def __call__(
        self, image: Image.Image | Sequence[Image.Image], controls: Controls = PLAIN
    ) -> Image.Image | list[Image.Image]:
        """Paint an 8-bit image of any mode, or several: RGB, or RGBA with the same alpha.

        The size stays, but by the controls' ``output_size_px``, and super-resolution's grows.

        Raises:
            InputError: more than 8 bits a channel, or as :meth:`paint`.
        """
        if not isinstance(image, Image.Image):
            return [self(each, controls) for each in image]
        if image.mode.startswith(("I", "F")):
            raise InputError(
                f"image of mode {image.mode}; 8 bits a channel are needed: convert it, "
                "or paint what allaprima.images.read_picture gives"
            )
        rgba = image.convert("RGBA") if image.has_transparency_data else None
        rgb = np.asarray((rgba or image).convert("RGB"))
        alpha = None if rgba is None else np.asarray(rgba.getchannel("A"))
        painted = self.paint(Picture(rgb, alpha), controls)
        channels = [painted.rgb] if painted.alpha is None else [painted.rgb, painted.alpha]
        return Image.fromarray(np.dstack([to_uint8(channel) for channel in channels]))

    def check_takes_photos(self) -> None:
        """Raise InputError if it paints textures from noise."""
        if not self._takes_photos:
            raise InputError(TEXTURES_ONLY)

    def paint(self, picture: Picture, controls: Controls = PLAIN) -> Picture:
        """Paint what :func:`allaprima.images.read_picture` gives; alpha stays.

        Raises:
            InputError: as :meth:`one_pass` and :meth:`Controls.paint`.
        """
        return controls.paint(picture, self.with_grain, takes_bytes=True)

    def with_grain(self, rgb: np.ndarray) -> np.ndarray:
        """:meth:`one_pass`, flat parts of the photo being given a grain first."""
        return self.one_pass(add_grain(rgb, self.grain))

    def one_pass(self, rgb: np.ndarray) -> np.ndarray:
        """The generator alone: (H, W, 3) float32 in [0,1] or uint8 to the same, or to float32.

        A photo with a side shorter than the generator takes is reflected to that length, and its
        painting cropped.

        Raises:
            InputError: too large for the memory, or a generator of textures.
        """
        height, width = rgb.shape[:2]
        with self._painter() as painter:
            least = getattr(painter, "min_size_px", 1)
            if min(height, width) < least:
                more = [(0, max(0, least - side)) for side in (height, width)]
                rgb = np.pad(rgb, [*more, (0, 0)], "reflect")
            painted = painter(rgb if getattr(painter, "takes_bytes", False) else to_float(rgb))
        factor = len(painted) // len(rgb)  # of super-resolution
        return painted[: factor * height, : factor * width]

    def texture(self, width: int, height: int) -> Picture:
        """Paint a texture of that size in pixels.

        Raises:
            InputError: as :func:`allaprima.torch_painter.paint_texture`.
        """
        with self._painter() as painter:
            texture = getattr(painter, "texture", None)
            if texture is None:
                raise InputError("this generator paints photos, no textures: name photos to paint")
            return Picture(texture(width, height), None)

    @contextmanager
    def _painter(self) -> Iterator[Paint]:
        """One that nobody else has, as soon as there is one."""
        painter = self._idle.get()
        try:
            yield painter
        finally:
            self._idle.put(painter)
