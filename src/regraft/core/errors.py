"""Mistakes of a user's as data: which key, what it was given, what is allowed, how to fix it.

The message is composed where it is shown, and nothing reads it to decide what to do.
"""

import copy
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Self

_MAX_LISTED = 10
_MAX_MEANT = 3
_NOT_GIVEN: Any = ...  # Ellipsis stays the same object when it is pickled


class ConfigError(ValueError):
    """A mistake in what a user gave.

    Args:
        key: such as `optimizer.lr`; None if it isn't about a single one.
        reason: what is wrong, where `got` and `allowed` don't say it.
        got: the value, which may be None; `...` if there is none.
        allowed: a description, or the choices.
        fix: what to do about it, a sentence.
    """

    def __init__(
        self,
        key: str | None,
        reason: str = "",
        *,
        got: Any = _NOT_GIVEN,
        allowed: str | Sequence[str] | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason
        self.got = got
        self.allowed = allowed
        self.fix = fix

    def __str__(self) -> str:
        return self.text if self.key is None else f"{self.key}: {self.text}" if self.text else self.key

    @property
    def text(self) -> str:
        """The message without the key."""
        clauses = [] if self.got is _NOT_GIVEN else [f"got {_shown(self.got)}"]
        clauses += [self.reason] if self.reason else []
        if self.allowed is not None:
            clauses.append(f"allowed: {self.allowed if isinstance(self.allowed, str) else ', '.join(self.allowed)}")
        if not clauses:  # made again from a message alone, as a loader's worker process does
            return ""
        text = "; ".join(clauses)
        text += "" if text.endswith((".", "?", "!")) else "."
        return f"{text} {self.fix}" if self.fix else text

    def about(self, key: str | None) -> Self:
        """Returns the same mistake, reported for another key."""
        copied = copy.copy(self)
        copied.key = key
        return copied

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfigError) and (self.key, str(self)) == (other.key, str(other))

    def __hash__(self) -> int:
        return hash((self.key, str(self)))


class UnknownNameError(ConfigError):
    """A name that isn't one of those allowed in its place."""

    def __init__(
        self,
        key: str | None,
        kind: str,
        got: str,
        allowed: Sequence[str],
        elsewhere: Sequence[str] = (),
        meant: Sequence[str] = (),
    ) -> None:
        super().__init__(key, f"unknown {kind}", got=got, allowed=list(allowed))
        self.args = (key, kind, got, allowed, elsewhere, meant)

    @property
    def text(self) -> str:
        """The message without the key."""
        _, *rest = self.args
        return unknown(*rest)


class MissingFileError(ConfigError, FileNotFoundError):
    """A key names a file or a folder that isn't there."""


class UnreachableError(ConfigError, ConnectionError):
    """A key names what has to be downloaded, and its host can't be reached."""


class ConfigErrors(ExceptionGroup[ConfigError], ValueError):  # noqa: N818
    """All mistakes of one command, at least one; equal ones count once."""

    def __new__(cls, errors: Iterable[ConfigError]) -> Self:
        """Returns the group."""
        kept = list(dict.fromkeys(errors))
        return super().__new__(cls, "\n".join(map(_line, kept)), kept)

    def __str__(self) -> str:
        return self.message

    def derive(self, excs: Sequence[ConfigError]) -> Self:  # type: ignore[override]
        """Returns a group of some of the errors."""
        return type(self)(excs)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self.exceptions),)

    @property
    def messages(self) -> tuple[str, ...]:
        """One line for each error."""
        return tuple(map(_line, self.exceptions))


def _shown(value: Any) -> str:
    """Returns a value as a command line has it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def require(is_valid: bool, key: str, got: Any, allowed: str | Sequence[str], fix: str | None = None) -> None:
    """Raises a ConfigError unless a key's value is valid."""
    if not is_valid:
        raise ConfigError(key, got=got, allowed=allowed, fix=fix)


def cache_choice(key: str, got: str | bool) -> str:
    """Returns `auto`, `on` or `off`, of which YAML 1.1 reads the last two as booleans; or raises a ConfigError."""
    choice = ("on" if got else "off") if isinstance(got, bool) else got
    require(choice in ("auto", "on", "off"), key, got, "auto, on, off")
    return choice


def listed(names: Iterable[str], separator: str = ", ") -> str:
    """Returns up to 10 names for a message, and the number of the others; "none" if there is none."""
    names = list(names)
    more = [f"and {len(names) - _MAX_LISTED:,} more"] if len(names) > _MAX_LISTED else []
    return separator.join([*names[:_MAX_LISTED], *more]) or "none"


def errors_in(error: Exception) -> list[ConfigError]:
    """Returns the mistakes that an exception holds; another kind of exception becomes a mistake without a key."""
    if isinstance(error, ConfigErrors):
        return [each for each in error.exceptions if isinstance(each, ConfigError)]
    return [error if isinstance(error, ConfigError) else ConfigError(None, str(error) or type(error).__name__)]


def unknown(
    kind: str, got: str, allowed: Sequence[str], elsewhere: Sequence[str] = (), meant: Sequence[str] = ()
) -> str:
    """Returns a sentence about an unknown name: the name, the nearest allowed one, and all allowed ones.

    Args:
        elsewhere: dotted keys that may have been meant, if no allowed name is near.
        meant: keys that were meant more likely than a near name.
    """
    near = list(meant[:_MAX_MEANT]) or difflib.get_close_matches(got, allowed, n=1)
    if not near:
        by_name = {key.rpartition(".")[2]: key for key in reversed(elsewhere)}
        near = [by_name[name] for name in difflib.get_close_matches(got, by_name, n=1)]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"unknown {kind} {got!r}.{hint} Allowed: {', '.join(allowed) or 'none'}."
