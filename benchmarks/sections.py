"""Which sections there are, and one of them run in a process of its own."""

import importlib
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# In the order of the page; benchmarks/NAME.py has NAME_figures(quick) -> dict.
ORDER = (
    "training",
    "ablation",
    "equal_steps",
    "time_to_loss",
    "loading",
    "painting",
    "start_up",
    "folder",
    "tiling",
    "video",
    "steadiness",
    "gatys",
)
ALIASES = {"stylising": "painting", "stylizing": "painting", "start-up": "start_up"}
QUICK = ("training", "loading", "painting", "start_up", "gatys")


def section_names(only: list[str], quick: bool) -> list[str]:
    """What is to run, in the order of the page.

    Raises:
        ValueError: an unknown name.
    """
    known = [name for name in ORDER if (ROOT / "benchmarks" / f"{name}.py").exists()]
    wanted = [ALIASES.get(name, name) for name in only]
    for name in wanted:
        if name not in known:
            raise ValueError(f"--only {name}: no such section; choose of {', '.join(known)}")
    if wanted:
        return [name for name in known if name in wanted]
    return [name for name in known if name in QUICK or not quick]


def run_apart(name: str, quick: bool) -> dict[str, Any]:
    """A section's figures from a fresh process, so that none leaves the next threads or memory.

    Returns:
        ``{"tables": [Section as dict, …], "machine", "rates", "quick",
        "duration_s", "date"}``.

    Raises:
        RuntimeError: it failed; the message is the end of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "figures.json")
        command = [sys.executable, __file__, name, str(output), *(["quick"] if quick else [])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
        return json.loads(output.read_text(encoding="utf-8"))


def run_here(name: str, quick: bool) -> dict[str, Any]:
    """What :func:`run_apart` returns, measured in this process."""
    from benchmarks.machine import describe_machine, memory_rate, product_rates

    start = time.perf_counter()
    module = importlib.import_module(f"benchmarks.{name}")
    rates = product_rates(quick) | {"memory_gb_per_s": memory_rate(quick)}
    found = getattr(module, f"{name}_figures")(quick)
    return {
        "tables": found.get("sections") or [found],
        "machine": describe_machine(),
        "rates": rates,
        "quick": quick,
        "duration_s": round(time.perf_counter() - start, 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    name, output, *quick = sys.argv[1:]
    Path(output).write_text(json.dumps(run_here(name, bool(quick))), encoding="utf-8")
