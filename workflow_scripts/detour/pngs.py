"""PNGs: versions of the test images as files that other tools read, and `method: files` reads back."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from detour import store
from detour.artefacts import folder
from detour.errors import InputError
from detour.logs import progress


def export(images: str | Path, original: str | Path, out: str | Path) -> None:
    """Write each image as a PNG under its name.

    Parameters
    ----------
    images
        A store of one version of the test images.
    original
        The store of the test images, which has their names.
    out
        A folder, which is there when all of it is written.
    """
    read, names = store.read(images), files(store.read(original).attrs["names"])
    with folder(out) as part:
        for row, name in enumerate(progress(names, len(names), f"{Path(out).name}: images")):
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(read["images"][row].transpose(1, 2, 0)).save(path)


def files(names: Sequence[str]) -> list[str]:
    """The names with `.png` in place of their endings, or behind them where two would become the same.

    None is what another image is called.

    Raises
    ------
    InputError
        If one leads out of the folder, or two are the same.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(
            f"found two images called {twice[0]!r}, expected a name of its own for each; rename one"
        )
    if outside := [name for name in names if ".." in PurePosixPath(name).parts or name.startswith("/")]:
        raise InputError(f"found an image called {outside[0]!r}, expected names within a folder; rename it")
    short = [str(PurePosixPath(name).with_suffix(".png")) for name in names]
    count = Counter(short)
    taken = {*names, *short}
    found = []
    for place, name in zip(short, names, strict=True):
        if count[place] > 1:
            place = f"{name}.png"
            while place in taken:
                place += ".png"
            taken.add(place)
        found.append(place)
    return found
