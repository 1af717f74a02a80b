"""Peak memory of a call, in a process of its own."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent


class Peak(NamedTuple):
    """MB; NaN where the system does not tell (only Linux does)."""

    over_start: float  # over the bare interpreter
    over_ready: float  # over what it held when everything was built, before the first call


def peak_memory(target: str, *arguments: Any, calls: int = 2) -> Peak:
    """Build and call in a fresh process, and see how far its memory rises.

    Args:
        target: "benchmarks.NAME:function"; the function builds and returns what is called
            without arguments.
        arguments: of the function; JSON values.
        calls: how often; the second call of a step has the optimiser's state beside it.
    """
    command = [sys.executable, str(Path(__file__)), target, json.dumps(arguments), str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{target}{arguments} failed in its own process:\n{done.stderr}")
    return Peak(*json.loads(done.stdout.splitlines()[-1]))


def measure(target: str, arguments: list[Any], calls: int) -> Peak:
    """What :func:`peak_memory` does, in this process."""
    start = memory_kb("VmRSS")
    module, _, function = target.partition(":")
    call = getattr(importlib.import_module(module), function)(*arguments)
    forget_peak()
    ready = memory_kb("VmRSS")
    for _ in range(calls):
        call()
    peak = memory_kb("VmHWM")
    return Peak((peak - start) / 1024, (peak - ready) / 1024)


def forget_peak() -> None:
    """Begin the peak anew, for building may have needed more than running does."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory_kb(name: str) -> float:
    """ "VmRSS" (now) or "VmHWM" (the peak) of this process."""
    status = Path("/proc/self/status")
    if not status.exists():
        return math.nan
    lines = status.read_text(encoding="utf-8").splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith(name)), math.nan)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    target, arguments, calls = sys.argv[1:]
    print(json.dumps(measure(target, json.loads(arguments), int(calls))))
