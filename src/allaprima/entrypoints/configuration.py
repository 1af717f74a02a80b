"""What the Hydra entry points share: resolvers for the YAML, and errors told without traceback."""

import errno
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from allaprima.errors import InputError
from allaprima.resources import resource_dir


def register_resolvers() -> None:
    """Make ``${asset:…}``, ``${stem:…}``, ``${best_precision:…}`` and the like known to YAML."""
    for name, resolver in {
        "asset": lambda path: str(resource_dir("assets") / path),
        "stem": lambda path: Path(path).stem if path and isinstance(path, str) else "none",
        "best_precision": best_precision,
        "steps_without_budget": lambda steps, budget: -1 if budget else steps,
    }.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def expand_home() -> None:
    """Let ``~/`` in the command's values be the home folder; shells leave it, Hydra refuses it."""
    home = str(Path.home())
    sys.argv[1:] = [re.sub(r"(?<=[=,[])~(?=/)", lambda _: home, each) for each in sys.argv[1:]]


def best_precision(accelerator: str) -> str:
    """Lightning's precision: bfloat16 where the hardware multiplies it, else float32."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else "32"


def run_or_explain(function: Callable[[DictConfig], None], cfg: DictConfig) -> None:
    """Call the function; what the user or the machine did wrong ends it with a plain sentence."""
    try:
        function(cfg)
    except Exception as error:
        for cause in _causes(error):
            if message := _explain(cause):
                print(f"error: {message}", file=sys.stderr)
                sys.exit(1)
        raise


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explain(error: BaseException) -> str | None:
    if isinstance(error, InputError | FloatingPointError):
        return str(error)
    if isinstance(error, MissingMandatoryValue):
        key = str(error).partition("\n")[0].removeprefix("Missing mandatory value: ")
        return f"{key} is not given: add {key}=VALUE to the command"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full ({error.filename or 'while writing the run'}); what was complete is "
            "kept. Free some space, then go on with resume=RUN_FOLDER"
        )
    return None
