"""A candidate of a command before it is built. Imports no torch, as it is made while a command is checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regraft.core.input_spec import InputSpec


@dataclass(frozen=True, eq=False)
class Choice:
    """A candidate before it is built.

    Attributes:
        model: its name, as the command gives it.
        spec: the class of its input spec.
        size: of the inputs; None for the model's own.
        overrides: what `regraft train` takes for it, beside those of the command.
        composed: returns the config of that run, in plain types.
    """

    model: str
    spec: "type[InputSpec]"
    size: int | None
    overrides: tuple[str, ...]
    composed: Callable[[], dict[str, Any]]

    @property
    def name(self) -> str:
        """The model, and the input size if one is chosen."""
        return self.model if self.size is None else f"{self.model} at {self.size} {self.spec.size_unit}"
