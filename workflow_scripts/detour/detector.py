"""Detector: what a bundle says of images, as the workflow would say it."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from detour import activations, classifiers, detectors, explanation, folders, preprocessed, squeezed
from detour.activations import Recorder
from detour.bundle import Bundle
from detour.errors import InputError
from detour.explanation import Explanation
from detour.logs import progress
from detour.options import detectors as catalogue
from detour.options.detectors import PAPER_S
from detour.pixels import IMAGE, decoded, fitted, of_memory
from detour.preprocessed import Gaussian
from detour.recorded import Recorded
from detour.spelling import quoted, shown, unknown
from detour.typical import further


class Seen(NamedTuple):
    """What was seen of images, in their order; of those that cannot be decoded, the reason alone.

    Attributes
    ----------
    names
        Paths, or numbers of images that are in memory.
    errors
        Why an image cannot be decoded, or "".
    predicted : int64 [m]
        Of those that can be.
    scores : float64 [m, K]
        Of the detector of each fold; higher is more adversarial.
    nearest : int64 [m, L]
        The class of the nearest medoid at each layer.
    """

    names: list[str | int]
    errors: list[str]
    predicted: np.ndarray
    scores: np.ndarray
    nearest: np.ndarray


class Detector:
    """A detector of adversarial images, from a bundle of a run.

    Attributes
    ----------
    bundle : Bundle
    classes, layers : list of str

    Examples
    --------
    >>> detector = Detector.load("results/digits/detectors/lstm/bundle")  # doctest: +SKIP
    >>> detector(["a.png", "b.png"], fpr=0.01)  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        about = bundle.about
        self.classes: list[str] = about["classes"]
        self.layers: list[str] = about["layers"]
        # What is drawn for the network is replaced by its weights: it takes no draws from whoever calls.
        with torch.random.fork_rng():
            self._classifier = classifiers.built(bundle.network, device, keep=self.layers)
            self._options = catalogue.detector(about["detector"])
            self._folds = [
                (detectors.detector(self._options).restored(state), genuine)
                for state, genuine in bundle.folds()
            ]
        self._count = sum(len(genuine) for _, genuine in self._folds)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", trusted: Collection[str] = ()) -> Self:
        """The detector of a bundle, every file of which is compared with its digest.

        Parameters
        ----------
        path
            The bundle's folder.
        device
            Where the network runs: `auto` is CUDA where there is one, or a name of PyTorch's.
        trusted
            References of code from outside, of a network or a detector, that the bundle may run.

        Raises
        ------
        InputError
            If a file is missing or damaged, the bundle is of another format, code from outside that it needs
            is not trusted or is another, or there is no such device.
        """
        try:
            name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
            used = torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"device: found {device!r} ({reason}), expected auto, cpu or cuda, where there is one"
            ) from None
        bundle = Bundle(path)
        bundle.allow(trusted)
        return cls(bundle, used)

    def __call__(self, images: Any, fpr: float = 0.01, batch_size: int | None = None) -> pd.DataFrame:
        """Which images are adversarial.

        Parameters
        ----------
        images
            A path of an image or a folder, a PIL image, an array uint8 [n, 3, H, W], or several of them.
            Images are resized and cropped as the run's test images are; arrays of that size stay as they are.
        fpr
            The share of genuine images that may be flagged: those with a p-value of at most this.
        batch_size
            Images that the network sees at once; None: as in the run.

        Returns
        -------
        DataFrame
            A row an image: `file` (its path, or its number), `predicted` (class), `p`, `flagged`, `score`
            (mean of the folds' detectors; higher is more adversarial), `leaves` (the layer from which on, to
            the last, the nearest medoid is of another class than the predicted one, or ""), and `error` (why
            an image cannot be decoded, or "").

        Raises
        ------
        InputError
            If there is no image, or `fpr` is less than so many calibration images can tell.

        Notes
        -----
        The p-value is cross-conformal (Vovk 2015): p(x) = (1 + sum_k #{i: s_k(i) >= s_k(x)}) / (n + 1), over
        the n originals of the folds' tests, each scored by the detector of the fold that did not see it.
        """
        if not 1 / (self._count + 1) <= fpr < 1:
            raise InputError(
                f"fpr: found {fpr}, allowed: from {1 / (self._count + 1):.2g}, which is 1 in as many as the"
                f" {self._count} calibration images and one, to below 1"
            )
        seen = self.seen(images, batch_size)
        good = [not error for error in seen.errors]
        p = self.p_values(seen.scores)
        columns = {
            "predicted": [self.classes[c] for c in seen.predicted],
            "p": p,
            "flagged": p <= fpr,
            "score": seen.scores.mean(1),
            "leaves": [self.layers[at] if at < len(self.layers) else "" for at in _leaves(seen)],
        }
        table = pd.DataFrame({"file": seen.names})
        for name, values in columns.items():
            empty = {"p": np.nan, "score": np.nan, "flagged": False}.get(name, "")
            table[name] = empty
            table.loc[good, name] = values
        return table.assign(error=seen.errors)

    def p_values(self, scores: np.ndarray, fold: int | None = None) -> np.ndarray:
        """Cross-conformal p-values of scores float64 [m, K], or by one fold: float64 [m]; see `__call__`."""
        used = [fold] if fold is not None else range(len(self._folds))
        genuine = [self._folds[k][1] for k in used]
        above = [len(of) - np.searchsorted(of, scores[:, k]) for k, of in zip(used, genuine, strict=True)]
        return (1 + np.sum(above, axis=0)) / (1 + sum(map(len, genuine)))

    def seen(self, images: Any, batch_size: int | None = None) -> Seen:
        """What is seen of images; parameters are those of `__call__`."""
        inputs = list(_inputs(images))
        if not inputs:
            raise InputError("found no image, expected at least one")
        names = [str(each) if isinstance(each, Path) else i for i, each in enumerate(inputs)]
        errors: list[str] = []
        batched = self._batches(inputs, batch_size or self.bundle.about["config"]["batch_size"], errors)
        predicted, scores, nearest = [], [], []
        for versions in self._recorded(batched):
            predicted.append(versions.predicted)
            scores.append(self._scores(versions))
            nearest.append(_nearest(versions))
        return Seen(
            names,
            errors,
            np.concatenate([np.empty(0, np.int64), *predicted]),
            np.concatenate([np.empty((0, len(self._folds))), *scores]),
            np.concatenate([np.empty((0, len(self.layers)), np.int64), *nearest]),
        )

    def explain(self, image: Any, label: str | int | None = None, fold: int | None = None) -> Explanation:
        """Why an image has its score: its path, the layers' parts of the score, and its neighbours.

        Parameters
        ----------
        image
            One, of what `__call__` takes.
        label
            Name of its true class, or its number, if that is known.
        fold
            The detector of this fold alone, such as the one that has not seen an image of the run; None: all.

        Raises
        ------
        InputError
            If there is not one image, it cannot be decoded, or there is no class or fold like that.
        """
        inputs = list(_inputs(image))
        if len(inputs) != 1:
            raise InputError(f"explain: found {len(inputs)} images, expected one; name it")
        if isinstance(label, str):
            if label not in self.classes:
                raise InputError(unknown("label", label, self.classes))
            label = self.classes.index(label)
        if fold is not None and fold not in range(len(self._folds)):
            raise InputError(unknown("fold", fold, range(len(self._folds))))
        name = str(inputs[0]) if isinstance(inputs[0], Path) else ""
        errors: list[str] = []
        batches = list(self._batches(inputs, 1, errors))
        if not batches:
            raise InputError(f"{name}: {errors[0]}" if name else errors[0])
        (versions,) = self._recorded(batches)
        scores = self._scores(versions)
        seen = Seen([name], errors, versions.predicted, scores, _nearest(versions))
        used = self._folds if fold is None else [self._folds[fold]]
        return explanation.explained(
            versions,
            [fitted for fitted, _ in used],
            file=name,
            pixels=batches[0][0][0].numpy(),
            label=label,
            p=float(self.p_values(scores, fold)[0]),
            leaves=int(_leaves(seen)[0]),
            differentiable=self._options.differentiable,
        )

    def _recorded(self, batched: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Recorded]:
        """Each batch, with what the stages say of it."""
        # A batch comes back when the next one is under way: two wait at most.
        waiting: deque[np.ndarray] = deque()

        def kept() -> Iterator[tuple[Tensor, Tensor]]:
            for x, label in batched:
                waiting.append(x.numpy())
                yield x, label

        for found in activations.record(self._classifier, self.layers, kept()):
            pixels = waiting.popleft()
            by_squeezer = partial(squeezed.logits, self._classifier, pixels)
            asked = self.bundle.about["squeezers"], self.bundle.about["step"]
            more = further(*asked, by_squeezer, partial(self._confidences, pixels))
            yield Recorded(self.bundle, found | more)

    def _confidences(self, pixels: np.ndarray, magnitude: float) -> np.ndarray:
        """float64 [m, L], see `detour.preprocessed.confidences`."""
        found = preprocessed.confidences(
            self._classifier, self._recorder, self._gaussians, pixels, [magnitude]
        )
        return found[:, 0]

    # Kept: where the channels are is looked for in its first pass, which takes longer than to score an image.
    @cached_property
    def _recorder(self) -> Recorder:
        return Recorder(self._classifier, self.layers)

    @cached_property
    def _gaussians(self) -> dict[str, Gaussian]:
        held, device = self.bundle.of_classes, self._classifier.mean.device
        return {
            layer: Gaussian(held[f"mean/{layer}"], held[f"whitening/{layer}"], device)
            for layer in self.layers
        }

    def _scores(self, versions: Recorded) -> np.ndarray:
        """float64 [m, K]"""
        each = [
            detectors.scored(fitted, versions, f"{self.bundle.path}, fold {fold}")
            for fold, (fitted, _) in enumerate(self._folds)
        ]
        return np.stack(each, axis=1)

    def _batches(
        self, inputs: list[Any], batch_size: int, errors: list[str]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images that can be decoded, and labels that nobody asks for; `errors` is told of every image."""
        starts = range(0, len(inputs), batch_size)
        with ThreadPoolExecutor() as decoders:
            for start in progress(starts, len(starts), f"batches of {batch_size} images"):
                found = list(decoders.map(self._pixels, inputs[start : start + batch_size]))
                errors += ["" if isinstance(each, Tensor) else each for each in found]
                if good := [each for each in found if isinstance(each, Tensor)]:
                    yield torch.stack(good), torch.zeros(len(good), dtype=torch.int64)

    def _pixels(self, image: Any) -> Tensor | str:
        """uint8 [3, H, W] as the network takes it, or what is wrong."""
        about = self.bundle.about["preprocessing"]
        in_memory = not isinstance(image, Path | Image.Image)
        try:
            pixels = decoded(folders.content(image)) if isinstance(image, Path) else of_memory(image)[0]
            if (in_memory or about["whole"]) and pixels.shape[1:] == (about["crop"], about["crop"]):
                return pixels
            return fitted(pixels, about["resize"], about["crop"])
        # Whatever a decoder raises: the others are scored all the same.
        except Exception as error:
            return shown(str(error)) or type(error).__name__


def _inputs(images: Any) -> Iterator[Any]:
    """Paths of files, PIL images and arrays [H, W], [H, W, 3] or [3, H, W], one an image."""
    if isinstance(images, str | Path):
        path = Path(images)
        if path.is_dir():
            yield from (path / name for name in sorted(folders.images(path)))
        elif path.exists():
            yield path
        else:
            raise InputError(f"found no file or folder {shown(str(path))!r}, expected an image or a folder")
    elif isinstance(images, Image.Image):
        yield images
    elif isinstance(images, np.ndarray | Tensor):
        yield from images if images.ndim == 4 else [images]
    elif isinstance(images, Iterable):
        for each in images:
            yield from _inputs(each)
    else:
        raise InputError(
            f"images: found {quoted(images)}, expected paths, folders, {IMAGE}, or several of them"
        )


def _nearest(versions: Recorded) -> np.ndarray:
    """The class of the nearest medoid at each layer: int64 [m, L]"""
    return versions.to(*PAPER_S).argmin(2)


def _leaves(seen: Seen) -> np.ndarray:
    """The first layer of those up to the last at which the nearest is another: [m], L where there is none."""
    differs = seen.nearest != seen.predicted[:, None]
    return differs.shape[1] - np.logical_and.accumulate(differs[:, ::-1], axis=1).sum(1)
