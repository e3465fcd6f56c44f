"""The run that the candidates of a search have to beat: of the first model, at the largest size that is in time."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch

from regraft.core.errors import ConfigError, ConfigErrors
from regraft.data.splits import stratified_order
from regraft.training.auto.candidates import Candidate
from regraft.training.auto.choice import Choice
from regraft.training.auto.decisions import (
    CLOSING_SECONDS,
    EARLY_SAFETY,
    EARLY_SECONDS,
    RUNS_APART,
    SAFETY,
    Cost,
    early_share,
    fraction_that_fits,
    largest_in_time,
    least_seconds,
    num_measured,
    rungs,
    share_of,
)
from regraft.training.auto.measure import FIRST_IMAGES, Clock, Measurement
from regraft.training.auto.tried import Tried
from regraft.training.closed_form.scaling import NOT_FINITE

_RUNS_IN_BUILDS = 1.5
"""Times that of building the first candidate, which its first run takes without features; 1.0 to 1.2 were measured."""


class Baseline(Measurement):
    """The runs of a search, of which that of the first model at its largest size comes first.

    Args:
        choices: the first model's are those of the baseline.
        make: builds a candidate.
        train: trains a run of a candidate on a share of the training images, with a test or without.
        tell: takes a line about what has been done.
        subset_seed: of the share of the training images that there is time for.
        has_fraction: whether that share was given.
        has_run: whether there is a run of the same data already, of an earlier search.

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
    ) -> None:
        super().__init__(clock, make, tell)
        self._waiting = list(choices)
        self._nouns = self._waiting[0].spec.nouns
        self._train = train
        self._subset_seed, self._has_fraction, self._has_run = subset_seed, has_fraction, has_run
        self.fraction = 1.0
        self._all = self._order
        self._baseline: Tried | None = None
        self._with_run: Tried | None = None
        self._share_of_run = self._last_run = 0.0

    def _start_with_a_run(self) -> Tried:
        """Returns the candidate that the others are compared with, whose run is there if there is time for it.

        Raises:
            ConfigError: the budget is too small, or no candidate can be used.
        """
        first = self._first()
        chosen = self._larger(first) if self.fraction == 1 else first
        self._tell_what_is_to_do(chosen)
        if not self._has_run:
            self._run_early(chosen, self._cost(chosen), first)
        if self.fraction == 1 and self._with_run is not None:
            # By what the run and its images took, there may be time for more than was guessed before.
            larger = self._larger(chosen)
            if larger is not chosen:
                chosen = larger
                self._tell_what_is_to_do(chosen)
        for each in self._alive():  # after the early run, which may be one of them
            if each is not chosen and each.is_same_as(chosen.choice):
                each.stop(each.why_same_as(chosen.choice))
        self._tell_what_would_take_longer(chosen)
        if self.fraction == 1:
            self._run_on_all(chosen)
        return chosen

    def _tell_what_is_to_do(self, chosen: Tried) -> None:
        candidate = chosen.candidate
        assert candidate is not None, "it is open"
        fewer = f"; there is time for about {len(self._order):,} of the former" if self.fraction < 1 else ""
        rate = f"{1000 * self._cost(chosen).seconds_per_image:.1f} ms {chosen.choice.spec.one}"
        self._tell(
            f"{chosen.choice.name}: {rate}; {len(self._all):,} {self._nouns} to fit and {candidate.num_test:,} to test"
            f"{fewer}"
        )

    def _first(self) -> Tried:
        """Measures the first model that can be used, at its smallest size."""
        models = list(dict.fromkeys(each.model for each in self._waiting))
        for choice in sorted(self._waiting, key=lambda each: (models.index(each.model), each.size or 0)):
            self._waiting.remove(choice)
            first = self._open(choice)
            if first is not None and self._is_looked_at(first):
                break
        else:
            raise ConfigErrors(ConfigError("models", f"{each.choice.name}: {each.reason}") for each in self.tried)
        assert first.candidate is not None, "it is open"
        self._fit_to_time(first, first.candidate)
        return first

    def _is_looked_at(self, first: Tried) -> bool:
        """Measures a candidate and scores it on few images; returns whether its features can be used."""
        candidate = first.candidate
        assert candidate is not None, "it is open"
        self._run_seconds = _RUNS_IN_BUILDS * self._build_seconds
        self._num_classes = candidate.num_classes
        self._all = self._order = stratified_order(candidate.strata, self._subset_seed)
        self._measure(first)
        try:
            is_scored = self._score(first, num_measured(len(self._all), self._num_classes))
        except ConfigError as error:
            if error.key != NOT_FINITE:
                raise
            first.stop(error.text)
            return False
        if is_scored:
            self._run_at_once(first)
        return True

    def _is_late(self, seconds: float) -> bool:
        """Whether a first run that takes so many seconds may not be there early."""
        has_time = self._clock.budget >= EARLY_SAFETY * EARLY_SECONDS  # else a second run costs the first one too much
        return self._clock.passed() + (EARLY_SAFETY if has_time else SAFETY) * seconds > EARLY_SECONDS

    def _run_at_once(self, first: Tried) -> None:
        """Makes a run on the few images that have been scored, if later ones may not be there early."""
        seconds = self._run_seconds + self._fit_seconds(first.num_images)
        is_needed = self._is_late(seconds) and not self._has_run and not self._has_fraction
        if is_needed and SAFETY * seconds + CLOSING_SECONDS < self._left() < math.inf:
            self._make_first_run(first, first.num_images)

    def _make_first_run(self, tried: Tried, num_images: int) -> None:
        self._make_run(tried, self._fraction_of_first(num_images))
        self._tell(f"{tried.choice.name}: a run on {num_images:,} {self._nouns}, so that there is one whatever happens")

    def _fraction_of_first(self, num_images: int) -> float:
        """Returns the share of the training images for a first run of some images, which is the one that was given."""
        return self.fraction if self._has_fraction else share_of(num_images, len(self._all))

    def _measure(self, tried: Tried) -> None:
        """Measures what an image takes, unless all are stored."""
        assert tried.candidate is not None, "it is open"
        started = time.perf_counter()
        for number in FIRST_IMAGES:
            tried.candidate.compute(self._start(number))
        tried.seconds_per_image = tried.candidate.seconds_per_image
        tried.seconds += time.perf_counter() - started

    def _fit_to_time(self, first: Tried, candidate: Candidate) -> None:
        """Takes as many of the training images as the first candidate has the time for."""
        cost, num_images, num_test = self._cost_without_fits(first), len(self._all), candidate.num_test
        if self._left() == torch.inf:
            return
        fit = self._fit_seconds
        share = fraction_that_fits(num_images, num_test, self._num_classes, cost, fit, self._left())
        share = max(share, self._share_of_run)
        if share == 0 or (share < 1 and self._has_fraction):
            least = least_seconds(self._clock.passed(), num_images, self._num_classes, cost, fit)
            raise ConfigError(
                "time",
                f"{self._clock.passed():.0f} s have passed, and {first.choice.name} takes "
                f"{1000 * cost.seconds_per_image:.0f} ms for each of {num_images:,} {self._nouns}",
                got=self._clock.budget,
                fix=f"Give at least time={max(least, round(self._clock.budget) + 1)}.",
            )
        self._take(share)

    def _take(self, share: float) -> None:
        """Limits the training images to a share, as `data.fraction` does."""
        self.fraction = share
        self._order = self._all[: max(1, round(share * len(self._all)))]

    def _larger(self, first: Tried) -> Tried:
        """Returns the same model at the largest size whose run, tested, there is time for; the one given if none."""
        chosen = first
        while True:
            costs = {each: self._with_early(self._guess(each, first)) for each in self._larger_than(chosen.choice)}
            choice = largest_in_time(costs, self._left())
            if choice is None:
                return chosen
            self._waiting.remove(choice)
            tried = self._open(choice)
            if tried is None:
                continue
            self._measure(tried)
            cost = self._cost(tried)
            if self._with_early(cost).reserve_with_test <= self._left():
                chosen = tried
            else:
                tried.stop(f"a run would take {cost.seconds:.0f} s or more", is_too_slow=True)

    def _larger_than(self, choice: Choice) -> list[Choice]:
        """Returns the same model at larger sizes that haven't been opened, from the smallest to the largest."""
        if choice.size is None:
            return []
        found = [each for each in self._waiting if each.model == choice.model and (each.size or 0) > choice.size]
        return sorted(found, key=lambda each: each.size or 0)

    def _guess(self, choice: Choice, other: Tried, num_fits: int = 1) -> Cost:
        """Returns the cost of a run and of building its candidate, by what the same model takes at other sizes.

        Args:
            other: a candidate that has been opened, of any model.
            num_fits: of its head; one more to compare it.
        """
        assert other.candidate is not None, "it is open"
        # It isn't known what is stored: all of it may be, where there has been a search before.
        num_missing, num_test = (0, 0) if self._has_run else (len(self._order), other.candidate.num_test)
        run_seconds = self._build_seconds + self._run_seconds + num_fits * self._fit_seconds(len(self._order))
        return Cost(num_missing, self._seconds_by_size(choice), run_seconds, num_test)

    def _tell_what_would_take_longer(self, chosen: Tried) -> None:
        """Says which budget the first model would need at its largest size."""
        larger = self._larger_than(chosen.choice)
        if larger and self.fraction == 1:
            cost = self._with_early(self._guess(larger[-1], chosen))
            seconds = math.ceil(self._clock.passed() + cost.reserve_with_test)
            self._tell(f"There isn't the time for {larger[-1].name}; time={seconds} would be enough for it.")

    def _is_soon(self, cost: Cost) -> bool:
        """Whether a run with its test is there so soon that none is needed before it."""
        return self._clock.budget <= EARLY_SECONDS or not self._is_late(cost.seconds)

    def _with_early(self, cost: Cost) -> Cost:
        """Returns the cost with that of an early run, where there is still to be one."""
        has_early = not self._has_run and self._with_run is None and not self._is_soon(cost)
        return replace(cost, run_seconds=cost.run_seconds + self._run_seconds) if has_early else cost

    def _run_early(self, chosen: Tried, cost: Cost, first: Tried) -> None:
        """Makes a run within the first seconds, of few images if need be, unless the whole one is there so soon.

        Args:
            cost: of the whole run.
            first: has been scored, so that a run of it needs no further features if the time is short.
        """
        if self._with_run is not None or (self.fraction == 1 and self._is_soon(cost)):
            return
        few_seconds = replace(cost, run_seconds=self._run_seconds + self._fit_seconds(1))
        share = early_share(len(self._all), self._num_classes, few_seconds, self._clock.passed())
        share = self.fraction if self._has_fraction else min(share, self.fraction)
        few = self._all[: max(1, round(share * len(self._all)))]
        assert chosen.candidate is not None, "it is open"
        num_missing = chosen.candidate.num_missing(few.sort().values)
        early = Cost(num_missing, cost.seconds_per_image, self._run_seconds + self._fit_seconds(len(few)))
        # Not with the time for a test: to have a run early is worth more.
        later = replace(cost, num_missing=max(0, cost.num_missing - num_missing), num_missing_test=0)
        if self._is_late(early.seconds) and not self._has_fraction:
            chosen, few = first, self._all[: first.num_images]
            early, later = replace(early, num_missing=0), replace(cost, num_missing_test=0)
        # A whole run that is much later than the first one should be doesn't come without one before it.
        is_much_later = self._clock.passed() + cost.seconds > EARLY_SAFETY * EARLY_SECONDS
        reserve = CLOSING_SECONDS if is_much_later else later.reserve
        if SAFETY * early.seconds + reserve < self._left():
            self._make_first_run(chosen, self._num_computed(chosen, few))

    def _run_on_all(self, chosen: Tried) -> None:
        """Makes the run of the baseline, tested; on fewer images if they take much longer than expected.

        A run of an earlier search is rather kept than replaced by one of fewer images, or without a test.
        """
        candidate = chosen.candidate
        assert candidate is not None, "it is open"
        for size in rungs(len(self._order), self._num_classes):
            num_done = self._num_computed(chosen, self._order[:size])
            if num_done < size and self._has_run:
                return
            if num_done < size and not self._has_fraction:
                self._take(max(share_of(num_done, len(self._all)), self._share_of_run))
                break
            self._keep(chosen, size)
        is_tested = self._compute_test(chosen, candidate)
        if not is_tested and self._has_run:
            return
        candidate.release()
        if is_tested or self.fraction > self._share_of_run:
            self._make_run(chosen, self.fraction, is_tested=is_tested)
        self._baseline, chosen.has_run = chosen, True
        self._tell(f"{chosen.choice.name}: its run is the one that other candidates have to beat")

    def _keep(self, leader: Tried, size: int) -> None:
        """Makes a run of the best candidate so far, which replaces the one before, if that is long ago."""
        share = share_of(size, len(self._all))
        is_better = leader is not self._with_run or share >= 2 * self._share_of_run
        is_time = self._clock.passed() - self._last_run > RUNS_APART * self._run_seconds
        has_better = self._has_fraction or share >= self.fraction or self._baseline is not None
        if has_better or not is_better or not is_time:
            return
        if self._cost(leader).reserve + SAFETY * self._run_seconds < self._left():
            self._make_run(leader, share)
            self._tell(f"{leader.choice.name}: a run on {size:,} {self._nouns} replaces the one before")

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
