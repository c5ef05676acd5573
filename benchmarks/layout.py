"""The Zarr layout: codecs, containers and sizes of chunks, for activations and for images.

Written chunk by chunk, as `detour.store.write` does; read whole, and in the blocks of rows that the stages
read: batches of 64 images, classes of 1,300 activations. Files are in the page cache, so that reading is
decoding and not the disk; the size says what a disk or a network has to carry. MB are of the raw arrays. The
last chunk is stored at full size, so that what is not compressed takes a little more than its bytes.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import zarr
from torch import Tensor
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import Store
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.storage import LocalStore, ZipStore

from benchmarks.photographs import photographs
from benchmarks.sections import Table
from benchmarks.timing import side_by_side
from detour import classifiers
from detour.activations import record
from detour.classifiers import Classifier, Question

GOAL = "The choice in `detour.store` is explained by the figures."

NOTES = [
    "blosc's lz4 with shuffled bytes is what `detour.store` uses: it writes about twice as fast as Zarr's default,"
    " zstd 0, and takes a tenth off the activations, where zstd takes an eighth. One process writes what a GPU"
    " computes, so writing is what counts. zstd makes images smaller by a fifth, of which there are few.",
    "No codec at all writes faster still, for a tenth more bytes on the disk and on a cluster's network.",
    "Single figures of reading vary by a factor of two between runs; what holds in all of them is that no choice of"
    " codec, chunk or container makes reading a limit. A folder is no faster to write, at a file a chunk; small"
    " reads suffer from chunks of 16 MB.",
]

CODECS: dict[str, BytesBytesCodec | None] = {
    "none": None,
    "zstd 0, Zarr's default": ZstdCodec(level=0),
    "zstd 3": ZstdCodec(level=3),
    "blosc lz4, shuffle": BloscCodec(cname="lz4", shuffle="shuffle"),
    "blosc zstd, bitshuffle": BloscCodec(cname="zstd", shuffle="bitshuffle", clevel=3),
}

CONTAINERS: dict[str, Callable[[Path, str], Store]] = {
    "zip": lambda path, mode: ZipStore(path, mode=mode),
    "folder": lambda path, mode: LocalStore(path, read_only=mode == "r"),
}


class Layout(NamedTuple):
    """A candidate; `chunk` in MB of 2^20 bytes."""

    codec: str
    container: str
    chunk: int


# Every codec as `detour.store` writes, then one thing changed at a time.
LAYOUTS = [
    *(Layout(codec, "zip", 4) for codec in CODECS),
    Layout("blosc lz4, shuffle", "folder", 4),
    *(Layout("blosc lz4, shuffle", "zip", chunk) for chunk in (1, 16)),
]

BATCH = 64
CLASS = 1_300
ROUNDS = 1


def run(quick: bool) -> list[Table]:
    natural = squares(quick)
    signs = np.random.default_rng(0).choice(np.array([-16, 16], np.int16), natural.shape)
    attacked = np.clip(natural + signs, 0, 255).astype(np.uint8)
    data = {
        "Activations": (activations(natural, 40 if quick else 6_000), CLASS),
        "Images": (natural, BATCH),
        "Attacked images, random signs of 16": (attacked, BATCH),
    }
    return [
        Table(
            f"{title}, {x.dtype} {list(x.shape)}, {x.nbytes / 1e6:.0f} MB, read in blocks of {block:,} rows",
            measured(x, block, 1 if quick else ROUNDS),
        )
        for title, (x, block) in data.items()
    ]


def measured(x: np.ndarray, block: int, rounds: int) -> list[dict[str, str | float]]:
    """Write and read an array in every layout, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        path = {layout: Path(folder) / str(i) for i, layout in enumerate(LAYOUTS)}

        def rates(call: Callable[[Layout], object]) -> dict[Layout, float]:
            timings = side_by_side({layout: partial(call, layout) for layout in LAYOUTS}, LAYOUTS[0], rounds)
            return {layout: x.nbytes / 1e6 / timing.seconds for layout, timing in timings.items()}

        write = rates(lambda layout: _write(path[layout], x, layout))
        for layout in LAYOUTS:
            np.testing.assert_array_equal(_read(path[layout], layout, len(x)), x)
        read = rates(lambda layout: _read(path[layout], layout, len(x)))
        blocks = rates(lambda layout: _read(path[layout], layout, block))
        files = {
            layout: [p for p in (path[layout], *path[layout].rglob("*")) if p.is_file()] for layout in LAYOUTS
        }
        return [
            {
                "codec": layout.codec, "container": layout.container, "chunk MB": layout.chunk,
                "write MB/s": write[layout], "read MB/s": read[layout], "blocks MB/s": blocks[layout],
                "bytes of raw": sum(file.stat().st_size for file in files[layout]) / x.nbytes,
                "files": len(files[layout]),
            }
            for layout in LAYOUTS
        ]  # fmt: skip


def _write(path: Path, x: np.ndarray, layout: Layout) -> None:
    shutil.rmtree(path, ignore_errors=True)
    rows = min(len(x), max(1, layout.chunk * 2**20 // x[:1].nbytes))
    with CONTAINERS[layout.container](path, "w") as store:
        array = zarr.create_group(store).create_array(
            "x", shape=x.shape, chunks=(rows, *x.shape[1:]), dtype=x.dtype, compressors=CODECS[layout.codec]
        )
        for start in range(0, len(x), rows):
            array[start : start + rows] = x[start : start + rows]


def _read(path: Path, layout: Layout, block: int) -> np.ndarray:
    """The last block of rows."""
    with CONTAINERS[layout.container](path, "r") as store:
        array = zarr.open_group(store, mode="r")["x"]
        for start in range(0, array.shape[0], block):
            rows = array[start : start + block]
        return rows


def squares(quick: bool) -> np.ndarray:
    """Photographs, uint8 [n, 3, 299, 299], and the same transposed: no row of pixels is there twice to be found."""
    found = [picture.resize((299, 299)) for picture in photographs(4 if quick else 100)]
    images = np.stack([np.asarray(picture) for picture in found]).transpose(0, 3, 1, 2)
    return np.concatenate([images, images.swapaxes(2, 3)])


def activations(images: np.ndarray, n: int) -> np.ndarray:
    """Averages of all blocks of a ResNet-18 beside each other, float32 [n, 1984], of cuts of photographs.

    Trained on Tiny ImageNet, where `$DETOUR_DATA` has the weights.
    """
    weights = Path(os.environ.get("DETOUR_DATA", ""), "tiny-imagenet-20-resnet18.pt")
    network = classifiers.untrained("resnet18", 20, 0)
    if weights.is_file():
        network.load_state_dict(torch.load(weights, weights_only=True))
    classifier = Classifier(network.eval(), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    layers = classifiers.look(Question("resnet18", "untrained", "auto", None, 20, 64, "crop"))
    rng = np.random.default_rng(0)
    cuts = np.stack([
        images[i, :, top : top + 64, left : left + 64]
        for i, top, left in zip(
            rng.integers(len(images), size=n), *rng.integers(299 - 64, size=(2, n)), strict=True
        )
    ])  # fmt: skip
    batched: list[tuple[Tensor, Tensor]] = [
        (x, torch.zeros(len(x))) for x in torch.from_numpy(cuts).split(BATCH)
    ]
    return np.concatenate([
        np.concatenate([block[layer] for layer in layers], axis=1)
        for block in record(classifier, layers, batched)
    ])  # fmt: skip
