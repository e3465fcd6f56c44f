"""Shell completion: commands, runs, and what Hydra completes."""

import contextlib
import io
import os
from collections.abc import Sequence

from regraft.cli import commands
from regraft.cli.command import Command
from regraft.cli.hydra_app import run_app
from regraft.config.fitting import IN_STEPS, asking_for_steps
from regraft.core.text import say

_OF_FITTING = ("head.", "optimizer.", "scheduler.")
"""Sections whose keys depend on whether the head is trained in steps; a key of them may be what chooses it."""


def complete(arguments: list[str]) -> None:
    """Prints completions for Hydra's script, which passes the arguments; the line is in the environment."""
    if not (arguments and arguments[0].startswith("query=")):
        run_app(commands.find("train"), ["--shell-completion", *arguments])  # install or uninstall: Hydra's own script
        return
    program, _, rest = os.environ["COMP_LINE"].partition(" ")
    name, has_name, typed = rest.lstrip().partition(" ")
    if not has_name:
        say(" ".join(each for each in commands.names() if each.startswith(name)))
    elif name in commands.names():
        command, typed = commands.find(name), typed.lstrip()
        last = typed.rpartition(" ")[2]
        if command.takes_run and last.startswith("run="):
            say(" ".join(each for each in (f"run={run}" for run in run_references()) if each.startswith(last)))
        elif command.config_name is None or (command.words() and " " not in typed):
            say(" ".join(word for word in command.words() if word.startswith(last)))
        else:
            say(" ".join(_hydra_words(command, program, typed, arguments)))


def run_references() -> list[str]:
    """Returns the values of `run=` for the runs in `outputs`."""
    from regraft.runs.find import all_runs, name_of

    return ["last", "best", *(name_of(run, "outputs") for run in all_runs("outputs"))]


def _hydra_words(command: Command, program: str, typed: str, arguments: list[str]) -> list[str]:
    """Returns Hydra's completions of what was typed, without the words that Hydra doesn't know."""
    known = [word for word in typed.split(" ") if not word.startswith("run=") and word not in command.words()]
    if command.config_name != "train":
        return _answer(command, [program, *known], arguments)
    if asking_for_steps(known[:-1]):
        return _answer(command, [program, IN_STEPS, *known], arguments)
    found = _answer(command, [program, *known], arguments)
    if "".join(known[-1:]).startswith(_OF_FITTING):
        found += _answer(command, [program, IN_STEPS, *known], arguments)
    return list(dict.fromkeys(found))


def _answer(command: Command, line: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Returns Hydra's completions of the last word of a line."""
    os.environ["COMP_LINE"] = " ".join(line)
    answer = io.StringIO()
    with contextlib.redirect_stdout(answer):
        run_app(command, ["--shell-completion", *arguments])
    # Files that start with an underscore are bases of choices.
    return [word for word in answer.getvalue().split() if "=_" not in word]
