"""Artefacts: written beside their place and renamed into it, so that what is there is complete."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class TakenOverError(RuntimeError):
    """Another process began to write the same artefact later."""


@contextmanager
def written(path: str | Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` if the block ends well and vanishes if not.

    Of several writers of one path the one that began last wins. A job outlives its Snakemake where only that
    was killed, and the same command begins the job anew: the earlier one must do no harm. So a block holds
    the work itself where that takes long, not only the writing.

    Yields
    ------
    Path
        A hidden file of this writer's own beside `path`, with the same ending; empty.

    Raises
    ------
    TakenOverError
        If another writer has begun since.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _parts(path):
        left.unlink(missing_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        with part.open("xb") as own:
            yield part
            # The next writer removes the part; one made again under its name is not the file opened here.
            try:
                if not os.path.samestat(os.fstat(own.fileno()), part.stat()):
                    raise FileNotFoundError(part)
                os.fsync(own.fileno())
                part.replace(path)
            except FileNotFoundError:
                raise TakenOverError(
                    f"{path}: another job took over and writes it; this one, an earlier start of the same job"
                    " whose Snakemake is gone, leaves it alone: nothing is to be done"
                ) from None
    finally:
        part.unlink(missing_ok=True)
    _keep(path.parent)


def _parts(path: Path) -> list[Path]:
    """What unfinished writers of an artefact have left, or are writing."""
    name = re.compile(rf"\.part-\d+-[0-9a-f]{{8}}-{re.escape(path.name)}")
    return [other for other in path.parent.iterdir() if name.fullmatch(other.name)]


def _keep(folder: Path) -> None:
    """Have a rename outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems know no fsync of folders; the artefact is whole all the same.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
