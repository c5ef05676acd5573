"""Command: `detour` scores images with a bundle, compares runs and begins new ones; thin over the library."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer

from detour.artefacts import written
from detour.errors import DetourError

app = typer.Typer(
    help="Detect adversarial images with the bundle of a run; compare runs, and begin one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Status(IntEnum):
    """Of the command, for scripts."""

    WRONG = 2
    FLAGGED = 3


@contextmanager
def _errors() -> Iterator[None]:
    """What is wrong is a line, not a traceback."""
    try:
        yield
    except (DetourError, OSError) as error:
        typer.echo(f"detour: {error}", err=True)
        raise typer.Exit(Status.WRONG) from None


Trusted = Annotated[
    list[str] | None,
    typer.Option(help="Code from outside that the bundle may run, file.py:name or package.module:name."),
]

Place = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Folder, results/RUN/detectors/DETECTOR/bundle.")
]


@app.command()
def score(
    bundle: Place,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES", help="Image files, or folders of them.")],
    fpr: Annotated[float, typer.Option(help="Share of genuine images that may be flagged.")] = 0.01,
    out: Annotated[Path | None, typer.Option(help="CSV to write the table to.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each image.")] = False,
    device: Annotated[str, typer.Option(help="Where the network runs: auto, cpu or cuda.")] = "auto",
    trust: Trusted = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images that the network sees at once; default: the run's.")
    ] = None,
) -> None:
    """Tell which images are adversarial: a line for each.

    With the predicted class, the p-value, whether it is flagged, the detector's score (higher is more
    adversarial), the layer from which on the path is nearest to another class than the predicted one, and why
    it cannot be decoded if it cannot.

    Exit status: 0 if nothing was flagged, 3 if something was, 2 if something was wrong: with the arguments,
    the bundle, or, where nothing was flagged, an image that cannot be decoded.
    """
    _log()
    # Code from outside may print; what stands on the standard output is read by others.
    with _errors(), redirect_stdout(sys.stderr):
        # Not above: torch takes seconds, and `--help` does without.
        from detour.detector import Detector

        table = Detector.load(bundle, device, trust or ())(images, fpr, batch_size)
        if out:
            with written(out) as part:
                table.to_csv(part, index=False)
    if as_json:
        typer.echo(table.to_json(orient="records", lines=True, double_precision=15), nl=False)
    else:
        typer.echo(table.to_string(index=False, float_format="{:.4g}".format))
    if table["flagged"].any():
        raise typer.Exit(Status.FLAGGED)
    if (table["error"] != "").any():
        raise typer.Exit(Status.WRONG)


@app.command()
def explain(
    bundle: Place,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    label: Annotated[str | None, typer.Option(help="Name of its true class, if it is known.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Path to write to, without the ending; default: IMAGE-explained, in this folder."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the network runs: auto, cpu or cuda.")] = "auto",
    trust: Trusted = None,
) -> None:
    """Show why an image has its score.

    With its path through the layers, what each layer adds to the score, and the nearest reference images, as
    a picture (SVG, PDF and PNG) and as numbers (JSON), and some lines of it here.
    """
    _log()
    with _errors(), redirect_stdout(sys.stderr):
        from detour.detector import Detector
        from detour.pictures import summary, write

        found = Detector.load(bundle, device, trust or ()).explain(image, label)
        place = out or Path(f"{image.stem}-explained")
        plain = place.with_suffix("") if place.suffix in (".svg", ".pdf", ".png", ".json") else place
        paths = write(found, plain)
    typer.echo(summary(found))
    typer.echo(f"written: {', '.join(map(str, paths))}")


@app.command()
def info(bundle: Place) -> None:
    """Say what is in a bundle, after a look whether it is whole."""
    with _errors():
        from detour.bundle import Bundle

        typer.echo(Bundle(bundle).card, nl=False)


@app.command()
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Folders of runs, or their names under results/.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write comparison.html and .csv to.")] = Path(),
) -> None:
    """Write finished runs side by side: a page and a table, with differences from the first run."""
    with _errors():
        from detour.compared import compare

        for path in compare(runs, out):
            typer.echo(path)


@app.command()
def init(
    images: Annotated[
        Path,
        typer.Argument(help="Folder with a folder for each class, or with train and val that have them."),
    ],
    model: Annotated[
        str | None, typer.Option(help="`classifier.model`; default: by the size of the images.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="`classifier.weights`, such as the path of a checkpoint.")
    ] = "train",
    out: Annotated[Path, typer.Option(help="Where to write the configuration.")] = Path("my.yaml"),
) -> None:
    """Write a configuration for a folder of images, after a look at them and at the network."""
    with _errors():
        from detour.initial import initial

        initial(images, out, model=model, weights=weights, say=_say)
    typer.echo(f"{out}: read it, then run: snakemake --cores all --configfile {out}")


@app.command()
def layers(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration of a run, as YAML.")],
) -> None:
    """Print the modules of a run's network, as `snakemake layers` does."""
    with _errors():
        from detour import console

        console.show_layers(console.planned(console.settings(config), [config], first=True, say=_say))


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _log() -> None:
    """Warnings and progress, which is all that the library's own logger says."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.name == "detour" or record.levelno >= logging.WARNING)
    logger = logging.getLogger("detour")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
