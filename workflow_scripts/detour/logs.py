"""Logs of jobs: a file per job, with progress, time left, and the traceback where one fails."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

SECONDS_BETWEEN = 10
# That a job is silent on the console.
SECONDS_SILENT = 30

T = TypeVar("T")

logger = logging.getLogger("detour")


def to_file(path: str | Path) -> None:
    """Send the log of this process to `path`, uncaught exceptions and warnings included.

    Detour's own warnings go to the console too, and of a job that takes long a line at most every 30 s, after
    the name of its log.
    """
    logging.basicConfig(
        filename=path, filemode="w", level=logging.INFO, format="%(asctime)s %(message)s",
        # Names of files are written whatever the locale, and whatever bytes they have.
        encoding="utf-8", errors="backslashreplace",
    )  # fmt: skip
    console = logging.StreamHandler()
    console.setLevel(logging.WARNING)
    # What is critical is a failure, whose last line the hook below prints.
    console.addFilter(lambda record: record.levelno < logging.CRITICAL)
    console.setFormatter(logging.Formatter("warning: %(message)s"))
    logger.addHandler(console)
    working = logging.StreamHandler()
    working.addFilter(_Seldom())
    working.setFormatter(logging.Formatter(f"{path}: ".replace("%", "%%") + "%(message)s"))
    logger.addHandler(working)
    logging.captureWarnings(capture=True)

    def excepthook(*error: Any) -> None:
        # What is wrong comes first: the workflow prints the log of a failed job, with the traceback.
        logger.critical("the job failed: %s: %s", error[0].__name__, error[1], exc_info=error)
        print(f"{error[0].__name__}: {error[1]}", file=sys.stderr)

    sys.excepthook = excepthook


class _Seldom:
    """Passes what is no warning, when the console has had none of it for long."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        passes = record.levelno < logging.WARNING and now - self._last >= SECONDS_SILENT
        if passes:
            self._last = now
        return passes


def progress(
    items: Iterable[T], total: int, what: str, count: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """Yield the items, and log progress at most every 10 s.

    Parameters
    ----------
    total
        Number of items, or the sum of their counts.
    what
        Name of the items, for the log.
    count
        Gives the number that an item counts for.
    """
    begin = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += count(item)
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN:
            last = now
            left = (now - begin) / done * (total - done)
            logger.info("%s: %d of %d (%.0f %%), %.0f s left", what, done, total, 100 * done / total, left)
    logger.info("%s: %d of %d in %.1f s", what, done, total, time.monotonic() - begin)
