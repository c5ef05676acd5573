"""Snakemake commands, each in a fork of this process: importing Snakemake takes two thirds of a dry run's time.

A line of standard input is a command, `{folder, arguments, environment, printed}` as JSON; its exit status is a line of
standard output. A fork imports nothing of the workflow before the command does, so it is what a new process would be.
"""

import json
import os
import sys

import snakemake.cli


def run(folder: str, arguments: list[str], environment: dict[str, str], printed: str) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    # As `python -m` in that folder has it.
    sys.path[0] = folder
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    file = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(file, standard)
    snakemake.cli.main(arguments)


for line in sys.stdin:
    child = os.fork()
    if not child:
        run(**json.loads(line))
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
