import gc
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Snakemake keeps nearly all that it makes: with thousands of jobs, looking for garbage took a fifth of its time.
gc.set_threshold(100_000)

# Not `workflow.basedir`, which is the folder of the workflow that has this one as a module.
ROOT = Path(str(workflow.current_basedir)).parent
SCRIPTS = ROOT / "workflow_scripts"
sys.path.insert(0, str(SCRIPTS))

from detour import console
from detour.handover import SHARED, Handover, growing
from detour.plan import REPRESENTATIVES, artefact, csv

try:
    console.prepare(SCRIPTS)
    PLAN = console.planned(
        config,
        workflow.configfiles,
        first=workflow.is_main_process,
        say=logger.info,
    )
except (ValueError, OSError) as error:
    raise WorkflowError(error) from None


# A module's come before the workflow's own; what an artefact is, is told by where it is.
if given := [name for name, level in workflow.pathvars.level.items() if level == 1]:
    raise WorkflowError(
        f"module: pathvars: found {', '.join(given)}, expected none: artefacts are under `results/{{run}}/`, by"
        " which they are checked; name the run by `run` of the configuration, and the folder by the module's"
        " `prefix`"
    )


pathvars:
    run=f"results/{PLAN.run.run}",


GPU = 0 if PLAN.run.device == "cpu" else 1

HANDOVER = Handover(PLAN, SCRIPTS)
told, runs = HANDOVER.told, HANDOVER.runs
expected, dask = HANDOVER.expected, HANDOVER.dask
fitting, of_joint = HANDOVER.fitting, HANDOVER.of_joint


def reads(stage):
    return unpack(HANDOVER.reads(stage))
