"""What several test modules share: small stores and networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detour import classifiers, store
from detour.store import Made

# Beside other processes, threads that wait for each other cost more than they give.
torch.set_num_threads(1)


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


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stored classifier of a ResNet-18 of ten classes with seeded random weights."""
    folder = tmp_path_factory.mktemp("resnet")
    torch.save(classifiers.untrained("resnet18", 10, seed=0).state_dict(), folder / "state.pt")
    classifiers.prepare(
        folder / "classifier.pt",
        model="resnet18",
        weights=str(folder / "state.pt"),
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        training=None,
        dataset=classifiers.Digits(test=100, size=32, seed=0),
        device="cpu",
        seed=0,
        made=Made({}, ""),
    )
    return folder / "classifier.pt"
