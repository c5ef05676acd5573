"""Stores of arrays: each one file, a Zarr 3 group in a zip, which carries a CRC for every chunk.

What is read is what was written. A comment at the end of the zip seals it: the digest of the zip's directory,
and which artefact it is. Attributes say from which versions of which artefacts it was made. Opening a store
checks its seal, reading a chunk the CRC, and making something of several stores that they belong together.
Files of states (`detour.states`) and tables (`detour.tables`) are sealed and checked alike.
"""

import errno
import hashlib
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
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
from detour.errors import InputError
from detour.identity import asked, identity
from detour.spelling import quoted

# A chunk of a few MB is read in a few ms and costs little beside a batch of images in memory.
CHUNK_BYTES = 4 * 2**20

# Several times as fast as Zarr's default, so that no GPU waits for it; see the layouts of benchmarks/.
COMPRESSOR = BloscCodec(cname="lz4", shuffle="shuffle")

# What a file of states has in place of a store's own attributes, in the folder that torch writes to.
ATTRIBUTES = "archive/detour.json"

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
        seal(part, identity(path), store.metadata)


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
    """Attributes of an artefact: what made it, from which files, and with which releases of libraries.

    Raises
    ------
    ValueError
        If the sources do not belong together; see `lineage`.
    """
    return attributes | {
        **asdict(made),
        "sources": lineage(sources),
        "versions": _versions(),
    }


def lineage(paths: Iterable[str | Path]) -> dict[str, str]:
    """Digests of artefacts and of all that they were made from, by `identity`.

    Raises
    ------
    ValueError
        If one was made from another version of something than is among `paths`, or than another of them was
        made from: a file was put in the place of another.
    """
    origins = [(Path(path), origin) for path in paths for origin in [attributes(path).get("sources", {})]]
    found = {identity(path): (digest(path), path) for path, _ in origins}
    for path, origin in origins:
        for name, version_of in origin.items():
            known, by = found.setdefault(name, (version_of, path))
            if known != version_of:
                other = "that is there" if identity(by) == name else f"that {by} was made from"
                raise InputError(
                    f"{path}: was made from another {name} (digest {version_of}) than the one {other}"
                    f" ({known}); one of them was replaced: delete {path} and {by} and run again"
                )
    return {name: known for name, (known, _) in found.items()}


def as_asked(paths: Iterable[str | Path], expected: Mapping[str, str]) -> None:
    """Refuse artefacts that were made with other settings than the configuration has.

    Such as a backup of an earlier run that was put back: what it is called and made from is right.

    Parameters
    ----------
    expected
        By `identity`, the digest of its settings (`asked`); others are not looked at.

    Raises
    ------
    ValueError
        With the file and its settings.
    """
    for path in paths:
        wanted = expected.get(identity(path))
        if wanted and (found := attributes(path).get("settings")) is not None and asked(found) != wanted:
            raise InputError(
                f"{path}: was made with other settings than this run's, {quoted(found)}; delete it and run"
                " again"
            )


def attributes(path: str | Path) -> dict[str, Any]:
    """What an artefact says of itself; of a file that is none, nothing. No array is read.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    if not zipfile.is_zipfile(path):
        return {}
    with damaged(path), zipfile.ZipFile(path) as zipped:
        names = set(zipped.namelist())
        if "zarr.json" in names:
            return json.loads(zipped.read("zarr.json")).get("attributes", {})
        return json.loads(zipped.read(ATTRIBUTES)) if ATTRIBUTES in names else {}


def read(path: str | Path) -> zarr.Group:
    """Open the store at `path` for reading.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is no complete store, or not the one that its name says; when an array is read: if a chunk is
        damaged.
    """
    check(path)
    with damaged(path):
        group = zarr.open_group(_Checked(path, mode="r"), mode="r")
    return group


def check(path: str | Path, *, contents: bool = False) -> None:
    """Refuse a sealed file whose directory was changed, or that is another than its name says.

    Parameters
    ----------
    contents
        Whether to read it all and compare every entry with its CRC, too.

    Raises
    ------
    ValueError
        With what was found and expected.
    """
    with damaged(path), zipfile.ZipFile(path) as zipped:
        sealed, _, says = os.fsdecode(zipped.comment).partition(" ")
        if sealed != _digest(zipped):
            raise zipfile.BadZipFile("its directory is not the one that was sealed")
        if contents and (entry := zipped.testzip()):
            raise zipfile.BadZipFile(f"Bad CRC-32 for {entry!r}")
    if says != identity(path):
        raise InputError(
            f"{path}: says that it is {says}, expected {identity(path)}: another file was put in its place;"
            " delete it and run again"
        )


# What flipped, cut or foreign bytes end in, in zipfile and its decompressors, JSON, Zarr and torch.
DAMAGE = (
    zipfile.BadZipFile, zarr.errors.GroupNotFoundError, zlib.error, struct.error, json.JSONDecodeError,
    pickle.UnpicklingError, UnicodeDecodeError, EOFError, OverflowError, NotImplementedError, RuntimeError,
)  # fmt: skip


@contextmanager
def damaged(path: str | Path) -> Iterator[None]:
    """Name the file whose reading shows that it is damaged, and what to do."""
    try:
        yield
    except (*DAMAGE, OSError) as error:
        # An offset before the file's begin; others are of the file system, such as that there is no file.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise InputError(
            f"{path}: is damaged or no file of this workflow ({error}), expected one as it was written;"
            " delete it and run again"
        ) from error


class _Checked(ZipStore):
    """Names the file where a chunk is not what was written."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        with damaged(self.path):
            return await super().get(key, prototype, byte_range)


def seal(part: str | Path, artefact: str, entries: Mapping[str, bytes]) -> None:
    """Add the last entries to a zip, and the seal, without which it is not whole.

    Parameters
    ----------
    artefact
        Its `identity` where it will be.
    """
    with zipfile.ZipFile(part, "a") as finished:
        for name, content in entries.items():
            finished.writestr(name, content)
        finished.comment = os.fsencode(f"{_digest(finished)} {artefact}")


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
    with damaged(path), zipfile.ZipFile(path) as zipped:
        return _digest(zipped)


def _digest(zipped: zipfile.ZipFile) -> str:
    entries = sorted((i.filename, i.CRC, i.file_size) for i in zipped.infolist())
    return hashlib.sha256(repr(entries).encode()).hexdigest()[:16]
