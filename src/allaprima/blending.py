"""A painting blended into its photo, by shares that look even."""

import numpy as np

# Ottosson 2020: linear sRGB to the responses of the eye's cones.
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
FROM_CONES = np.linalg.inv(TO_CONES)
STRIP = 32  # rows at a time: what lies between photo and result stays in the cache


def blend(photo: np.ndarray, painted: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """The photo where ``share`` is 0, the painting where it is 1, between them in Oklab.

    Source: Ottosson 2020 (A perceptual color space for image processing). Oklab's last step is a
    matrix, which a blend passes through, so that blending the cube roots before it is the same.
    There half a share looks half as strong, and colours fade into each other without the grey of
    a blend of sRGB values, or the glare of one of linear light.

    Args:
        photo, painted: float32 (H, W, 3) in [0,1].
        share: a number or (H, W), in [0,1].
    """
    shares = np.broadcast_to(np.float32(share), photo.shape[:2])[..., None]
    blended = np.empty_like(painted)
    for top in range(0, len(photo), STRIP):
        rows = slice(top, top + STRIP)
        s, a, b = shares[rows], photo[rows], painted[rows]
        mixed = _decode(_encode(a) * (1 - s) + _encode(b) * s)
        blended[rows] = np.where(s <= 0, a, np.where(s >= 1, b, mixed))
    return blended


def _encode(rgb: np.ndarray) -> np.ndarray:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.power(linear @ TO_CONES.T, 1 / 3, dtype=np.float32)


def _decode(roots: np.ndarray) -> np.ndarray:
    linear = ((roots * roots * roots) @ FROM_CONES.T).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
