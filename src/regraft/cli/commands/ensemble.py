"""Make one run of the folds or seeds of a configuration: regraft ensemble SWEEP | RUN...

Its network averages their heads, or their networks where the backbones were trained.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.cli.command import Command
from regraft.cli.completion import run_references
from regraft.config.quoting import for_shell
from regraft.config.trust import look_beside, named_in
from regraft.core.errors import ConfigError
from regraft.core.text import say
from regraft.runs.arguments import output_dir

if TYPE_CHECKING:
    from regraft.runs.folder import Run


def run(arguments: Sequence[str]) -> None:
    """Writes the run and prints what to do with it; see the command's help."""
    made = ensemble_once(arguments)
    what = "networks" if made.config.get("ensemble_of_networks") else "heads"
    say(f"run: {made.path}, the mean of {len(made.results['members'])} {what}")
    reference = for_shell("run", made.path)
    say(f"  regraft predict {reference} input=PATH\n  regraft serve {reference}")


def ensemble_once(arguments: Sequence[str]) -> "Run":
    """Returns the run that is the mean of others; see `regraft.ensemble`."""
    references, given = COMMAND.split(arguments)
    if not references:
        raise ConfigError("ensemble", "no run is given", allowed=COMMAND.usage)
    folder = Path(output_dir(arguments)).expanduser().resolve()
    trust = named_in([f"trust={given['trust']}"] if "trust" in given else [])
    look_beside(trust)

    from regraft.deployment.ensemble import make_ensemble
    from regraft.evaluation.compare.finding import find_runs

    runs = [each for each in find_runs(references, folder) if each.is_finished]
    name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{secrets.token_hex(3)}"
    return make_ensemble(runs, folder / "ensembles" / name, trust)


COMMAND = Command(
    name="ensemble",
    run=run,
    usage="regraft ensemble SWEEP | RUN... [output_dir=PATH] [trust=[...]]",
    details="""The finished runs of a sweep, or those that are named, become one run: the folds of data.folds, or
several seeds, of one configuration. On one frozen backbone its network averages the logits of their heads; where the
backbones were trained, the probabilities or values of their networks. It is predicted with, exported and served as any
other. output_dir=PATH is the folder of all runs.""",
    keys=("output_dir", "trust"),
    words=run_references,
)
