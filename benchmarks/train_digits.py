"""Train the weights that the default run uses: `python -m benchmarks.train_digits`, some minutes.

On the digits that are in no test of up to 500 images, as `classifier.weights: train` does in a run, with one thread.
On another kind of processor, or with other versions, the floats differ in their last places and the file differs.
"""

import hashlib
import logging

import torch
from safetensors.torch import save_file

from benchmarks.machine import description
from detour import classifiers, datasets
from detour.classifiers import Classifier
from detour.datasets import Labelled
from detour.options.classifier import Training
from detour.weights import WEIGHTS

MODEL, NAME = "small_resnet", "DIGITS"
TRAINING = Training(epochs=20, batch_size=64, lr=0.004)
SEED = 0


def main() -> None:
    torch.set_num_threads(1)
    own = WEIGHTS[MODEL][NAME]
    log = own.path.with_suffix(".log")
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(log, mode="w")],
    )
    dataset = datasets.dataset({"test": own.held_out, **own.requires["dataset"]})
    reference = dataset.reference_images()
    names = hashlib.sha256("\n".join(reference.names).encode()).hexdigest()
    network = classifiers.untrained(MODEL, own.classes, SEED)
    logging.info("%s: %d parameters", MODEL, sum(p.numel() for p in network.parameters()))
    logging.info("%s, seed %d", TRAINING, SEED)
    logging.info("%d images, SHA-256 of their names %s", len(reference.label), names)
    logging.info("torch %s, one thread, %s", torch.__version__, description()["CPU"])
    classifier = Classifier(network, **own.requires["classifier"])
    classifiers.train(classifier, reference, TRAINING, SEED, torch.device("cpu"))
    right = accuracy(classifier, dataset.test_images())
    logging.info("%.1f %% of the %d test images right", 100 * right, own.held_out)
    save_file(network.state_dict(), own.path)
    logging.info("SHA-256 %s, %d bytes", classifiers.sha256(own.path), own.path.stat().st_size)


def accuracy(classifier: Classifier, images: Labelled) -> float:
    """Share of the images whose class is predicted."""
    classifier.eval()
    with torch.no_grad():
        right = [int(classifier(x[None].float() / 255).argmax()) == y for x, y in images.images]
    return sum(right) / len(right)


if __name__ == "__main__":
    main()
