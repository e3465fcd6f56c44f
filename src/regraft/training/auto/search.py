"""A search for the best candidate within a time: on few images first, then on more those that can't be told apart."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from regraft.core.time_limit import TimeOver
from regraft.training.auto.baseline import Baseline
from regraft.training.auto.candidates import Candidate
from regraft.training.auto.choice import Choice
from regraft.training.auto.decisions import (
    CLOSING_SECONDS,
    SAFETY,
    Cost,
    affordable,
    larger_fraction,
    rungs,
)
from regraft.training.auto.measure import Clock
from regraft.training.auto.tried import Tried
from regraft.training.auto.tuning import Leader, TuningPlan


class Tuning(Protocol):
    """Fine-tunes the backbone of the best candidate."""

    def plan(self, leader: Leader) -> TuningPlan | None:
        """Returns what is planned; None if there isn't the time for it, or nothing to gain."""

    def run(self, leader: Leader, plan: TuningPlan) -> list[str] | None:
        """Makes a tested, fine-tuned run, and returns its overrides; None if it isn't better."""


class Search(Baseline):
    """Candidates, scored on more and more images.

    Args:
        tuning: None for no fine-tuning.
        more: see `Baseline`.
    """

    def __init__(self, choices: Iterable[Choice], clock: Clock, *, tuning: Tuning | None, **more: Any) -> None:
        super().__init__(choices, clock, **more)
        self._tuning = tuning

    def run(self) -> Tried | None:
        """Returns the best candidate, whose run has been trained, and tested if there was time for that.

        None if there wasn't the time for a run, so that the one of an earlier search is the best so far.

        Raises:
            ConfigError: the budget is too small, or no candidate can be used.
            TimeOver: the time was over before there was any run.
        """
        try:
            return self._best()
        except TimeOver:
            if self._with_run is None and not self._has_run:
                raise
            for each in self._alive():
                each.stop("the time was over")
            return self._best_so_far()

    def _best_so_far(self) -> Tried | None:
        """Returns the candidate of the last run; None if that is one of an earlier search."""
        if self._with_run is None:
            self._tell("The time was over before a run of the best candidate; the run of an earlier search is kept.")
            return None
        self._tell("The time was over before a run of the best candidate; the last run is what there is.")
        self._with_run.reason, self.fraction = None, self._share_of_run
        return self._with_run

    def _best(self) -> Tried | None:
        """Returns what `run` does."""
        leader = self._start_with_a_run()
        sizes = rungs(len(self._order), self._num_classes)
        for each in self._alive():
            if each.num_images < sizes[0] and not self._score(each, sizes[0]) and each is not leader:
                each.stop(f"there was no time to compare it on {sizes[0]:,} {self._nouns}")
        for choice in self._waiting:
            self._try(choice, sizes[0], leader)
        leader = self._compare(sizes[0])
        self._tell_plan(sizes, leader)
        for number, size in enumerate(sizes[1:], 1):
            if len(self._alive()) > 1:
                self._climb(sizes[number:], leader)
                leader = self._compare(size)
            elif not self._compute(leader, self._order[:size]):
                break
            self._keep(leader, size)
        return self._finish(self._after_second_looks(leader))

    def _after_second_looks(self, leader: Tried) -> Tried:
        """Returns the best candidate once the time that was kept for a run of another one is used.

        As long as the best one is the baseline, which has its run, those are compared that there was no time for.
        """
        size = len(self._order)
        for each in sorted((each for each in self.tried if each.is_open), key=lambda each: each.loss):
            guess = replace(self._guess(each.choice, leader, num_fits=2), num_missing=size - each.num_images)
            if leader is not self._baseline or guess.reserve > self._left():
                break
            if leader.num_images < size and not self._score(leader, size):
                break
            reason = each.reason
            if self._is_built(each):
                each.reason, each.is_open = None, False
                if self._cost(each).reserve > self._left() or not self._score(each, size):
                    each.stop(reason or "")
                leader = self._compare(size)
        return leader

    def _reserve(self, leader: Tried) -> float:
        """Returns what has to be left for the run of the best candidate so far."""
        return CLOSING_SECONDS if leader is self._baseline else self._cost(leader).reserve

    def _try(self, choice: Choice, size: int, leader: Tried) -> None:
        """Scores a candidate on the first images, if there is time for that and for its run."""
        available = self._left() - self._reserve(leader)
        if SAFETY * (self._build_seconds + self._run_seconds) > available:
            self.tried.append(Tried(choice, reason="no time was left to look"))
            return
        smaller = next((each for each in self.tried if each.needs_less_than(choice)), None)
        if smaller is not None:
            self.tried.append(Tried(choice, reason=smaller.reason, is_too_slow=True))
            return
        alike = [each for each in self.tried if each.is_same_as(choice)]
        same = max(alike, key=lambda each: each.choice.size or 0, default=None)
        if same is not None:
            self.tried.append(Tried(choice, reason=same.why_same_as(same.choice)))
            return
        # A guess from another size of the model saves building those that are too slow.
        guess = self._guess(choice, leader, num_fits=2)
        if guess.seconds > self._left():
            self.tried.append(Tried(choice, reason=f"a run would take {guess.seconds:.0f} s or more", is_too_slow=True))
            return
        tried = self._open(choice)
        if tried is None or tried.candidate is None:
            return
        expected = self._cost(tried)
        few = Cost(tried.candidate.num_missing(self._start(size)), expected.seconds_per_image, 0.0)
        if few.reserve > available or expected.reserve > self._left() - few.seconds:
            tried.seconds_per_image = expected.seconds_per_image  # tells what it takes at other sizes
            tried.stop(f"a run would take {expected.seconds:.0f} s or more", is_too_slow=True)
        elif self._score(tried, size):
            cost = self._cost(tried)
            if cost.reserve > self._left():
                tried.stop(f"a run would take {cost.seconds:.0f} s or more", is_too_slow=True)

    def _climb(self, sizes: Sequence[int], leader: Tried) -> None:
        """Scores the leader and those that can't be told from it on the first of some numbers of images."""
        kept = [each for each in self._alive() if each is leader or each is self._baseline]
        others = [each for each in self._alive() if each not in kept]
        of_kept = len(kept) * self._fit_seconds(sizes[0]) if sizes[0] < len(self._order) else 0.0
        available = self._left() - self._reserve(leader) - SAFETY * of_kept
        chosen = affordable([self._seconds_of_steps(each, sizes) for each in others], available)
        for index, each in enumerate(others):
            if index not in chosen:
                each.stop(f"there was no time to compare it on {sizes[0]:,} {self._nouns}", is_open=True)
        for each in [*kept, *(each for each in others if each.candidate is not None)]:
            if not self._score(each, sizes[0]) and each not in kept:
                each.stop(f"there was no time to compare it on {sizes[0]:,} {self._nouns}")

    def _compare(self, size: int) -> Tried:
        """Leaves out those that are beaten on a number of images; returns the best."""
        baseline = self._baseline
        compared = [each for each in self._alive() if each.num_images == size]
        compared.sort(key=lambda each: (each.loss, each is not baseline))
        if not compared or (baseline is not None and baseline not in compared):
            return baseline or self._alive()[0]
        best = compared[0]
        for each in compared:
            if each not in (best, baseline) and _is_beaten(each, best):
                each.stop(f"{best.choice.name} is better by more than chance on {size:,} {self._nouns}")
        return best

    def _finish(self, leader: Tried) -> Tried | None:
        """Trains and tests a run of the best candidate, if there is still time for it; see `run`."""
        if self._baseline is not None and leader.num_images < len(self._order):
            leader = self._baseline  # it wasn't compared with the others on all images
        for each in self._alive():
            if each is not leader:
                each.stop(_why_not(each, leader, len(self._order)))
        if leader is self._baseline:
            return self._with_baseline(leader)
        if self.fraction < 1:
            cost = self._cost_without_fits(leader)
            self._take(larger_fraction(self.fraction, len(self._all), cost, self._fit_seconds, self._left()))
        is_scored = leader.num_images == len(self._order) or self._score(leader, len(self._order), is_last=True)
        if not is_scored and (self._with_run is not None or self._has_run):
            if leader is not self._with_run:
                leader.stop("there was no time for a run of it")
            return self._best_so_far()
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

    def _with_baseline(self, baseline: Tried) -> Tried:
        """Fine-tunes the baseline if there is the time for it; its run is there."""
        candidate, num_images = baseline.candidate, len(self._order)
        assert candidate is not None, "the baseline is never left out"
        if baseline.num_images < num_images and SAFETY * self._fit_seconds(num_images) + CLOSING_SECONDS < self._left():
            self._score(baseline, num_images)
        if baseline.num_images == num_images:
            self._is_tuned(baseline, candidate)
        return baseline

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
            candidate.cut,
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
        parts = []
        if len(alive) > 1 and steps:
            parts.append(f"{len(alive)} candidates on {steps} {self._nouns} (at most {ranking:.0f} s)")
        if leader is not self._baseline:
            parts.append(f"a run of the best ({self._cost(leader).seconds:.0f} s if it is {leader.choice.name})")
        if parts:
            self._tell(f"Plan: {', then '.join(parts)}")


def _is_beaten(tried: Tried, other: Tried) -> bool:
    assert tried.score is not None, "it has been scored"
    assert other.score is not None, "it has been scored"
    return tried.score.is_beaten_by(other.score)


def _why_not(tried: Tried, best: Tried, size: int) -> str:
    if tried.num_images < size:
        return f"there was no time to compare it on {size:,} {best.choice.spec.nouns}"
    return f"{best.choice.name} has a lower {best.loss_title}, though not by more than chance"
