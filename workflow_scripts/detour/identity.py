"""Identity: which artefact a file is, and what it was asked to be; of the standard library alone."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Folders of a run that have artefacts.
STAGES = (
    "activations", "adaptive", "detectors", "distances", "gaussians", "images", "medoids", "neighbours",
    "preprocessed", "squeezed",
)  # fmt: skip


def identity(path: str | Path) -> str:
    """Which artefact a file is: its path under `results/{run}/`; elsewhere its folder and name.

    The run has no part in it, so that runs can share what is equal.
    """
    parts = Path(path).absolute().parts
    below = [i for i, part in enumerate(parts[:-1]) if part == "results" and not _named_so(parts, i)]
    return "/".join(parts[below[-1] + 2 :] if below else parts[-2:])


def _named_so(parts: Sequence[str], i: int) -> bool:
    """Whether a run or a detector is called `results`, so that this part of a path is no folder of runs."""
    of_detector = i > 2 and parts[i - 3] == "results" and parts[i - 1] in ("detectors", "adaptive")
    is_run = i > 0 and parts[i - 1] == "results" and (i + 2 == len(parts) or parts[i + 1] in STAGES)
    return of_detector or is_run


def asked(settings: dict[str, Any]) -> str:
    """Digest of what a job is told, as its artefacts have it in their attributes, or of what it reads."""
    told = {key: value for key, value in settings.items() if key != "threads"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
