"""Manifests: digests of files that are too many to be inputs of a rule, so that a change is noticed.

As in Git's index, a file counts as unchanged if its size and its time of change are; otherwise its content is
read. So touching or copying files changes no digest, and a check costs no more than asking for their times.
"""

import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from detour import folders
from detour.artefacts import TakenOverError, written
from detour.config import Config, is_file

# Number of files read at once: a file server takes as long for many as for one.
READERS = 16

SECONDS_BETWEEN = 10

# Age in ns from which a file's time of change can be relied on: a later change gets another time.
SETTLED = 2 * 10**9


class Manifest:
    """Digests of files, remembered between runs.

    Parameters
    ----------
    folder
        Where they are kept: a JSON file for each group, `{name: [size, time of change, digest]}`.
    say
        Called every 10 s with how much was read.
    """

    def __init__(self, folder: str | Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = Path(folder), say
        self._files = self._bytes = 0
        self._begin = self._last = time.monotonic()

    def digest(self, root: str | Path, names: Iterable[str]) -> str:
        """Digest of the names and contents of some files in a folder, in any order.

        Raises
        ------
        OSError
            If one cannot be read.
        """
        remembered = self.folder / f"{_short(str(Path(root).resolve()))}.json"
        cached = json.loads(remembered.read_text()) if remembered.exists() else {}
        entries: dict[str, list[Any]] = {}
        for name in sorted(names):
            # os.stat on a string is twice as fast as Path.stat.
            status = os.stat(f"{root}/{name}")  # noqa: PTH116
            entries[name] = [status.st_size, status.st_mtime_ns]
        changed = [name for name, entry in entries.items() if cached.get(name, ())[:2] != entry]
        if changed:
            # A file that changed just now may change again within a tick of the file system's clock.
            settled = time.time_ns() - SETTLED
            with ThreadPoolExecutor(READERS) as readers:
                read = readers.map(self._read, [f"{root}/{name}" for name in changed])
                for name, content in zip(changed, read, strict=True):
                    size, modified = entries[name]
                    cached[name] = [size, modified if modified < settled else None, content]
            _keep(remembered, cached)
        return _short([(name, cached[name][2]) for name in entries])

    def _read(self, path: str) -> str:
        with Path(path).open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()[:32]
            self._files += 1
            self._bytes += file.tell()
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN:
            self._last = now
            self.say(
                f"read {self._files} new or changed files, {self._bytes / 1e9:.1f} GB, in"
                f" {now - self._begin:.0f} s, to recognise them later; this is done once"
            )
        return digest


def contents(config: Config, remembered: Path, *, again: bool, say: Callable[[str], None]) -> Config:
    """Digests of the files that a configuration names: `test`, `reference` by class, `weights`.

    What is not a file, such as the digits, has no digest.

    Parameters
    ----------
    remembered
        JSON file that keeps the answer.
    again
        Whether to look at the files; otherwise the remembered answer is returned, if there is one.
    say
        Called with the progress, if there is much to read.
    """
    if not again and remembered.exists():
        return json.loads(remembered.read_text())
    dataset, weights = config["dataset"], config["classifier"]["weights"]
    manifest = Manifest(remembered.parents[1] / ".manifests", say)
    found: Config = {}
    if dataset["name"] != "digits":
        found |= {"test": test(dataset, manifest), "reference": reference(dataset, config["seed"], manifest)}
    if is_file(weights):
        found["weights"] = manifest.digest(Path(weights).parent, [Path(weights).name])
    _keep(remembered, found)
    return found


def reference(dataset: Config, seed: int, manifest: Manifest) -> list[str]:
    """Digests of the reference images of every class.

    Parameters
    ----------
    dataset
        The section of the configuration.
    seed
        Seed for drawing `per_class` images.
    """
    root = Path(dataset["reference"])
    return [
        _short(
            [
                name,
                manifest.digest(root / name, folders.taken(root / name, c, dataset["per_class"], seed)),
            ]
        )
        for c, name in enumerate(folders.classes(root))
    ]


def test(dataset: Config, manifest: Manifest) -> str:
    """Digest of the test images and their classes, with the names of the reference's classes."""
    root, classes = Path(dataset["test"]), folders.classes(dataset["reference"])
    if dataset["name"] == "nips2017":
        images, _ = folders.nips2017(root, dataset["labels"])
        return _short([images, manifest.digest(root, [image.name for image in images])])
    there = [(c, root / name) for c, name in enumerate(classes) if (root / name).is_dir()]
    return _short([classes, [(c, manifest.digest(folder, folders.taken(folder, c))) for c, folder in there]])


def _keep(path: Path, value: Any) -> None:
    # Another Snakemake, such as a dry run at the same time, may write the same instead.
    with suppress(TakenOverError), written(path) as part:
        part.write_text(json.dumps(value))


def _short(value: Any) -> str:
    return blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
