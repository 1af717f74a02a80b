"""How far apart the taps of residual blocks lie."""

from typing import Any

from allaprima.errors import InputError


def check_dilations(
    dilations: Any, num_residual_blocks: int, padding: str, margin_px: int
) -> list[int]:
    """Those of the blocks, given as a list, if the smallest photo and its margin have room.

    Raises:
        InputError: others.
    """
    most = 3 + margin_px // 2 if padding == "layers" else 1
    fit = isinstance(dilations, list | tuple) and len(dilations) == num_residual_blocks
    if not fit or any(type(each) is not int or not 1 <= each <= most for each in dilations):
        raise InputError(
            f"generator.dilations={dilations!s:.80}; give each of the {num_residual_blocks} "
            f"residual blocks a whole number from 1 to {most} (for padding={padding} and "
            f"margin_px={margin_px}), or null"
        )
    return list(dilations)
