"""The texts of mistakes on a report's page, with the words that mattered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regraft.data.text.cleaning import COLUMN_SEPARATOR

if TYPE_CHECKING:
    from regraft.data.datamodule import DataModule
    from regraft.deployment.classifier import Classifier

LATER = "Which words mattered: regraft report run=... adds it."
_MAX_LETTERS = 1_200
_LEAST_WEIGHT = 0.02


@dataclass(frozen=True)
class ShownText:
    """A text, with how much each part of it mattered.

    Attributes:
        parts: the text's parts in order, each with the change of the predicted class's probability that it makes; 0
            if that wasn't requested.
        is_cut: whether the text is longer.
    """

    parts: Sequence[tuple[str, float]]
    attention: bool
    is_cut: bool
    file: str | None = None

    page = "mistake_text.html"
    explanation = (
        "Words are marked by how much the predicted class's probability falls without them (orange), or rises (green)."
    )

    @property
    def marked(self) -> list[tuple[str, str, float]]:
        """The parts, whether each is `for` the class, `against` it or neither, and how strongly, in [0.15, 0.6]."""
        most = max((abs(weight) for _, weight in self.parts), default=0.0)
        found = []
        for text, weight in self.parts:
            side = "" if abs(weight) < max(_LEAST_WEIGHT, most / 10) else "for" if weight > 0 else "against"
            found.append((text, side, 0.15 + 0.45 * abs(weight) / most if side else 0.0))
        return found


def gallery(
    data: "DataModule",
    split: str,
    indices: Sequence[int],
    classes: Sequence[int],
    model: "Classifier | None",
    seconds: float | None,
    notes: dict[str, str],
) -> Iterator[tuple[int, ShownText]]:
    """Yields for each text its position in `indices`, and what is shown of it.

    Args:
        indices: in the source of the split.
        classes: whose probability the words matter for.
        model: that the words matter for; None for texts alone.
        seconds: of no importance, as texts are in memory.
        notes: gets nothing.
    """
    from regraft.deployment.word_attribution import word_weights

    texts = data.part(split).samples
    for position, index in enumerate(indices):
        if not 0 <= index < len(texts):
            continue  # the report says how many are missing
        text = texts[index]  # type: ignore[index]
        shown = text[:_MAX_LETTERS]
        parts = [(shown, 0.0)] if model is None else word_weights(model, shown, classes[position])
        readable = [(part.replace(COLUMN_SEPARATOR, " | "), weight) for part, weight in parts]
        yield position, ShownText(readable, model is not None, len(shown) < len(text))
