"""The package's C sources, compiled on the user's machine when first needed."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)

SOURCES = Path(__file__).parent
MACHINE_FLAGS = {
    "x86_64": "-march=native",
    "AMD64": "-march=native",
    "aarch64": "-mcpu=native",
    "arm64": "-mcpu=native",
}


@functools.cache
def load_library(name: str) -> ctypes.CDLL | None:
    """``NAME.c`` beside this file, compiled for this machine, or None with a line in the log.

    Takes seconds once for a machine and a compiler; libraries are kept under
    ``$XDG_CACHE_HOME/allaprima`` (``~/.cache/allaprima``). Without a compiler, or with
    ALLAPRIMA_NATIVE=0 in the environment, the answer is None, and callers have another way.
    """
    if os.environ.get("ALLAPRIMA_NATIVE") == "0":
        return None
    try:
        return ctypes.CDLL(str(compile_library(name)))
    except (OSError, subprocess.SubprocessError) as error:
        reason = " ".join((getattr(error, "stderr", None) or str(error)).split())
        log.info("%s.c is not used: %.300s", name, reason)
        return None


def compile_library(name: str) -> Path:
    """The shared library in the user's cache, compiled now unless it is there.

    Raises:
        OSError: no compiler or no such machine; source or cache not accessible.
        SubprocessError: the compiler failed.
    """
    compiler = next(filter(None, map(shutil.which, ("gcc", "cc", "clang"))), None)
    machine = MACHINE_FLAGS.get(platform.machine())
    if compiler is None or machine is None:
        raise OSError(f"no C compiler found for a {platform.machine()} CPU")
    # No -ffast-math: linked into a library, it changes how the whole process rounds.
    command = (compiler, "-O3", machine, "-ffp-contract=fast", "-fopenmp")
    sources = [SOURCES / f"{name}.c", *sorted(SOURCES.glob("*.h"))]
    contents = b"".join(file.read_bytes() for file in sources)
    key = hashlib.sha256(contents + f"{_macros(command)}{command[1:]}".encode()).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "allaprima")
    library = folder / f"{name}-{key[:16]}.so"
    if not library.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            output = Path(fresh, library.name)
            _call(*command, "-shared", "-fPIC", str(sources[0]), "-o", str(output), "-lm")
            os.replace(output, library)  # whole or not at all, whoever else compiles now
    return library


@functools.cache
def _macros(command: tuple[str, ...]) -> str:
    """The predefined macros tell the CPU's instruction sets and the compiler's version."""
    return _call(*command, "-dM", "-E", "-x", "c", os.devnull)


def _call(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout
