"""A search for the best candidate within a time: on few images first, then on more those that can't be told apart."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from regraft.config.hydra_messages import MISTAKES
from regraft.core.errors import ConfigError, ConfigErrors, errors_in
from regraft.data.splits import stratified_order
from regraft.training.auto.candidates import Candidate
from regraft.training.auto.choice import Choice
from regraft.training.auto.decisions import (
    CLOSING_SECONDS,
    RUNS_APART,
    SAFETY,
    Cost,
    FitSeconds,
    affordable,
    early_share,
    fraction_that_fits,
    larger_fraction,
    least_seconds,
    rungs,
    seconds_at,
    share_of,
)
from regraft.training.auto.scores import score
from regraft.training.auto.tried import Tried
from regraft.training.auto.tuning import Leader, TuningPlan

_FIRST_IMAGES = (16, 64)
"""The first ones take longer, and don't count."""
_SHARE_OF_A_CHUNK = 0.02
"""Of the budget: how long features are computed between two looks at the clock."""
_RUNS_IN_BUILDS = 2.0
"""The first run, without features to compute, takes about twice as long as building the first candidate."""


class Clock(Protocol):
    """The time of a search."""

    @property
    def budget(self) -> float:
        """The seconds that it may take; infinite for no limit."""

    def passed(self) -> float:
        """Returns the seconds since the start."""


class Tuning(Protocol):
    """Fine-tunes the backbone of the best candidate."""

    def plan(self, leader: Leader) -> TuningPlan | None:
        """Returns what is planned; None if there isn't the time for it, or nothing to gain."""

    def run(self, leader: Leader, plan: TuningPlan) -> list[str] | None:
        """Makes a tested, fine-tuned run, and returns its overrides; None if it isn't better."""


class Search:
    """Candidates, scored on more and more images.

    Args:
        choices: the first is the one that a run is made of at once.
        make: builds a candidate.
        subset_seed: of the share of the training images that there is time for.
        train: trains a run of a candidate on a share of the training images, with a test or without.
        tell: takes a line about what has been done.
        has_fraction: whether that share was given.
        has_run: whether there is a run of the same data already, of an earlier search.
        tuning: None for no fine-tuning.

    Attributes:
        tried: all candidates that were looked at, in this order.
        fraction: share of the training images that the last run is trained on.
    """

    def __init__(
        self,
        choices: Iterable[Choice],
        clock: Clock,
        *,
        make: Callable[[Choice], Candidate],
        train: Callable[[Choice, float, bool], Any],
        tell: Callable[[str], None],
        subset_seed: int,
        has_fraction: bool,
        has_run: bool,
        tuning: Tuning | None,
    ) -> None:
        self._waiting: Iterator[Choice] = iter(choices)
        self._clock, self._make, self._train, self._tell = clock, make, train, tell
        self._subset_seed, self._has_fraction, self._has_run = subset_seed, has_fraction, has_run
        self._tuning = tuning
        self.tried: list[Tried] = []
        self.fraction = 1.0
        self._build_seconds = self._run_seconds = 0.0
        self._fit_seconds = FitSeconds()
        self._all = self._order = torch.empty(0, dtype=torch.int64)
        self._with_run: Tried | None = None
        self._share_of_run = self._last_run = 0.0

    def run(self) -> Tried | None:
        """Returns the best candidate, whose run has been trained, and tested if there was time for that.

        None if there wasn't the time for a run, so that the one of an earlier search is the best so far.

        Raises:
            ConfigError: the budget is too small, or no candidate can be used.
        """
        leader = self._first()
        sizes = rungs(len(self._order), self._num_classes)
        if leader.num_images < sizes[0]:
            self._score(leader, sizes[0])
        for choice in self._waiting:
            self._try(choice, sizes[0], leader)
        leader = self._compare(sizes[0])
        self._tell_plan(sizes, leader)
        for number, size in enumerate(sizes[1:], 1):
            if len(self._alive()) > 1:
                self._climb(sizes[number:], leader)
                leader = self._compare(size)
            elif not self._compute(leader, self._start(size)):
                break
            self._keep(leader, size)
        return self._finish(leader)

    def _first(self) -> Tried:
        """Makes a run of the first candidate that can be used."""
        first = next(filter(None, map(self._open, self._waiting)), None)
        if first is None:
            raise ConfigErrors(ConfigError("models", f"{each.choice.name}: {each.reason}") for each in self.tried)
        candidate = first.candidate
        assert candidate is not None, "it has been opened"
        self._run_seconds = _RUNS_IN_BUILDS * self._build_seconds
        self._num_classes = candidate.num_classes
        self._all = self._order = stratified_order(candidate.labels, self._subset_seed)
        for number in _FIRST_IMAGES:
            candidate.compute(self._start(number))
        first.seconds_per_image = candidate.seconds_per_image
        self._score(first, rungs(len(self._all), self._num_classes)[0])
        self._fit_to_time(first, candidate)
        cost = self._cost(first)
        self._tell(
            f"{first.choice.name}: {1000 * cost.seconds_per_image:.1f} ms an image; "
            f"{len(self._all):,} images to fit and {candidate.num_test:,} to test"
            + (f"; there is time for about {len(self._order):,} of the former" if self.fraction < 1 else "")
        )
        if not self._has_run:
            self._run_early(first, cost)
        return first

    def _run_early(self, first: Tried, cost: Cost) -> None:
        """Makes a first run within the first seconds, of few images if need be, if there is the time for two runs."""
        few_seconds = replace(cost, run_seconds=self._run_seconds + self._fit_seconds(1))
        share = early_share(len(self._all), self._num_classes, few_seconds, self._clock.passed())
        share = self.fraction if self._has_fraction else min(share, self.fraction)
        few = self._all[: max(1, round(share * len(self._all)))]
        assert first.candidate is not None, "it is open"
        num_missing = first.candidate.num_missing(few.sort().values)
        early = Cost(num_missing, cost.seconds_per_image, self._run_seconds + self._fit_seconds(len(few)))
        # Not with the time for a test: to have a run early is worth more.
        later = replace(cost, num_missing=max(0, cost.num_missing - num_missing), num_missing_test=0)
        if SAFETY * early.seconds + later.reserve < self._left():
            self._compute(first, few)
            self._make_run(first, share)
            self._tell(f"{first.choice.name}: a run on {len(few):,} images, so that there is one whatever happens")

    def _keep(self, leader: Tried, size: int) -> None:
        """Makes a run of the best candidate so far, which replaces the one before, if that is long ago."""
        share = share_of(size, len(self._all))
        is_better = leader is not self._with_run or share >= 2 * self._share_of_run
        is_time = self._clock.passed() - self._last_run > RUNS_APART * self._run_seconds
        if self._has_fraction or share >= self.fraction or not is_better or not is_time:
            return
        if self._cost(leader).reserve + SAFETY * self._run_seconds < self._left():
            self._make_run(leader, share)
            self._tell(f"{leader.choice.name}: a run on {size:,} images replaces the one before")

    def _make_run(self, tried: Tried, share: float, *, is_tested: bool = False) -> None:
        """Trains a run, which may have been there, and notes what it took."""
        started = time.perf_counter()
        self._train(tried.choice, share, is_tested)
        seconds = time.perf_counter() - started
        seconds = max(seconds - self._fit_seconds(round(share * len(self._all))), seconds / 2)
        # The first one imports what the others find imported, and one that was there takes no time.
        self._run_seconds = seconds if self._with_run is None else max(self._run_seconds, seconds)
        self._with_run, self._share_of_run = tried, share
        self._last_run = self._clock.passed()

    def _fit_to_time(self, first: Tried, candidate: Candidate) -> None:
        """Takes as many of the training images as the first candidate has the time for."""
        cost, num_images, num_test = self._cost_without_fits(first), len(self._all), candidate.num_test
        if self._left() == torch.inf:
            return
        fit = self._fit_seconds
        share = fraction_that_fits(num_images, num_test, self._num_classes, cost, fit, self._left())
        if share == 0 or (share < 1 and self._has_fraction):
            least = least_seconds(self._clock.passed(), num_images, self._num_classes, cost, fit)
            raise ConfigError(
                "time",
                f"{self._clock.passed():.0f} s have passed, and {first.choice.name} takes "
                f"{1000 * cost.seconds_per_image:.0f} ms for each of {num_images:,} images",
                got=self._clock.budget,
                fix=f"Give at least time={max(least, round(self._clock.budget) + 1)}.",
            )
        self._take(share)

    def _take(self, share: float) -> None:
        """Limits the training images to a share, as `data.fraction` does."""
        self.fraction = share
        self._order = self._all[: max(1, round(share * len(self._all)))]

    def _open(self, choice: Choice) -> Tried | None:
        """Returns a candidate, None if it can't be used."""
        tried = Tried(choice)
        self.tried.append(tried)
        started = time.perf_counter()
        try:
            tried.candidate = self._make(choice)
        except MISTAKES as error:
            tried.stop(" ".join(each.text for each in errors_in(error)))
            return None
        tried.seconds = time.perf_counter() - started
        # The first one imports what the others find imported.
        self._build_seconds = min(tried.seconds, self._build_seconds or tried.seconds)
        return tried

    def _try(self, choice: Choice, size: int, leader: Tried) -> None:
        """Scores a candidate on the first images, if there is time for that and for its run."""
        available = self._left() - self._cost(leader).reserve
        if SAFETY * self._build_seconds > available:
            self.tried.append(Tried(choice, reason="there was no time to look at it"))
            return
        smaller = next((each for each in self.tried if each.needs_less_than(choice)), None)
        if smaller is not None:
            self.tried.append(Tried(choice, reason=smaller.reason, is_too_slow=True))
            return
        # A guess from another size of the model saves building those that are too slow. It doesn't know what is stored.
        guess = replace(
            self._cost(leader), num_missing=len(self._order), seconds_per_image=self._seconds_by_size(choice)
        )
        if guess.seconds > self._left() and not self._has_run:
            self.tried.append(Tried(choice, reason=f"a run would take {guess.seconds:.0f} s or more", is_too_slow=True))
            return
        tried = self._open(choice)
        if tried is None or tried.candidate is None:
            return
        expected = self._cost(tried)
        few = Cost(tried.candidate.num_missing(self._start(size)), expected.seconds_per_image, 0.0)
        if few.reserve > available or expected.reserve > self._left() - few.seconds:
            tried.stop(f"a run would take {expected.seconds:.0f} s or more", is_too_slow=True)
        elif self._score(tried, size):
            cost = self._cost(tried)
            if cost.reserve > self._left():
                tried.stop(f"a run would take {cost.seconds:.0f} s or more", is_too_slow=True)

    def _climb(self, sizes: Sequence[int], leader: Tried) -> None:
        """Scores the leader and those that can't be told from it on the first of some numbers of images."""
        others = [each for each in self._alive() if each is not leader]
        of_leader = self._fit_seconds(sizes[0]) if sizes[0] < len(self._order) else 0.0
        available = self._left() - self._cost(leader).reserve - SAFETY * of_leader
        chosen = affordable([self._seconds_of_steps(each, sizes) for each in others], available)
        for index, each in enumerate(others):
            if index not in chosen:
                each.stop(f"there was no time to compare it on {sizes[0]:,} images")
        for each in [leader, *(each for each in others if each.candidate is not None)]:
            if not self._score(each, sizes[0]) and each is not leader:
                each.stop(f"there was no time to compare it on {sizes[0]:,} images")

    def _seconds_of_steps(self, tried: Tried, sizes: Sequence[int]) -> list[float]:
        """Returns what a candidate takes from each of some numbers of images to the next."""
        up_to = [0.0, *(self._cost(tried, self._start(size)).image_seconds for size in sizes)]
        fits = map(self._fit_seconds, sizes)
        return [after - before + fit for (before, after), fit in zip(pairwise(up_to), fits, strict=True)]

    def _compare(self, size: int) -> Tried:
        """Leaves out those that are beaten on a number of images; returns the best."""
        compared = sorted((each for each in self._alive() if each.num_images == size), key=lambda each: each.loss)
        if not compared:
            return self._alive()[0]
        best = compared[0]
        assert best.score is not None, "it has been scored"
        for each in compared[1:]:
            assert each.score is not None, "it has been scored"
            if each.score.is_beaten_by(best.score):
                each.stop(f"{best.choice.name} is better by more than chance on {size:,} images")
        return best

    def _finish(self, leader: Tried) -> Tried | None:
        """Trains and tests a run of the best candidate, if there is still time for it; see `run`."""
        for each in self._alive():
            if each is not leader:
                each.stop(f"{leader.choice.name} has a lower log loss, though not by more than chance")
        if self.fraction < 1:
            cost = self._cost_without_fits(leader)
            self._take(larger_fraction(self.fraction, len(self._all), cost, self._fit_seconds, self._left()))
        is_scored = leader.num_images == len(self._order) or self._score(leader, len(self._order), is_last=True)
        if not is_scored and self._with_run is not None:
            self._tell("The time was over before a run of the best candidate; the last run is what there is.")
            if leader is not self._with_run:
                leader.stop("there was no time for a run of it")
            self._with_run.reason, self.fraction = None, self._share_of_run
            return self._with_run
        if not is_scored and self._has_run:
            self._tell("The time was over before a run of the best candidate; the run of an earlier search is kept.")
            leader.stop("there was no time for a run of it")
            return None
        candidate = leader.candidate
        assert candidate is not None, "the leader is never left out"
        if self._is_tuned(leader, candidate):
            return leader
        is_tested = self._compute_test(leader, candidate)
        if not is_tested:
            self._tell("There was no time for a test.")
        candidate.compute(self._order.sort().values)
        candidate.release()
        self._make_run(leader, self.fraction, is_tested=is_tested)
        return leader

    def _is_tuned(self, leader: Tried, candidate: Candidate) -> bool:
        """Fine-tunes the best candidate if there is the time for it; returns whether that has given the best run."""
        if self._tuning is None or leader.score is None:
            return False
        cost = self._cost(leader)
        found = Leader(
            leader.choice,
            self.fraction,
            leader.score,
            len(self._order),
            candidate.num_test,
            cost.seconds_per_image,
            cost.run_seconds,
        )
        plan = self._tuning.plan(found)
        if plan is None:
            return False
        candidate.release()
        self._make_run(leader, self.fraction)
        started = time.perf_counter()
        leader.tuned_with = self._tuning.run(found, plan)
        leader.seconds += time.perf_counter() - started
        return leader.tuned_with is not None

    def _alive(self) -> list[Tried]:
        """Returns the candidates that may still be the best, the best first."""
        return sorted((each for each in self.tried if each.candidate is not None), key=lambda each: each.loss)

    def _is_only_one(self) -> bool:
        return sum(each.candidate is not None for each in self.tried) == 1

    def _score(self, tried: Tried, size: int, *, is_last: bool = False) -> bool:
        """Scores a candidate on the first images; returns whether there was time for it and it could be scored.

        Args:
            is_last: whether there is no other candidate, so that an error is raised.
        """
        candidate, positions = tried.candidate, self._start(size)
        assert candidate is not None, "it is open"
        try:
            if not self._compute(tried, positions):
                return False
        except ConfigError as error:
            if is_last or error.key != "features" or self._is_only_one():
                raise  # an image that can't be read isn't the candidate's fault
            tried.stop(error.text)
            return False
        started = time.perf_counter()
        try:
            found = score(candidate.features(positions), candidate.labels[positions], candidate.num_classes)
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
            f"{tried.choice.name}: on {size:,} images log loss {found.loss:.3f} ± {found.loss_error:.3f}, "
            f"accuracy {100 * found.accuracy:.1f} ± {100 * found.accuracy_error:.1f} %"
        )
        return True

    def _compute(self, tried: Tried, positions: Tensor) -> bool:
        """Computes features of images as long as there is time for the run; returns whether all were."""
        candidate = tried.candidate
        assert candidate is not None, "it is open"
        return self._in_chunks(tried, candidate.compute, positions)

    def _compute_test(self, tried: Tried, candidate: Candidate) -> bool:
        return self._in_chunks(tried, candidate.compute_test, torch.arange(candidate.num_test))

    def _in_chunks(self, tried: Tried, compute: Callable[[Tensor], None], positions: Tensor) -> bool:
        """Computes features in chunks, between which it looks at the clock; returns whether it did all of them."""
        assert tried.candidate is not None, "it is open"
        started, is_done = time.perf_counter(), True
        run_seconds = self._run_seconds + self._seconds_of_fits(tried)
        rate = tried.seconds_per_image or tried.candidate.seconds_per_image
        seconds = max(1.0, _SHARE_OF_A_CHUNK * self._clock.budget)
        size = len(positions)
        if rate and seconds < torch.inf:
            size = max(_FIRST_IMAGES[0], int(seconds / rate))
        for part in positions.split(size):
            if self._clock.passed() + run_seconds + CLOSING_SECONDS > self._clock.budget:
                is_done = False
                break
            compute(part.sort().values)
        tried.seconds_per_image = tried.candidate.seconds_per_image
        tried.seconds += time.perf_counter() - started
        return is_done

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

    def _seconds_by_size(self, choice: Choice) -> float:
        """Returns what an image is expected to take, by the same model at another size; 0 if that isn't known."""
        known = {
            each.choice.size: each.seconds_per_image
            for each in self.tried
            if each.choice.model == choice.model and each.choice.size and each.seconds_per_image is not None
        }
        return 0.0 if choice.size is None else seconds_at(choice.size, max(known.items(), default=None))

    def _start(self, size: int) -> Tensor:
        return self._order[:size].sort().values

    def _left(self) -> float:
        return self._clock.budget - self._clock.passed()

    def _tell_plan(self, sizes: Sequence[int], leader: Tried) -> None:
        alive = self._alive()
        ranking = sum(self._cost(each, self._order).image_seconds for each in alive if each is not leader)
        steps = ", ".join(f"{size:,}" for size in sizes[1:])
        comparing = f"{len(alive)} candidates on {steps} images (at most {ranking:.0f} s), then "
        self._tell(
            f"Plan: {comparing if len(alive) > 1 and steps else ''}a run of the best "
            f"({self._cost(leader).seconds:.0f} s if it is {leader.choice.name})"
        )
