"""The accelerator: images a second of InceptionV3 at 299 x 299, forward and attacked, in each precision.

Measured on the device that is here; and the limit that arithmetic sets on some GPUs: their data sheets' dense
peak over the operations of a pass, counted by torch on the network itself. No device reaches its limit; it is
given for the order of magnitude, and so that a measured figure can be judged.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model

from benchmarks import timing
from benchmarks.attacks import CUDA_ONLY, MEAN, STD, loaded, seeded, with_tf32
from benchmarks.sections import Table
from detour import classifiers
from detour.attacks import adversarial
from detour.classifiers import Classifier
from detour.options.attacks.gradients import Iterative

GOAL = "Measured images a second where an accelerator is at hand; where none is, 'not measured'."

NOTES = [
    "Peaks in TFLOP/s, dense, of NVIDIA's data sheets: A100 SXM 19.5 (float32), 156 (TF32), 312 (bfloat16,"
    " float16); H100 and H200 SXM 67, 495, 989.",
    "An iterated step is a forward pass and the gradient of the pixels, which is a second pass of about the same"
    " number of operations: gradients of the weights are not computed.",
]

PEAKS = {"A100 SXM": (19.5e12, 156e12, 312e12, 312e12), "H100 or H200 SXM": (67e12, 495e12, 989e12, 989e12)}
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
STEPS = 20


def run(quick: bool) -> list[Table]:
    device = classifiers.device_of("auto")
    cuda = device.type == "cuda"
    n, steps, rounds = (256, STEPS, 3) if cuda else (2, 1, 1) if quick else (8, 2, 1)
    images = np.random.default_rng(0).integers(256, size=(n, 3, 299, 299), dtype=np.uint8)
    pixels = torch.from_numpy(images).to(device)
    network = seeded("inception_v3", pixels[:64].cpu().float() / 255)
    attack = Iterative(name="a", method="iterative", eps=16, target="dataset", steps=steps, step=1)
    target = np.arange(n) % 1000
    here = [p for p in PRECISIONS if cuda or p not in CUDA_ONLY]
    nets = {p: loaded("inception_v3", network, device, p) for p in here}

    def measured(call: Callable[..., Any], *arguments: Any) -> dict[str, timing.Timing]:
        calls = {p: partial(with_tf32, partial(call, nets[p], *arguments), allowed=p == "tf32") for p in here}
        return timing.side_by_side(calls, "float32", rounds)

    forward = measured(passed, pixels)
    attacked = measured(adversarial, images, target, attack, [0] * n)
    rows = [
        {
            "precision": p,
            "forward, images/s": n / forward[p].seconds,
            f"attacked in {STEPS} steps, images/s": n * steps / STEPS / attacked[p].seconds,
            "operations, TFLOP/s": n * operations() / forward[p].seconds / 1e12,
        }
        if p in here
        else {"precision": p, "forward, images/s": "not measured"}
        for p in PRECISIONS
    ]
    limits = [
        {
            "GPU": gpu,
            "precision": p,
            "forward, images/s at most": peak / operations(),
            f"attacked in {STEPS} steps, images/s at most": peak / operations() / 2 / STEPS,
            "measured": "see above"
            if cuda and any(word in torch.cuda.get_device_name() for word in gpu.split()[::2])
            else "not measured",
        }
        for gpu, peaks in PEAKS.items()
        for p, peak in zip(PRECISIONS, peaks, strict=True)
    ]
    name = torch.cuda.get_device_name() if cuda else "the CPU"
    return [
        Table(f"InceptionV3 on {name}, batches of {n}", rows),
        Table(f"Limits by arithmetic: {operations() / 1e9:.1f} GFLOP a forward pass", limits),
    ]


@torch.inference_mode()
def passed(net: Classifier, pixels: torch.Tensor) -> None:
    net(pixels.float().div(255))


def operations() -> float:
    """Of one forward pass of one image; a multiplication and an addition are two."""
    with torch.device("meta"):
        net = Classifier(get_model("inception_v3", weights=None, init_weights=False), MEAN, STD).eval()
        counter = FlopCounterMode(display=False)
        with counter:
            net(torch.empty(1, 3, 299, 299))
    return counter.get_total_flops()
