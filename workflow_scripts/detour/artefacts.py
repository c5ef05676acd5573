"""Artefacts: written beside their place and renamed into it, so that what is there is complete."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detour.errors import RunError


class TakenOverError(RunError):
    """Another process has started to write the same artefact since."""


@contextmanager
def written(path: str | Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` if the block ends well and is removed otherwise.

    Of several writers of one path, the one that started last wins. If only Snakemake was killed, its jobs go
    on, and the same command starts them again: the earlier ones must then do no harm. So where the work takes
    long, all of it belongs into the block, not only the writing.

    Yields
    ------
    Path
        An empty hidden file beside `path`, for this writer alone, with the same ending.

    Raises
    ------
    TakenOverError
        If another writer has started since.
    RunError
        If there is no space left for it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _parts(path):
        left.unlink(missing_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        with part.open("xb") as own:
            yield part
            # A later writer removes the part; another file of its name is not the one that was opened here.
            try:
                if not os.path.samestat(os.fstat(own.fileno()), part.stat()):
                    raise FileNotFoundError(part)
                os.fsync(own.fileno())
                part.replace(path)
            except FileNotFoundError:
                raise _taken_over(path) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); make space on its disk or in your quota and"
            " run the same command again"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    _keep(path.parent)


@contextmanager
def folder(path: str | Path) -> Iterator[Path]:
    """Give an empty folder to fill, which becomes `path` if the block ends well and is removed otherwise.

    As with `written`, of several writers the one that started last wins. What is at `path` is replaced.

    Raises
    ------
    TakenOverError
        If another writer has started since.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _parts(path):
        shutil.rmtree(left, ignore_errors=True)
    part = path.with_name(f".part-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    part.mkdir()
    try:
        yield part
        shutil.rmtree(path, ignore_errors=True)
        part.rename(path)
    # Whatever a library says to a folder that is gone.
    except Exception as error:
        if part.is_dir():
            raise
        raise _taken_over(path) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _keep(path.parent)


def _taken_over(path: Path) -> TakenOverError:
    return TakenOverError(
        f"{path}: another job took over and writes it; this one, an earlier start of the same job whose"
        " Snakemake is gone, leaves it alone: nothing is to be done"
    )


def _parts(path: Path) -> list[Path]:
    """Part files or folders of an artefact, left behind or still being written."""
    name = re.compile(rf"\.part-\d+-[0-9a-f]{{8}}-{re.escape(path.name)}")
    return [other for other in path.parent.iterdir() if name.fullmatch(other.name)]


def _keep(folder: Path) -> None:
    """Make a rename survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot fsync a folder; the artefact is complete all the same.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
