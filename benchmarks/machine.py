"""The machine that measures: what its figures depend on."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_info

LIBRARIES = (
    "numpy", "scipy", "scikit-learn", "torch", "torchvision", "zarr", "dask", "cleverhans", "torchattacks",
    "foolbox", "adversarial-robustness-toolbox", "kmedoids",
)  # fmt: skip


def description() -> dict[str, Any]:
    """What the figures of this process depend on, in words."""
    return {
        "CPU": f"{_cpu()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "OS": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "threads": f"{torch.get_num_threads()} of torch, {_blas_threads()} of BLAS",
        "libraries": ", ".join(f"{name} {found}" for name in LIBRARIES if (found := _version(name))),
    }


def device() -> str:
    """`cpu`, or the GPU's name in letters that suit a file's name."""
    if not torch.cuda.is_available():
        return "cpu"
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.machine()


def _blas_threads() -> int:
    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
