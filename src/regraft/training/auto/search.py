"""A search for the best candidate within a time: on few images first, then on more those that can't be told apart."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from regraft.core.errors import ConfigError, ConfigErrors
from regraft.data.splits import stratified_order
from regraft.training.auto.candidates import Candidate
from regraft.training.auto.choice import Choice
from regraft.training.auto.decisions import (
    RUNS_APART,
    SAFETY,
    Cost,
    affordable,
    early_share,
    fraction_that_fits,
    larger_fraction,
    least_seconds,
    rungs,
    share_of,
)
from regraft.training.auto.measure import FIRST_IMAGES, Clock, Measurement
from regraft.training.auto.tried import Tried
from regraft.training.auto.tuning import Leader, TuningPlan

_RUNS_IN_BUILDS = 2.0
"""The first run, without features to compute, takes about twice as long as building the first candidate."""


class Tuning(Protocol):
    """Fine-tunes the backbone of the best candidate."""

    def plan(self, leader: Leader) -> TuningPlan | None:
        """Returns what is planned; None if there isn't the time for it, or nothing to gain."""

    def run(self, leader: Leader, plan: TuningPlan) -> list[str] | None:
        """Makes a tested, fine-tuned run, and returns its overrides; None if it isn't better."""


class Search(Measurement):
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
        super().__init__(clock, make, tell)
        self._waiting: Iterator[Choice] = iter(choices)
        self._train = train
        self._subset_seed, self._has_fraction, self._has_run = subset_seed, has_fraction, has_run
        self._tuning = tuning
        self.fraction = 1.0
        self._all = self._order
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
        for number in FIRST_IMAGES:
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

    def _tell_plan(self, sizes: Sequence[int], leader: Tried) -> None:
        alive = self._alive()
        ranking = sum(self._cost(each, self._order).image_seconds for each in alive if each is not leader)
        steps = ", ".join(f"{size:,}" for size in sizes[1:])
        comparing = f"{len(alive)} candidates on {steps} images (at most {ranking:.0f} s), then "
        self._tell(
            f"Plan: {comparing if len(alive) > 1 and steps else ''}a run of the best "
            f"({self._cost(leader).seconds:.0f} s if it is {leader.choice.name})"
        )
