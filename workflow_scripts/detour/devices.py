"""Assign the GPUs of a machine to the jobs that run at once: Snakemake counts them but does not name them."""

import fcntl
import logging
import os
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import IO

VARIABLE = "CUDA_VISIBLE_DEVICES"

logger = logging.getLogger(__name__)

# Held for the life of the process: the kernel frees a lock when its process ends, however it ends. Forked
# workers of a loader share the descriptor and with it the lock; they end with their parent.
_held: list[IO[bytes]] = []


def claim() -> None:
    """Choose a GPU by CUDA_VISIBLE_DEVICES, for this process and those that it starts.

    Jobs that run at once get different GPUs; more jobs than GPUs are spread evenly over them. Nothing is done
    if the variable is set (by a cluster or a person) or there are fewer than two GPUs. Call this before
    `torch.cuda.is_available`, which initialises CUDA: afterwards it has no effect.
    """
    if VARIABLE in os.environ:
        return
    gpus = _gpus()
    if len(gpus) < 2:
        return
    # The locks are for this machine, so their folder is local.
    folder = Path(tempfile.gettempdir(), f"detour-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    # Try the first place on each GPU, then the second on each, and so on.
    for place in count():
        for gpu in gpus:
            if _locked(folder / f"{gpu}.{place}"):
                os.environ[VARIABLE] = gpu
                logger.info("device: %s, one of %d", gpu, len(gpus))
                return


def _gpus() -> list[str]:
    """UUIDs of the GPUs of this machine."""
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return []
    if asked.returncode:
        said = (asked.stdout + asked.stderr).strip()
        logger.warning("device: none is chosen, nvidia-smi ended with %d: %s", asked.returncode, said)
        return []
    # Without a GPU it prints a sentence instead, and may exit with 0.
    return [word for word in asked.stdout.split() if word.startswith("GPU-")]


def _locked(path: Path) -> bool:
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _held.append(file)
    return True
