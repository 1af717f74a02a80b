"""A task is a pair: what the generator is given, and what its output is compared with."""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from allaprima.errors import InputError
from allaprima.grain import LEVELS
from allaprima.luminance import luminance
from allaprima.torchvision_ops import import_torchvision

MAX_PSNR_DB = 100.0  # of a perfect copy, so that one flat photo does not make a mean infinite


class Task(Protocol):
    """What training asks of a task; tensors are RGB (B, 3, H, W) in [0,1].

    Attributes:
        usage: what stylize.py is to be called with.
        grain: that flat parts of photos are to be given when they are painted, as a deviation in
            levels of 255; a generator's file says it (:func:`allaprima.grain.add_grain`).
    """

    usage: str
    grain: float

    def input(self, photos: Tensor) -> Tensor:
        """What the generator is given instead of the photos."""
        ...

    def metrics(self, output: Tensor, photos: Tensor, given: Tensor) -> dict[str, Tensor]:
        """Figures told beside the losses in validation, each a mean over the batch."""
        ...

    def panels(self, output: Tensor, photos: Tensor, given: Tensor) -> list[Tensor]:
        """Pictures of the photos' size, to be seen side by side."""
        ...


class Stylization:
    """Photo in, painting out. Source: Johnson 2016, section 4.1."""

    usage = "PHOTO.jpg"
    grain = LEVELS

    def input(self, photos: Tensor) -> Tensor:
        return photos

    def metrics(self, output: Tensor, photos: Tensor, given: Tensor) -> dict[str, Tensor]:
        return {}

    def panels(self, output: Tensor, photos: Tensor, given: Tensor) -> list[Tensor]:
        return [photos, output]


class Texture(Stylization):
    """A canvas in, of which the size counts alone; a texture out. Source: Ulyanov 2016a."""

    usage = "--texture 1024x768 --seed 7"

    def panels(self, output: Tensor, photos: Tensor, given: Tensor) -> list[Tensor]:
        return [output]


class SuperResolution:
    """Small photo in, the photo out; PSNR and SSIM beside bicubic enlargement's.

    Source: Johnson 2016, section 4.2: the small photo is the photo blurred by a Gaussian, then
    reduced by bicubic interpolation; PSNR and SSIM are of the Y channel of YCbCr.

    Differs:
        - The paper does not say whether its bicubic filter widens with the factor; ours does
          (antialiased, as wherever this project resizes), in both directions with a = −½.
        - Nor which YCbCr it means: ours has Y in [16, 235]/255 (ITU-R BT.601), as in most of the
          field's tables; on full-range luminance PSNR would be 1.3 dB lower.
        - The output's histogram is not matched to that of the small photo.

    Args:
        factor: by which each side grows.
        blur_sigma: of the Gaussian, in pixels of the photo; the paper's. 0 is no blur.

    Raises:
        InputError: a number out of its range.
    """

    usage = "PHOTO.jpg"
    grain = 0.0

    def __init__(self, factor: int, blur_sigma: float = 1.0):
        if type(factor) is not int or factor < 2:
            raise InputError(f"task.factor={factor} must be a whole number of at least 2")
        if not 0 <= blur_sigma < math.inf:
            raise InputError(f"task.blur_sigma={blur_sigma} must be a number of at least 0")
        self.factor, self.blur_sigma = factor, blur_sigma

    def input(self, photos: Tensor) -> Tensor:
        height, width = photos.shape[-2:]
        if height % self.factor or width % self.factor:
            raise InputError(
                f"photos of {width}×{height} px cannot be reduced by {self.factor}: each side "
                f"(data.crop_px) must be a multiple of {self.factor}"
            )
        small = (height // self.factor, width // self.factor)
        return _resize(gaussian_blur(photos.float(), self.blur_sigma), small)

    def metrics(self, output: Tensor, photos: Tensor, given: Tensor) -> dict[str, Tensor]:
        target, bicubic = luma(photos), luma(self.enlarge(given))
        ours, baseline = psnr_and_ssim(luma(output), target), psnr_and_ssim(bicubic, target)
        return ours | {f"{name}_bicubic": value for name, value in baseline.items()}

    def panels(self, output: Tensor, photos: Tensor, given: Tensor) -> list[Tensor]:
        return [self.enlarge(given), output, photos]

    def enlarge(self, given: Tensor) -> Tensor:
        """The small photo at full size by bicubic interpolation."""
        height, width = given.shape[-2:]
        return _resize(given, (height * self.factor, width * self.factor))


class Colorization:
    """Grey photo in, the photo out; PSNR and SSIM in RGB beside the grey photo's.

    Source: Johnson 2016 names it as a task for perceptual losses (section 5), without a recipe.
    """

    usage = "PHOTO.jpg"
    grain = 0.0

    def input(self, photos: Tensor) -> Tensor:
        return luminance(photos).expand(-1, 3, -1, -1)

    def metrics(self, output: Tensor, photos: Tensor, given: Tensor) -> dict[str, Tensor]:
        ours, grey = psnr_and_ssim(output, photos), psnr_and_ssim(given, photos)
        return ours | {f"{name}_grey": value for name, value in grey.items()}

    def panels(self, output: Tensor, photos: Tensor, given: Tensor) -> list[Tensor]:
        return [given, output, photos]


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian, cut at 4 σ; borders repeat the outermost pixel."""
    if not sigma:
        return images
    radius = math.ceil(4 * sigma)
    places = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(images).expand(images.shape[1], 1, -1)
    x = F.pad(images, (radius,) * 4, mode="replicate")
    with torch.autocast(images.device.type, enabled=False):
        x = F.conv2d(x, kernel[..., None], groups=images.shape[1])
        return F.conv2d(x, kernel[..., None, :], groups=images.shape[1])


def luma(images: Tensor) -> Tensor:
    """Y of YCbCr, in [16, 235]/255: ITU-R BT.601."""
    return (16 + 219 * luminance(images)) / 255


def psnr_and_ssim(images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Peak signal-to-noise ratio in dB (at most 100) and structural similarity, of values in [0,1].

    Source: Wang et al. 2004 for SSIM, with its 11×11 Gaussian window of σ = 1.5.
    """
    import_torchvision()  # torchmetrics imports it
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    images, targets = images.float().contiguous(), targets.float().contiguous()
    with torch.autocast(images.device.type, enabled=False):
        psnr = peak_signal_noise_ratio(images, targets, 1.0, reduction="none", dim=(1, 2, 3))
        ssim = structural_similarity_index_measure(images, targets, data_range=1.0)
    assert isinstance(ssim, Tensor)
    return {"psnr": psnr.clamp_max(MAX_PSNR_DB).mean(), "ssim": ssim}


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images.float(), size, mode="bicubic", antialias=True).clamp(0, 1)
