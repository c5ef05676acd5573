"""Timing: candidates side by side, in rounds, as ratios to one of them."""

import multiprocessing
import resource
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """What rounds of calls of one candidate took.

    Attributes
    ----------
    seconds
        Median over the rounds.
    ratio, low, high
        Median, least and greatest over the rounds of the ratio to the baseline in the same round: what else
        the machine did in that round is in both.
    first
        Seconds of the first call, which is in no median: compilation and cold caches are in it.
    output
        What the first call returned.
    """

    seconds: float
    ratio: float
    low: float
    high: float
    first: float = 0
    output: Any = None


def side_by_side(
    candidates: Mapping[Name, Callable[[], Any]], baseline: Name, rounds: int
) -> dict[Name, Timing]:
    """Time candidates in turns, A B C A B C ..., after one call of each.

    Parameters
    ----------
    baseline
        The candidate that ratios are taken to.
    """
    first = {name: _timed(call) for name, call in candidates.items()}
    spent: dict[Name, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            spent[name].append(_timed(call)[0])
    return {name: compared(spent[name], spent[baseline], *first[name]) for name in candidates}


def compared(spent: Sequence[float], base: Sequence[float], first: float = 0, output: Any = None) -> Timing:
    """The timing of a candidate from its seconds and those of the baseline, round by round."""
    ratios = np.divide(spent, base)
    return Timing(
        float(np.median(spent)), float(np.median(ratios)), float(ratios.min()), float(ratios.max()),
        first, output,
    )  # fmt: skip


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    _synchronise()
    begin = time.perf_counter()
    output = call()
    _synchronise()
    return time.perf_counter() - begin, output


def _synchronise() -> None:
    # CUDA runs behind the calls that ask for it.
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def row(name: str, timing: Timing, work: float = 0, unit: str = "") -> dict[str, str | float]:
    """A row of a table.

    Parameters
    ----------
    work, unit
        What one call does, to say it per second: 64, "images".
    """
    rate: dict[str, str | float] = {f"{unit}/s": work / timing.seconds} if work else {}
    return {
        "candidate": name,
        "seconds": timing.seconds,
        **rate,
        "ratio": timing.ratio,
        "spread": f"{timing.low:.2f} to {timing.high:.2f}",
    }


def alone(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a module's function returns from a process of its own, whose peak memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(call, *arguments).result()


def peak_mb() -> float:
    """Peak of the resident memory of this process, in MB of 10^6 bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not of getrusage, which on Linux starts a process at the peak of the one that started it.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
