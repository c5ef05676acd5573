"""States: tensors and plain values, each file one of torch, checked like a store."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from detour import store
from detour.store import Made


def save(
    part: str | Path, path: str | Path, state: dict[str, Any], made: Made,
    sources: Iterable[str | Path] = (), **attributes: Any,
) -> None:  # fmt: skip
    """Write a state that will be at `path`.

    Parameters
    ----------
    part
        File to write to; see `detour.artefacts.written`.
    sources, attributes
        As of `detour.store.create`.
    """
    about = store.attributes_of(made, sources, **attributes)
    # Into an open file: by a path, torch names the zip's folder for it, and every writer has another.
    with Path(part).open("wb") as file:
        torch.save(state, file)
    store.seal(part, store.identity(path), {store.ATTRIBUTES: json.dumps(about).encode()})


def load(path: str | Path) -> dict[str, Any]:
    """The state at `path`, on the CPU.

    Raises
    ------
    ValueError
        If the file is damaged or another than its name says. Torch itself compares no CRC.
    """
    store.check(path, contents=True)
    with store.damaged(path):
        return torch.load(path, map_location="cpu", weights_only=True)
