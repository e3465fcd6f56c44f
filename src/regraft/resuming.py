"""Command-line overrides completed by what a run already knows, before Hydra composes them.

Only strings are handled here; what a checkpoint holds is read later, by the verb.
"""

import re
from pathlib import Path

from regraft.runs import find_checkpoint, run_of

_OVERRIDE = re.compile(r"^(?P<prefix>\+\+|\+|~)?(?P<key>[\w./@:]+)(=(?P<value>.*))?$", re.DOTALL)
_RUN_SECTIONS = re.compile(r"^(data|model|head|augment|loss|trainer|seed)(\.|=)")


def with_resumed_overrides(arguments: list[str]) -> list[str]:
    """Returns the arguments, completed by those of the run that `ckpt_path=` names.

    What the command line repeats wins over what the run was started with. A run's folder (or its last.ckpt) goes on
    in that same folder; any other checkpoint starts a folder of its own.

    Raises:
        FileNotFoundError: `ckpt_path` names nothing that can be resumed; never a fresh start.
    """
    ckpt_path = _value_of("ckpt_path", arguments)
    if ckpt_path is None or not {"-m", "--multirun", "--cfg", "-c"}.isdisjoint(arguments):
        return arguments
    checkpoint = find_checkpoint(ckpt_path, prefer="last")
    run = run_of(checkpoint)
    if run is None:
        return arguments
    given = {_key_of(argument) for argument in arguments}
    kept = [override for override in run.overrides if _key_of(override) not in given | {"ckpt_path"}]
    if checkpoint == run.last_ckpt and "hydra.run.dir" not in given:
        kept.append(f"hydra.run.dir={_quoted(run.path)}")
    return [*kept, *arguments]


def with_appended_sections(arguments: list[str]) -> list[str]:
    """Returns `regraft eval`'s arguments with overrides of the run's own config (`data.root=x`) made appendable.

    The run's config is not part of what Hydra composes here; the verb checks each key against it.
    """
    groups = ("data=", "trainer=")
    return [
        f"++{argument}" if _RUN_SECTIONS.match(argument) and not argument.startswith(groups) else argument
        for argument in arguments
    ]


def _key_of(argument: str) -> str | None:
    match = _OVERRIDE.match(argument)
    return None if match is None or argument.startswith("-") else match["key"]


def _value_of(key: str, arguments: list[str]) -> str | None:
    values = [argument.partition("=")[2] for argument in arguments if _key_of(argument) == key]
    value = values[-1].strip("'\"") if values else "null"
    return None if value in ("null", "") else value


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
