"""Manifests: digests of files that are too many to be inputs of a rule, so that a change is noticed.

As in Git's index, a file counts as unchanged if its size, its times of change and its inode are; otherwise
its content is read. So touching or copying files changes no digest, another file of the same size and time is
noticed, and a check costs no more than asking for their times.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b, file_digest, sha256
from pathlib import Path
from typing import Any, NamedTuple

from detour import folders
from detour.artefacts import TakenOverError, written
from detour.config import ConfigError
from detour.folders import SETTLED
from detour.options.datasets import Images
from detour.options.run import Run
from detour.spelling import listed, shown

# As of every file's content, that of none.
EMPTY = sha256().hexdigest()[:32]

# Number of files read at once: a file server takes as long for many as for one.
READERS = 16

SECONDS_BETWEEN = 10


class Manifest:
    """Digests of files, remembered between runs.

    Parameters
    ----------
    folder
        Where they are kept: a JSON file for each group, `{name: [[size, times of change, inode], digest]}`.
    say
        Called every 10 s with how much was read.
    """

    def __init__(self, folder: str | Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = Path(folder), say
        self._files = self._bytes = 0
        self._begin = self._last = time.monotonic()

    def digest(self, root: str | Path, names: Iterable[str]) -> str:
        """Digest of the names and contents of some files in a folder, in any order; see `digests`."""
        return _short(list(self.digests(root, names).items()))

    def digests(self, root: str | Path, names: Iterable[str], part: str = "") -> dict[str, str]:
        """Digests of the contents of some files in a folder, by their names, which are sorted.

        Parameters
        ----------
        part
            What other files of the folder are remembered apart from these by.

        Raises
        ------
        OSError
            If one cannot be read.
        ValueError
            If one is no regular file.
        """
        remembered = self.folder / f"{_short(str(Path(root).resolve()) + part)}.json"
        cached = _remembered(remembered)
        entries: dict[str, list[int]] = {}
        for name in sorted(names):
            status = folders.regular(f"{root}/{name}")
            entries[name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        changed = [name for name, entry in entries.items() if name not in cached or cached[name][0] != entry]
        if changed:
            # A file that changed just now may change again within a tick of the file system's clock.
            settled = time.time_ns() - SETTLED
            with ThreadPoolExecutor(READERS) as readers:
                read = readers.map(self._read, [f"{root}/{name}" for name in changed])
                for name, content in zip(changed, read, strict=True):
                    entry = entries[name]
                    cached[name] = [entry if max(entry[1:3]) < settled else [], content]
            _keep(remembered, cached)
        return {name: cached[name][1] for name in entries}

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


def weights(run: Run, remembered: Path, *, again: bool, say: Callable[[str], None]) -> str:
    """Digest of the file of weights, empty if there is none; parameters are those of `contents`."""
    known = {} if again else _recalled(remembered)
    if isinstance(known.get("weights"), str):
        return known["weights"]
    if run.classifier.file is None:
        return ""
    path = Path(run.classifier.file)
    return Manifest(remembered.parents[1] / ".manifests", say).digest(path.parent, [path.name])


def contents(run: Run, remembered: Path, *, again: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Digests of the files that a configuration names: `test`, `reference` by class, `weights`, `attacks`.

    What is not in files, such as the digits, has the digest of nothing, and no class.

    Parameters
    ----------
    remembered
        JSON file that keeps the answer.
    again
        Whether to look at the files; otherwise the remembered answer is returned, if there is one.
    say
        Called with the progress, if there is much to read.
    """
    expected = {"test": str, "reference": list, "weights": str, "attacks": dict}
    known = {} if again else _recalled(remembered)
    if not again and all(isinstance(known.get(name), kind) for name, kind in expected.items()):
        return known
    manifest = Manifest(remembered.parents[1] / ".manifests", say)
    dataset = run.dataset
    tested = list(groups(dataset.test_files(), manifest))
    found: dict[str, Any] = {
        "test": _short([dataset.classes, [group.digest for group in tested]]),
        # One class at a time: of ImageNet all are hundreds of MB.
        **_compared(run, tested, groups(dataset.reference_files(run.seed), manifest)),
    }
    found["weights"] = weights(run, remembered, again=True, say=say)
    found["attacks"] = {a.name: _files(Path(a.files), manifest) for a in run.attacks if a.files}
    _keep(remembered, found)
    return found


def _files(path: Path, manifest: Manifest) -> str:
    """Digest of a file, or of all files in a folder."""
    if path.is_dir():
        return manifest.digest(path, [str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()])
    return manifest.digest(path.parent, [path.name])


class Group(NamedTuple):
    """Images of a class, or all: their digest together, each one's and its class by what people call it."""

    digest: str
    files: dict[str, str]
    label: dict[str, int]


def groups(found: Iterable[Images], manifest: Manifest) -> Iterator[Group]:
    """Digests of the images of each folder, of their names and of what the dataset says about them."""
    for images in found:
        files = images.digests
        if files is None:
            try:
                files = manifest.digests(images.folder, images.about, images.part)
            except FileNotFoundError as error:
                raise ConfigError(
                    [f"dataset: found no file {error.filename!r}, which is named; add it, or remove its name"]
                ) from None
        about = [images.under, [[name, images.about[name], digest] for name, digest in files.items()]]
        yield Group(
            _short(about),
            {images.under + name: digest for name, digest in files.items()},
            {images.under + name: images.about[name][0] for name in files},
        )


def _compared(run: Run, tested: list[Group], reference: Iterable[Group]) -> dict[str, list[str]]:
    """The reference's digests by class, and what to say of files that are there twice: `leaked` and `copied`.

    Raises
    ------
    ConfigError
        If test images are in the reference, or too few test images differ.
    """
    empty = [name for group in tested for name, digest in group.files.items() if digest == EMPTY]
    if empty:
        raise ConfigError(
            [f"dataset.test: {len(empty)} files are empty: {listed(empty)}; replace or remove them"]
        )
    first: dict[str, str] = {}
    copied = []
    of_class: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for group in tested:
        for name, digest in group.files.items():
            of_class[group.label[name]][name] = digest
            if first.setdefault(digest, name) != name:
                copied.append(f"{shown(name)} = {shown(first[digest])}")
    problems: list[str] = []
    digests: list[str] = []
    leaked: list[str] = []
    # By a number of the content, not its text: of ImageNet there are a million.
    classes: dict[int, int] = {}
    again: list[str] = []
    whole: list[str] = []
    alike: dict[frozenset[str], int] = {}
    names = run.dataset.classes
    for c, group in enumerate(reference):
        digests.append(group.digest)
        for name, digest in group.files.items():
            other = classes.setdefault(int(digest, 16), c)
            if other != c:
                again.append(f"{shown(name)} = one of {shown(names[other])}")
        other = alike.setdefault(frozenset(group.files.values()), c)
        if other != c:
            whole.append(f"{shown(names[c])} = {shown(names[other])}")
        leaked += [f"{shown(first[d])} = {shown(name)}" for name, d in group.files.items() if d in first]
    if whole:
        problems.append(
            f"dataset.reference: {len(whole)} classes have the same files as another: {listed(whole)}; remove"
            " or mend them"
        )
    dataset: Any = run.dataset
    if leaked:
        leak = (
            f"the same images are in {dataset.place('test')} and in {dataset.place('reference')},"
            f" {len(leaked)} pairs:"
            f" {listed(leaked)}"
        )
        leaked = [f"dataset.duplicates: allow: {leak}; figures are better than they would be on other images"]
        if dataset.duplicates == "error":
            problems.append(
                f"dataset.duplicates: {leak}; remove them from one of the two, or set `duplicates: allow`"
            )
    count = run.folds.count
    needed = 2 * count
    differ = {next(iter(files)): len(set(files.values())) for files in of_class.values()}
    if copied and run.folds.stratify == "class" and (least := min(differ.values())) < needed:
        where = next(name for name, count in differ.items() if count == least)
        problems.append(
            f"folds.count: found {count}, which deals each class into {needed} groups, and of the"
            f" class of {shown(where)} only {least} test images differ; replace the copies, or use fewer"
            " folds, or `folds.stratify: none`"
        )
    elif copied and len(first) < needed:
        problems.append(
            f"folds.count: found {count}, which deals into {needed} groups, and only {len(first)}"
            " test images differ; replace the copies or use fewer folds"
        )
    if problems:
        raise ConfigError(problems)
    return {
        "reference": digests,
        "leaked": leaked,
        "copied": [
            *([f"dataset.test: {folders.copies_note(copied)}"] if copied else []),
            *(
                [f"dataset.reference: {len(again)} files are in two classes: {listed(again)}"]
                if again
                else []
            ),
        ],
    }


def _recalled(path: Path) -> dict[str, Any]:
    """What an earlier start remembered; nothing if the file is not there or not whole: it is made anew."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _remembered(path: Path) -> dict[str, Any]:
    """Its entries that have the shape of one."""
    return {
        name: entry
        for name, entry in _recalled(path).items()
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)
    }


def _keep(path: Path, value: Any) -> None:
    # Another Snakemake, such as a dry run at the same time, may write the same instead.
    with suppress(TakenOverError), written(path) as part:
        part.write_text(json.dumps(value))


def _short(value: Any) -> str:
    return blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
