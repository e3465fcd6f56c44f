"""Completion: the verbs, runs and whatever else a verb's Hydra app knows."""

import contextlib
import io
import os
from collections.abc import Callable
from typing import Any

from regraft.cli.help import VERBS
from regraft.config.compose import group_names

RunApp = Callable[[str, list[str]], Any]
_TAKE_A_RUN = ("eval", "export", "predict", "report", "resume", "reproduce", "serve")


def complete(arguments: list[str], run_app: RunApp) -> None:
    """Answers Hydra's completion script.

    Args:
        arguments: what Hydra's script gives.
        run_app: runs the Hydra app of a config's name with arguments.
    """
    if not (arguments and arguments[0].startswith("query=")):
        run_app("train", ["--shell-completion", *arguments])  # install or uninstall: Hydra's own script
        return
    program, _, rest = os.environ["COMP_LINE"].partition(" ")
    verb, has_verb, overrides = rest.lstrip().partition(" ")
    if not has_verb:
        print(" ".join(name for name in VERBS if name.startswith(verb)))
    elif verb == "list":
        print(" ".join(group_names()))
    elif verb == "cache":
        print("ls size clear")
    elif verb == "data" and not overrides.lstrip().startswith("check "):
        print("check")
    elif verb == "compare":
        word = overrides.rpartition(" ")[2]
        names = [handle.removeprefix("run=") for handle in _handles()]
        print(" ".join(name for name in names if name.startswith(word)))
    elif verb in _TAKE_A_RUN and overrides.rpartition(" ")[2].startswith("run="):
        handle = overrides.rpartition(" ")[2]
        print(" ".join(word for word in _handles() if word.startswith(handle)))
    elif verb in ("train", "check", "eval", "export", "predict", "probe", "resume", "serve", "data"):
        verb = {"check": "train", "resume": "train", "data": "data_check"}.get(verb, verb)
        overrides = overrides.lstrip().removeprefix("check ")
        known = [word for word in overrides.split(" ") if not word.startswith("run=")]
        os.environ["COMP_LINE"] = " ".join([program, *known])
        answer = io.StringIO()
        with contextlib.redirect_stdout(answer):
            run_app(verb, ["--shell-completion", *arguments])
        # Files that start with an underscore are what choices are made of, not choices.
        print(" ".join(word for word in answer.getvalue().split() if "=_" not in word))


def _handles() -> list[str]:
    """Returns what can stand for a run in the folder where runs are by default."""
    from regraft.runs.find import all_runs, name_of

    return ["run=last", "run=best", *(f"run={name_of(run, 'outputs')}" for run in all_runs("outputs"))]
