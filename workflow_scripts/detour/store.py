"""Stores of arrays: each one file, a Zarr 3 group in a zip, which carries a CRC for every chunk."""

import hashlib
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest
from zarr.codecs import BloscCodec
from zarr.storage import WrapperStore, ZipStore

from detour.artefacts import written

# A chunk of a few MB is read in a few ms and costs little beside a batch of images in memory.
CHUNK_BYTES = 4 * 2**20

# Several times as fast as Zarr's default, so that no GPU waits for it; see the layouts of benchmarks/.
COMPRESSOR = BloscCodec(cname="lz4", shuffle="shuffle")

# The set of genuine images; all others are attacks.
ORIGINAL = "original"

# The target of an attack that aims at no class.
NO_TARGET = -1

LIBRARIES = ("cleverhans", "dask", "numpy", "scikit-learn", "scipy", "torch", "torchvision", "zarr")


@dataclass(frozen=True)
class Made:
    """What made a store, for its attributes.

    Parameters
    ----------
    settings
        The part of the configuration that the job used, with its seed.
    code
        Digest of the code (`detour.code.digest`).
    threads
        Number of threads of the job, which changes floats in the last place.
    """

    settings: dict[str, Any]
    code: str
    threads: int = 1


@contextmanager
def create(
    path: str | Path, made: Made, sources: Iterable[str | Path] = (), **attributes: Any
) -> Iterator[zarr.Group]:
    """Give an empty group to fill, which becomes the store at `path` if the block ends without an error.

    Parameters
    ----------
    sources
        Artefacts that it is derived from; their digests become attributes.
    attributes
        Further attributes; JSON.
    """
    about = attributes_of(made, sources, **attributes)
    with written(path) as part:
        with ZipStore(part, mode="w") as zipped:
            store = _Growing(zipped)
            yield zarr.create_group(store, attributes=about)
        with zipfile.ZipFile(part, "a") as finished:
            for key, text in store.metadata.items():
                finished.writestr(key, text)


class _Growing(WrapperStore[ZipStore]):
    """Keeps metadata in memory until the end, because an entry of a zip cannot be overwritten.

    This lets arrays grow and attributes be set while writing.
    """

    def __init__(self, store: ZipStore) -> None:
        super().__init__(store)
        self.metadata: dict[str, bytes] = {}

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if key in self.metadata:
            return prototype.buffer.from_bytes(self.metadata[key])
        return await super().get(key, prototype, byte_range)

    async def set(self, key: str, value: Buffer) -> None:
        if key.endswith("zarr.json"):
            self.metadata[key] = value.to_bytes()
        else:
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if key not in self.metadata:
            await self.set(key, value)


def attributes_of(made: Made, sources: Iterable[str | Path] = (), **attributes: Any) -> dict[str, Any]:
    """Attributes of an artefact: what made it, from which files, and with which releases of libraries."""
    paths = [Path(source) for source in sources]
    times = Counter(path.name for path in paths)
    names = [path.name if times[path.name] == 1 else f"{path.parent.name}/{path.name}" for path in paths]
    return attributes | {
        **asdict(made),
        "sources": {name: digest(path) for name, path in zip(names, paths, strict=True)},
        "versions": _versions(),
    }


def read(path: str | Path) -> zarr.Group:
    """Open the store at `path` for reading.

    Raises
    ------
    ValueError
        If the file is not a complete store.
    """
    try:
        return zarr.open_group(ZipStore(path, mode="r"), mode="r")
    except (zipfile.BadZipFile, zarr.errors.GroupNotFoundError) as error:
        raise ValueError(
            f"{path}: found a file that is no Zarr store in a zip ({error}), expected one that this"
            " workflow wrote; delete it and run again"
        ) from error


def write(group: zarr.Group, blocks: Iterable[dict[str, np.ndarray]]) -> None:
    """Write arrays that arrive in blocks of any number of rows; memory is bounded by a chunk.

    A chunk in a zip can be written only once, so rows are held back until they fill one.

    Parameters
    ----------
    blocks
        Dictionaries with the same keys: the arrays' names, and for each the next rows `[b, ...]`.
    """
    arrays: dict[str, zarr.Array] = {}
    for chunk in _chunks(blocks):
        for name, rows in chunk.items():
            if name not in arrays:
                arrays[name] = group.create_array(
                    name,
                    shape=(0, *rows.shape[1:]),
                    chunks=rows.shape,
                    dtype=rows.dtype,
                    compressors=COMPRESSOR,
                )
            arrays[name].append(rows)


def _chunks(blocks: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """Cut blocks of any number of rows into blocks whose widest array fills a chunk."""
    held: list[dict[str, np.ndarray]] = []
    count = 0
    for block in blocks:
        size = max(1, CHUNK_BYTES // max(rows[:1].nbytes for rows in block.values()))
        held.append(block)
        count += len(next(iter(block.values())))
        while count >= size:
            joined = {name: np.concatenate([b[name] for b in held]) for name in block}
            yield {name: rows[:size] for name, rows in joined.items()}
            held = [{name: rows[size:] for name, rows in joined.items()}]
            count -= size
    if count:
        yield {name: np.concatenate([b[name] for b in held]) for name in held[0]}


def _versions() -> dict[str, str]:
    """Releases of the libraries that are installed: not every environment has all."""
    return {d: version(d) for d in LIBRARIES if find_spec(d.replace("scikit-learn", "sklearn"))}


def named(paths: Iterable[str | Path]) -> dict[str, Path]:
    """Stores by the name of their file, without its endings; in the same order."""
    return {Path(path).name.removesuffix(".zarr.zip"): Path(path) for path in paths}


def digest(path: str | Path) -> str:
    """Digest of the contents of a store or of a torch file, from the CRCs in the directory of the zip.

    No chunk is read. The same content has the same digest, whenever it was written. For any other file, it is
    the digest of its bytes.
    """
    if not zipfile.is_zipfile(path):
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    with zipfile.ZipFile(path) as zipped:
        entries = sorted((i.filename, i.CRC, i.file_size) for i in zipped.infolist())
    return hashlib.sha256(repr(entries).encode()).hexdigest()[:16]
