"""What is kept of many predictions: how many of each class, the first ones, and what couldn't be predicted."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from regraft.deployment.predict.results import Prediction

NUM_FIRST = 20
NUM_BAD = 5


@dataclass
class Tally:
    """Counts predictions; its size doesn't grow with their number.

    Attributes:
        num: of all.
        num_bad: of those with an error.
        counts: pictures of each predicted class.
        confidences: the sum of their probabilities.
        first: the first ones without an error.
        bad: the first ones with one.
    """

    num: int = 0
    num_bad: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    confidences: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    first: list[Prediction] = field(default_factory=list)
    bad: list[Prediction] = field(default_factory=list)

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Counts some more."""
        for prediction in predictions:
            self.num += 1
            self.num_bad += prediction.error is not None
            kept, limit = (self.first, NUM_FIRST) if prediction.error is None else (self.bad, NUM_BAD)
            if len(kept) < limit:
                kept.append(prediction)
            for guess in prediction.top[:1]:
                self.counts[guess.class_name] += 1
                self.confidences[guess.class_name] += guess.probability
