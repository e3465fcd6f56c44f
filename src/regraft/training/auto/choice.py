"""A candidate of a command before it is built. Imports no torch, as it is made while a command is checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Choice:
    """A candidate before it is built.

    Attributes:
        model: its name, as the command gives it.
        size: in pixels; None for the model's own.
        overrides: what `regraft train` takes for it, beside those of the command.
        composed: returns the config of that run, in plain types.
    """

    model: str
    size: int | None
    overrides: tuple[str, ...]
    composed: Callable[[], dict[str, Any]]

    @property
    def name(self) -> str:
        """The model, and the image size if one is chosen."""
        return self.model if self.size is None else f"{self.model} at {self.size} px"
