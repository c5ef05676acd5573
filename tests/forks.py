"""Forks: Python whose imports are done, in place of a new process for Snakemake and for each of its jobs.

Importing torch, scikit-learn and Snakemake takes most jobs of a small run longer than their work. A server imports them
once and forks; nothing of the workflow is imported before the fork, so that it is what a new process would be.

`forks.py serve PLACE` is the server, until its standard input ends. `forks.py PLACE PYTHON ARGUMENTS...` is what the file
PYTHON calls, which is put in place of the interpreter: it waits for the fork, and ends as that does.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

# What a process ends as.
status = 0


# Registered first and called last: what was imported is not taken apart, which takes seconds.
@atexit.register
def end() -> None:
    if "torch" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


# Beside torch.
IMPORTED = (
    "dask.array", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg", "matplotlib.figure", "pandas", "PIL.Image", "pydantic", "scipy.linalg",
    "sklearn.linear_model", "sklearn.manifold", "sklearn.metrics", "snakemake.cli", "snakemake.script", "torchvision", "zarr",
)  # fmt: skip

# Of what is asked for: its length comes first, with the three standard files.
SIZE = 8


def ask(place: str, python: str, *arguments: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        asked = json.dumps([str(Path.cwd()), python, arguments, dict(os.environ)]).encode()
        socket.send_fds(server, [len(asked).to_bytes(SIZE, "big")], [0, 1, 2])
        server.sendall(asked)
        status = int(server.makefile().readline())
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    sys.exit(os.waitstatus_to_exitcode(status))


def serve(place: str) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(place)
    listening.listen()
    # Forks that have ended wait for nobody.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("listens", flush=True)
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        if not os.fork():
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(connection)
            return
        connection.close()


def answer(connection: socket.socket) -> None:
    size, files, *_ = socket.recv_fds(connection, SIZE, 3)
    asked = connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    if not (job := os.fork()):
        connection.close()
        for standard, file in enumerate(files):
            os.dup2(file, standard)
            os.close(file)
        leave(*json.loads(asked))
        return
    for file in files:
        os.close(file)
    ended = os.pidfd_open(job)
    if ended not in select.select([connection, ended], [], [])[0]:
        # Whoever waited for it was stopped.
        os.kill(job, signal.SIGTERM)
    status = os.waitpid(job, 0)[1]
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{status}\n".encode())


def leave(*asked: Any) -> None:
    """Run what was asked for, and keep the status that the process shall end with."""
    global status
    try:
        run(*asked)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1


def run(folder: str, python: str, arguments: list[str], environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # Read at the import, which was in another environment.
    if threads := environment.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
        threadpoolctl.threadpool_limits(int(threads))
    interpreter, sys.executable = sys.executable, python
    kind, *rest = arguments[arguments[0] == "-P" :]
    sys.argv = [kind, *rest]
    sys.path[0:1] = ["", *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    if kind == "-m":
        sys.argv = rest
        sys.path[0:1] = [] if arguments[0] == "-P" else [folder]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})
    elif kind.startswith("-"):
        os.execv(interpreter, [interpreter, *arguments])
    else:
        sys.path[0] = str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


if sys.argv[1] == "serve":
    import threadpoolctl
    import torch

    for name in IMPORTED:
        importlib.import_module(name)
    # What a fork collects, it would copy.
    gc.freeze()
    serve(sys.argv[2])
else:
    ask(*sys.argv[1:])
