"""Colours of a painting after a photo's: statistics matched, or luminance alone transferred."""

import numpy as np

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # Y of YIQ, as in Gatys 2016b
MIN_VARIANCE = 1e-8  # below it a direction of the colour space holds no colours to spread


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Y of YIQ: (H, W, 3) -> (H, W)."""
    return rgb @ LUMINANCE


def to_grey(rgb: np.ndarray) -> np.ndarray:
    """The luminance in all three channels: (H, W, 3) to the same."""
    return np.repeat(luminance(rgb)[..., None], 3, axis=-1)


def match_colors(style: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The style image with the mean and covariance of the photo's colours.

    Source: Gatys 2016b (Preserving Color), section 3: x ↦ A (x − μ_S) + μ_C with
    A = Σ_C^½ Σ_S^−½ and symmetric roots, the paper's "image analogies" form and its choice.
    Differs: colours beyond [0,1] are clipped. Where the painting's colours have no spread, as in
    a grey one, they get none.

    Args:
        style, photo: float (H, W, 3) in [0,1], of any sizes.
    """
    of_style, of_photo = (x.reshape(-1, 3).astype(np.float64) for x in (style, photo))
    a = _power(_covariance(of_photo), 0.5) @ _power(_covariance(of_style), -0.5)
    matched = (of_style - of_style.mean(0)) @ a.T + of_photo.mean(0)
    return matched.clip(0, 1).astype(np.float32).reshape(style.shape)


def match_luminance(style: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The style image in grey, its luminance with the photo's mean and standard deviation.

    Source: Gatys 2016b, section 4. Differs: clipped to [0,1].
    """
    of_style, of_photo = luminance(style), luminance(photo)
    scale = of_photo.std() / max(float(of_style.std()), MIN_VARIANCE**0.5)
    matched = scale * (of_style - of_style.mean()) + of_photo.mean()
    return np.repeat(matched.clip(0, 1)[..., None], 3, axis=-1)


def transfer_luminance(painted: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The luminance of the painted photo with the chroma of the photo, both (H, W, 3).

    Source: Gatys 2016b, section 4. Y alone changes where all three channels change alike.
    Differs: clipped to [0,1].
    """
    return (photo + (luminance(painted) - luminance(photo))[..., None]).clip(0, 1)


def _covariance(colors: np.ndarray) -> np.ndarray:
    centred = colors - colors.mean(0)
    return centred.T @ centred / len(colors)


def _power(covariance: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    spread = values > MIN_VARIANCE
    powers = np.where(spread, np.where(spread, values, 1) ** exponent, 0)
    return (vectors * powers) @ vectors.T


class StyleColors:
    """The painting's colours, as the optimisation finds them."""

    def of_style(self, style: np.ndarray, photo: np.ndarray) -> np.ndarray:
        """What is used for the style image."""
        return style

    def of_photo(self, photo: np.ndarray) -> np.ndarray:
        """What is used for the photo."""
        return photo

    def of_result(self, painted: np.ndarray, photo: np.ndarray) -> np.ndarray:
        """The final picture, from the optimised one and the photo."""
        return painted


class MatchedColors(StyleColors):
    """The photo's palette: the style image is given its mean and covariance beforehand."""

    def of_style(self, style: np.ndarray, photo: np.ndarray) -> np.ndarray:
        return match_colors(style, photo)


class PhotoColors(StyleColors):
    """The photo's own colours, pixel by pixel: luminance alone is painted."""

    def of_style(self, style: np.ndarray, photo: np.ndarray) -> np.ndarray:
        return match_luminance(style, photo)

    def of_photo(self, photo: np.ndarray) -> np.ndarray:
        return to_grey(photo)

    def of_result(self, painted: np.ndarray, photo: np.ndarray) -> np.ndarray:
        return transfer_luminance(painted, photo)
