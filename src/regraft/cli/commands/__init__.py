"""The commands, one per file: `NAME.py` defines `COMMAND`, and the first line of its docstring is its line in the help.

A file is imported when its command runs, so it may import what it needs at the top, except for torch, which it imports
after it has checked its arguments.
"""

import importlib
from pathlib import Path

from regraft.cli.command import Command
from regraft.core.errors import UnknownNameError


def names() -> list[str]:
    """Returns the names of the public commands, in alphabetical order."""
    return sorted(name for name in _files() if not name.startswith("_"))


def summaries() -> dict[str, str]:
    """Returns each command's line in the help, without importing the commands."""
    return {name: _first_line(name) for name in names()}


def summary(name: str) -> str:
    """Returns what a command does, a sentence, without its usage."""
    return _first_line(name).partition(": regraft")[0].rstrip(".") + "."


def _first_line(name: str) -> str:
    return _files()[name].read_text(encoding="utf-8").partition("\n")[0].strip('"')


def find(name: str) -> Command:
    """Returns the command of that name."""
    if name not in _files() or name == "__init__":
        raise UnknownNameError(None, "command", name, names())
    return importlib.import_module(f"{__name__}.{name}").COMMAND


def _files() -> dict[str, Path]:
    return {path.stem: path for folder in __path__ for path in Path(folder).glob("*.py")}
