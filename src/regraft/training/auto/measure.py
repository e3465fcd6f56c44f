"""Builds and scores the candidates of a search, as long as there is time, and estimates what is left to do."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from regraft.config.hydra_messages import MISTAKES
from regraft.core.errors import ConfigError, errors_in
from regraft.training.auto.candidates import Candidate
from regraft.training.auto.choice import Choice
from regraft.training.auto.decisions import CLOSING_SECONDS, SAFETY, Cost, FitSeconds, seconds_at
from regraft.training.auto.scores import figure_text, score
from regraft.training.auto.tried import Tried

FIRST_IMAGES = (16, 64)
"""The first ones take longer, and don't count."""
_SHARE_OF_A_CHUNK = 0.02
"""Of the budget: how long features are computed between two looks at the clock."""


class Clock(Protocol):
    """The time of a search."""

    @property
    def budget(self) -> float:
        """The seconds that it may take; infinite for no limit."""

    def passed(self) -> float:
        """Returns the seconds since the start."""


class Measurement:
    """The candidates that were looked at, with their scores and what they took.

    Args:
        make: builds a candidate.
        tell: takes a line about what has been done.

    Attributes:
        tried: all candidates that were looked at, in this order.
    """

    def __init__(self, clock: Clock, make: Callable[[Choice], Candidate], tell: Callable[[str], None]) -> None:
        self._clock, self._make, self._tell = clock, make, tell
        self.tried: list[Tried] = []
        self._build_seconds = self._run_seconds = 0.0
        self._fit_seconds = FitSeconds()
        self._order = torch.empty(0, dtype=torch.int64)

    def _left(self) -> float:
        return self._clock.budget - self._clock.passed()

    def _start(self, size: int) -> Tensor:
        return self._order[:size].sort().values

    def _alive(self) -> list[Tried]:
        """Returns the candidates that may still be the best, the best first."""
        return sorted((each for each in self.tried if each.candidate is not None), key=lambda each: each.loss)

    def _is_only_one(self) -> bool:
        return sum(each.candidate is not None for each in self.tried) == 1

    def _open(self, choice: Choice) -> Tried | None:
        """Returns a candidate, None if it can't be used."""
        tried = Tried(choice)
        self.tried.append(tried)
        return tried if self._is_built(tried) else None

    def _is_built(self, tried: Tried) -> bool:
        """Builds a candidate; returns whether it can be used."""
        started = time.perf_counter()
        try:
            tried.candidate = self._make(tried.choice)
        except MISTAKES as error:
            tried.stop(" ".join(each.text for each in errors_in(error)))
            return False
        seconds = time.perf_counter() - started
        tried.seconds, tried.longest = tried.seconds + seconds, tried.candidate.longest
        # The first one imports what the others find imported.
        self._build_seconds = min(seconds, self._build_seconds or seconds)
        return True

    def _score(self, tried: Tried, size: int, *, is_last: bool = False) -> bool:
        """Scores a candidate on the first images; returns whether there was time for it and it could be scored.

        Args:
            is_last: whether there is no other candidate, so that an error is raised.
        """
        candidate, positions = tried.candidate, self._start(size)
        assert candidate is not None, "it is open"
        try:
            if not self._compute(tried, self._order[:size]):
                return False
        except ConfigError as error:
            if is_last or error.key != "features" or self._is_only_one():
                raise  # an image that can't be read isn't the candidate's fault
            tried.stop(error.text)
            return False
        started = time.perf_counter()
        try:
            weights, groups = (
                None if each is None else each[positions] for each in (candidate.weights, candidate.groups)
            )
            found = score(
                candidate.features(positions),
                candidate.labels[positions],
                candidate.num_classes,
                candidate.task,
                sample_weight=weights,
                groups=groups,
                last_stage_solvers=candidate.last_stage_solvers,
            )
        except MISTAKES as error:
            if is_last or self._is_only_one():
                raise
            tried.stop(" ".join(each.text for each in errors_in(error)))
            return False
        seconds = time.perf_counter() - started
        tried.seconds += seconds
        self._fit_seconds = self._fit_seconds.with_fit(size, seconds)
        tried.score, tried.num_images = found, size
        self._tell(
            f"{tried.choice.name}: on {size:,} {tried.choice.spec.nouns} {found.task.loss_title} {found.loss:.3f} ± "
            f"{found.loss_error:.3f}, {figure_text(found.task, found.headline, found.headline_error)}"
        )
        return True

    def _compute(self, tried: Tried, positions: Tensor) -> bool:
        """Computes features of images as long as there is time for the run; returns whether all were."""
        return self._num_computed(tried, positions) == len(positions)

    def _num_computed(self, tried: Tried, positions: Tensor) -> int:
        """Does the same; returns of how many images, the first ones."""
        candidate = tried.candidate
        assert candidate is not None, "it is open"
        return self._in_chunks(tried, candidate.compute, positions)

    def _compute_test(self, tried: Tried, candidate: Candidate) -> bool:
        """Computes features of the test images, if there is time for all of them; returns whether there was."""
        cost = self._cost(tried)
        if cost.num_missing_test * cost.seconds_per_image > SAFETY * (self._left() - cost.run_seconds):
            return False
        return self._in_chunks(tried, candidate.compute_test, torch.arange(candidate.num_test)) == candidate.num_test

    def _in_chunks(self, tried: Tried, compute: Callable[[Tensor], None], positions: Tensor) -> int:
        """Computes features in chunks, between which it looks at the clock; returns of how many images."""
        assert tried.candidate is not None, "it is open"
        started, num_done = time.perf_counter(), 0
        run_seconds = 0.0 if tried.has_run else self._run_seconds + self._seconds_of_fits(tried)
        rate = tried.seconds_per_image or tried.candidate.seconds_per_image
        seconds = max(1.0, _SHARE_OF_A_CHUNK * self._clock.budget)
        size = len(positions)
        if rate and seconds < torch.inf:
            size = max(FIRST_IMAGES[0], int(seconds / rate))
        while num_done < len(positions) and self._clock.passed() + run_seconds + CLOSING_SECONDS < self._clock.budget:
            begun, part = time.perf_counter(), positions[num_done : num_done + size]
            compute(part.sort().values)
            num_done += len(part)
            if time.perf_counter() - begun > 2 * seconds:  # another process has begun
                size = max(FIRST_IMAGES[0], size // 2)
        tried.seconds_per_image = tried.candidate.seconds_per_image
        tried.seconds += time.perf_counter() - started
        return num_done

    def _seconds_of_fits(self, tried: Tried) -> float:
        """Returns what the head on all images takes in a candidate's run, and before it unless that has been done."""
        is_scored = tried.num_images == len(self._order)
        return (1 if is_scored else 2) * self._fit_seconds(len(self._order))

    def _cost(self, tried: Tried, positions: Tensor | None = None) -> Cost:
        """Returns what is left to do for some images, or for a candidate's run."""
        cost = self._cost_without_fits(tried, positions)
        return replace(cost, run_seconds=cost.run_seconds + self._seconds_of_fits(tried))

    def _cost_without_fits(self, tried: Tried, positions: Tensor | None = None) -> Cost:
        candidate = tried.candidate
        assert candidate is not None, "it is open"
        rate = tried.seconds_per_image or candidate.seconds_per_image
        if rate is None:  # by its operations, as the slowest of those that were measured
            known = [
                each.seconds_per_image / each.candidate.flops
                for each in self.tried
                if each.candidate is not None and each.seconds_per_image is not None
            ]
            rate = max(known, default=0.0) * candidate.flops
        wanted = (self._order if positions is None else positions).sort().values
        num_missing = candidate.num_missing(wanted)
        num_missing_test = candidate.num_missing(wanted, with_test=True) - num_missing if positions is None else 0
        return Cost(num_missing, rate, self._run_seconds, num_missing_test)

    def _seconds_of_steps(self, tried: Tried, sizes: Sequence[int]) -> list[float]:
        """Returns what a candidate takes from each of some numbers of images to the next."""
        up_to = [0.0, *(self._cost(tried, self._start(size)).image_seconds for size in sizes)]
        fits = map(self._fit_seconds, sizes)
        return [after - before + fit for (before, after), fit in zip(pairwise(up_to), fits, strict=True)]

    def _seconds_by_size(self, choice: Choice) -> float:
        """Returns what an input is expected to take, by the same model at another size; 0 if that isn't known."""
        same = [each.seconds_per_image for each in self.tried if each.is_same_as(choice)]
        if (seconds := next(filter(None, same), None)) is not None:
            return seconds
        known = {
            each.choice.size: each.seconds_per_image
            for each in self.tried
            if each.choice.model == choice.model and each.choice.size and each.seconds_per_image is not None
        }
        return 0.0 if choice.size is None else seconds_at(choice.size, known, choice.spec.size_exponent)
