"""States: tensors and plain values, each file one of torch, checked like a store."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from pickle import PicklingError, UnpicklingError
from typing import Any

import torch

from detour import store
from detour.errors import InputError
from detour.store import Made

# What can be loaded without running code.
PLAIN = (torch.Tensor, torch.nn.Parameter, bool, int, float, str, bytes, type(None))


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

    Raises
    ------
    InputError
        If something of the state could not be loaded without running code.
    """
    about = store.attributes_of(made, sources, **attributes)
    try:
        # Into an open file: by a path, torch names the zip's folder for it, and every writer has another.
        with Path(part).open("wb") as file:
            torch.save(state, file)
        # What cannot be read is not to be written: whoever reads it would take it for damaged.
        torch.load(part, map_location="cpu", weights_only=True)
    except (AttributeError, TypeError, PicklingError, UnpicklingError) as error:
        odd = next((kind for value in _values(state) if (kind := type(value)) not in PLAIN), type(error))
        raise InputError(
            f"{path}: its state has a {odd.__module__}.{odd.__name__}, expected tensors, numbers, text, lists"
            " and mappings; of an array use `.tolist()` or `torch.from_numpy`"
        ) from error
    store.seal(part, store.identity(path), {store.ATTRIBUTES: json.dumps(about).encode()})


def _values(state: Any) -> Iterator[Any]:
    """All that a state has that is no list, tuple or mapping."""
    if isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _values(value)
    else:
        yield state


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
