"""Where the files that travel with the package are: configs, checkpoints, assets."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def resource_dir(name: str) -> Path:
    """Directory ``configs``, ``checkpoints`` or ``assets``, in a wheel or in a source tree.

    ``configs/`` and ``checkpoints/`` stand at the top of the source tree and inside the
    package of an installed wheel.
    """
    for directory in (PACKAGE / name, PACKAGE.parent.parent / name):
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"allaprima is installed without its {name}/ directory; reinstall it")
