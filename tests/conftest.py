"""What several test modules share: small stores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detour import store
from detour.store import Made


@pytest.fixture
def made() -> Made:
    return Made({"seed": 0}, "0" * 16)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def write_store(tmp_path: Path, made: Made) -> Callable[..., Path]:
    """Write arrays of equally many rows as a store: `write_store(name, {array: rows}, **attributes)`."""

    def write(name: str, arrays: dict[str, np.ndarray], **attributes: Any) -> Path:
        path = tmp_path / f"{name}.zarr.zip"
        with store.create(path, made, **attributes) as group:
            store.write(group, len(next(iter(arrays.values()))), [arrays])
        return path

    return write
