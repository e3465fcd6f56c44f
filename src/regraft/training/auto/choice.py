"""A candidate of a command before it is built. Imports no torch, as it is made while a command is checked."""

from dataclasses import dataclass
from typing import Any

from regraft.core.errors import ConfigErrors


@dataclass(frozen=True, eq=False)
class Choice:
    """A candidate before it is built.

    Attributes:
        model: its name, as the command gives it.
        size: in pixels; None for the model's own.
        overrides: what `regraft train` takes for it, beside those of the command.
        config: of that run, in plain types, or why it can't be composed.
    """

    model: str
    size: int | None
    overrides: tuple[str, ...]
    config: dict[str, Any] | ConfigErrors

    @property
    def name(self) -> str:
        """The model, and the image size if one is chosen."""
        return self.model if self.size is None else f"{self.model} at {self.size} px"

    def composed(self) -> dict[str, Any]:
        """Returns the config; raises ConfigErrors if there is none."""
        if isinstance(self.config, ConfigErrors):
            raise self.config
        return self.config
