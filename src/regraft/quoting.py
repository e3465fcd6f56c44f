"""A command's values as Hydra's grammar reads them, without people having to quote them twice."""

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

_BRACKETS = ("[", "{", "'", '"')


def readable(arguments: Sequence[str]) -> list[str]:
    """Returns a command's words, with quotes around values that Hydra's grammar has no word for, such as `~/Photos`.

    What begins as a list, a mapping or a quoted text is left as it is. With `-m` the values between commas are quoted
    one by one.
    """
    is_sweep = not {"-m", "--multirun"}.isdisjoint(arguments)
    return [_readable(argument, is_sweep=is_sweep) for argument in arguments]


def _readable(argument: str, *, is_sweep: bool) -> str:
    key, _, value = argument.partition("=")
    if not value or argument.startswith("-") or value.startswith(_BRACKETS) or _is_read(argument):
        return argument
    parts = value.split(",") if is_sweep else [value]
    return f"{key}={','.join(part if _is_read(f'{key}={part}') else _in_quotes(part) for part in parts)}"


def _in_quotes(text: str) -> str:
    quote = '"' if "'" in text else "'"
    return text if quote in text or text.endswith("\\") else f"{quote}{text}{quote}"


def _is_read(override: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([override])
    except HydraException:
        return False
    return True
