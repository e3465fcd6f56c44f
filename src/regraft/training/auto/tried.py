"""What a search knows about a candidate so far."""

import math
from dataclasses import dataclass

from regraft.training.auto.candidates import Candidate
from regraft.training.auto.choice import Choice
from regraft.training.auto.scores import Score


@dataclass(eq=False)
class Tried:
    """A candidate of a search.

    Attributes:
        num_images: on which it was scored last; 0 if it wasn't.
        score: the last one.
        seconds: spent on it.
        reason: why it isn't taken along; None for the best one.
        is_too_slow: whether that is because there isn't the time for a run of it.
        is_open: whether it is because there wasn't the time to compare it with those that are as good so far.
        longest: see `Candidate`.
        has_run: whether it has the run that the other candidates have to beat.
        tuned_with: what `regraft train` takes for its fine-tuned run; None if that isn't the best.
    """

    choice: Choice
    candidate: Candidate | None = None
    num_images: int = 0
    score: Score | None = None
    seconds_per_image: float | None = None
    seconds: float = 0.0
    reason: str | None = None
    is_too_slow: bool = False
    is_open: bool = False
    longest: int | None = None
    has_run: bool = False
    tuned_with: list[str] | None = None

    @property
    def loss(self) -> float:
        """The log loss of the last score; infinite without one."""
        return math.inf if self.score is None else self.score.loss

    @property
    def loss_title(self) -> str:
        """What `loss` is called."""
        assert self.score is not None, "it has been scored"
        return self.score.task.loss_title

    def needs_less_than(self, other: Choice) -> bool:
        """Whether it is too slow, and the same model at a larger size is slower still."""
        sizes = self.choice.size, other.size
        is_smaller = sizes[0] is not None and sizes[1] is not None and sizes[0] < sizes[1]
        return self.is_too_slow and self.choice.model == other.model and is_smaller

    def is_same_as(self, other: Choice) -> bool:
        """Whether it is the same model as another one, and both sizes leave all of the inputs whole."""
        sizes = self.choice.size, other.size
        if self.choice.model != other.model or self.longest is None or None in sizes:
            return False
        return self.longest < (sizes[0] or 0) and self.longest <= (sizes[1] or 0)

    def why_same_as(self, other: Choice) -> str:
        """Returns a reason to leave out one of two choices that are the same, in favour of the other."""
        return f"the same as {other.name}, as no {other.spec.kind} has more than {self.longest} {other.spec.size_unit}"

    def stop(self, reason: str, *, is_too_slow: bool = False, is_open: bool = False) -> None:
        """Leaves the candidate out from now on, and frees its backbone."""
        self.reason, self.candidate, self.is_too_slow, self.is_open = reason, None, is_too_slow, is_open
