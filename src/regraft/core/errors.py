"""Mistakes of a user's as data: which key, what it was given, what is allowed, how to fix it.

The message is composed where it is shown, and nothing reads it to decide what to do.
"""

import copy
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Self

_NOT_GIVEN = object()


class ConfigError(ValueError):
    """A mistake in what a user gave.

    Args:
        key: that it is about, such as `optimizer.lr`; None if it is about no single one.
        reason: what is wrong, where `got` and `allowed` don't say it.
        got: the value.
        allowed: what it may be: a description, or the choices.
        fix: what to do about it, a sentence.

    Attributes:
        key: see above.
        reason: see above.
        got: see above; absent values and `None` differ, see `is_value_known`.
        allowed: see above.
        fix: see above.
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
        self.is_value_known = got is not _NOT_GIVEN
        self.got = got if self.is_value_known else None
        self.allowed = allowed
        self.fix = fix

    def __str__(self) -> str:
        return self.text if self.key is None else f"{self.key}: {self.text}" if self.text else self.key

    @property
    def text(self) -> str:
        """The message without the key."""
        clauses = [f"got {self.got!r}"] if self.is_value_known else []
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
    """A name that isn't one of those that could stand in its place.

    Args:
        key: that it was given to, or that it is itself.
        kind: of name.
        got: the name.
        allowed: all that could stand in its place.
        elsewhere: dotted keys that may have been meant, if none of those is near.
    """

    def __init__(
        self, key: str | None, kind: str, got: str, allowed: Sequence[str], elsewhere: Sequence[str] = ()
    ) -> None:
        super().__init__(key, f"unknown {kind}", got=got, allowed=list(allowed))
        self.args = (key, kind, got, allowed, elsewhere)

    @property
    def text(self) -> str:
        """The message without the key."""
        _, kind, got, allowed, elsewhere = self.args
        return unknown(kind, got, allowed, elsewhere)


class MissingFileError(ConfigError, FileNotFoundError):
    """A key names a file or a folder that isn't there."""


class ConfigErrors(ExceptionGroup[ConfigError], ValueError):  # noqa: N818
    """All mistakes of one command.

    Args:
        errors: at least one; of equal ones, one is kept.
    """

    def __new__(cls, errors: Iterable[ConfigError]) -> Self:
        """Returns the group, which a single error is, too."""
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
        """One line an error."""
        return tuple(map(_line, self.exceptions))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def errors_in(error: Exception) -> list[ConfigError]:
    """Returns the mistakes that an exception holds; one of another kind becomes a mistake that is about no key."""
    if isinstance(error, ConfigErrors):
        return [each for each in error.exceptions if isinstance(each, ConfigError)]
    return [error if isinstance(error, ConfigError) else ConfigError(None, str(error) or type(error).__name__)]


def unknown(kind: str, got: str, allowed: Sequence[str], elsewhere: Sequence[str] = ()) -> str:
    """Returns what is wrong with an unknown name: the name, the nearest allowed one, and all of them.

    Args:
        kind: of name.
        got: the name.
        allowed: all that could stand in its place.
        elsewhere: dotted keys that may have been meant, if none of those is near.
    """
    near = difflib.get_close_matches(got, allowed, n=1)
    if not near:
        by_name = {key.rpartition(".")[2]: key for key in reversed(elsewhere)}
        near = [by_name[name] for name in difflib.get_close_matches(got, by_name, n=1)]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {got!r}.{hint} Allowed: {', '.join(allowed)}."
