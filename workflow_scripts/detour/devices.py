"""GPUs of one machine, dealt to the jobs that run at once: Snakemake counts them but says not which."""

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

    Jobs that run at once have different ones, and where they are more than the GPUs none serves more than
    its even share. Where the variable is set (by a cluster or a person) or there are no two GPUs, nothing is
    done. To be called before `torch.cuda.is_available`, which initialises CUDA: then it has no effect.
    """
    if VARIABLE in os.environ:
        return
    gpus = _gpus()
    if len(gpus) < 2:
        return
    # Locks are the machine's own, so their place is too.
    folder = Path(tempfile.gettempdir(), f"detour-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    # First a place on each GPU, then a second on each, and so on.
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
    # Without a GPU it says so in words, and may end well.
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
