"""A search on made-up candidates and a clock of its own: what it chooses, and that it keeps to its time."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.image_spec import ImageSpec
from regraft.core.text_spec import TextSpec
from regraft.core.time_limit import TimeOver
from regraft.data.splits import stratified_order
from regraft.tasks import TASKS
from regraft.training.auto import measure as module
from regraft.training.auto.choice import Choice
from regraft.training.auto.search import Search
from regraft.training.auto.tried import Tried
from regraft.training.auto.tuning import Leader, TuningPlan

NUM_IMAGES, NUM_TEST = 300, 100
BUILD_SECONDS, RUN_SECONDS = 1.0, 4.0


@dataclass
class Clock:
    """A clock that only moves when something takes time."""

    budget: float
    now: float = 8.0

    def passed(self) -> float:
        return self.now


@dataclass
class Made:
    """A candidate whose features tell the classes the better apart the higher their signal is."""

    clock: Clock
    signal: float
    rate: float
    slowdown: float = 1.0
    slowdown_of_test: float = 1.0
    num_classes: int = 3
    num_test: int = NUM_TEST
    num_images: int = NUM_IMAGES
    seconds_per_image: float | None = None
    longest: int | None = None

    def __post_init__(self) -> None:
        self.flops = self.rate
        self.labels = self.strata = torch.arange(self.num_images) % 3
        self.task, self.weights, self.groups = TASKS["classification"], None, None
        self.last_stage_solvers = ()
        self.cut = None
        self.done: set[int] = set()
        self.done_test: set[int] = set()
        generator = torch.Generator().manual_seed(0)
        self._noise = torch.randn(self.num_images, 5, generator=generator)

    def __len__(self) -> int:
        return len(self.labels)

    def num_missing(self, positions: Tensor, *, with_test: bool = False) -> int:
        return len(set(positions.tolist()) - self.done) + with_test * (self.num_test - len(self.done_test))

    def compute(self, positions: Tensor) -> None:
        new = set(positions.tolist()) - self.done
        if new:
            self.clock.now += len(new) * self.rate * self.slowdown
            self.seconds_per_image = self.rate * self.slowdown
        self.done |= new

    def compute_test(self, positions: Tensor) -> None:
        new = set(positions.tolist()) - self.done_test
        self.clock.now += len(new) * self.rate * self.slowdown * self.slowdown_of_test
        self.done_test |= new

    def features(self, positions: Tensor) -> dict[str, Tensor]:
        assert set(positions.tolist()) <= self.done
        return {"last": self.signal * torch.eye(3)[self.labels[positions]] @ torch.eye(3, 5) + self._noise[positions]}

    def release(self) -> None:
        pass


@dataclass
class Tuned:
    """Fine-tuning that takes no time."""

    found: list[str] | None
    leaders: list[Leader] = field(default_factory=list)

    def plan(self, leader: Leader) -> TuningPlan | None:
        self.leaders.append(leader)
        return TuningPlan(None, 4, 1.0, 1.0, 0.1)

    def run(self, leader: Leader, plan: TuningPlan) -> list[str] | None:
        return self.found


class Bench:
    """A search over candidates given by name, signal and seconds an image."""

    def __init__(
        self,
        budget: float,
        monkeypatch: pytest.MonkeyPatch,
        *,
        has_run: bool = False,
        tuning: "Tuned | None" = None,
        num_images: int = NUM_IMAGES,
        **candidates: tuple[float, float],
    ) -> None:
        self.clock = Clock(budget)
        monkeypatch.setattr(module.time, "perf_counter", self.clock.passed)
        self.made = {name: Made(self.clock, *each, num_images=num_images) for name, each in candidates.items()}
        self.runs: list[tuple[str, bool]] = []
        self.fractions: list[float] = []
        self.lines: list[str] = []
        self.name_of: Callable[[Choice], str] = lambda choice: choice.model
        self.search = Search(
            [Choice(name, ImageSpec, None, (), dict) for name in candidates],
            self.clock,
            make=self.make,
            train=self.train,
            tell=self.lines.append,
            subset_seed=0,
            has_fraction=False,
            has_run=has_run,
            tuning=tuning,
        )

    def make(self, choice: Choice) -> Made:
        self.clock.now += BUILD_SECONDS
        made = self.made[self.name_of(choice)]
        if made.signal < 0:
            raise ConfigError("model", "its weights aren't here")
        return made

    def train(self, choice: Choice, fraction: float, is_tested: bool) -> None:
        made = self.made[self.name_of(choice)]
        order = stratified_order(made.labels, 0)
        assert made.num_missing(order[: round(fraction * len(order))], with_test=is_tested) == 0
        self.clock.now += RUN_SECONDS
        self.runs.append((self.name_of(choice), is_tested))
        self.fractions.append(fraction)

    def reasons(self) -> dict[str, str | None]:
        return {each.choice.model: each.reason for each in self.search.tried}

    def run(self) -> Tried:
        best = self.search.run()
        assert best is not None
        return best


def test_the_best_candidate_is_trained_and_tested_once(monkeypatch):
    bench = Bench(200, monkeypatch, a=(0.5, 0.01), b=(3.0, 0.02), c=(1.0, 0.02))
    best = bench.run()
    assert best.choice.model == "b"
    assert bench.runs == [("a", True), ("b", True)]
    assert best.num_images == NUM_IMAGES
    assert bench.reasons()["a"] == "b has a lower log loss, though not by more than chance"
    assert bench.clock.now <= 200


def test_a_first_run_is_there_early_though_there_are_many_images(monkeypatch):
    bench = Bench(1000, monkeypatch, num_images=3000, a=(0.5, 0.02), b=(3.0, 0.02))
    train, ends = bench.train, []
    bench.search._train = lambda *words: ends.append((train(*words), bench.clock.now))
    bench.run()
    assert ends[0][1] <= 20
    assert 0.02 < bench.fractions[0] < 0.2
    assert len(bench.runs) > 2  # better ones replace it, long before the last one
    assert bench.runs[-1] == ("b", True)
    assert bench.fractions == sorted(bench.fractions)
    assert bench.fractions[-1] == 1


def test_on_a_slow_machine_there_is_a_run_before_anything_is_compared(monkeypatch):
    bench = Bench(60, monkeypatch, a=(0.5, 0.02), b=(3.0, 0.02))
    bench.clock.now = 20.0
    bench.run()
    assert bench.runs[0] == ("a", False)
    assert round(bench.fractions[0] * NUM_IMAGES) == 64
    assert "so that there is one whatever happens" in bench.lines[1]
    assert len(bench.runs) > 1
    assert bench.clock.now <= 60


def test_when_the_time_is_over_the_last_run_is_the_best_one_that_there_is(monkeypatch):
    bench = Bench(200, monkeypatch, a=(0.5, 0.02), b=(3.0, 0.02))
    usual = bench.train

    def stopping(*words: object) -> None:
        if bench.runs:
            raise TimeOver
        usual(*words)

    bench.search._train = stopping
    best = bench.run()
    assert [best.choice.model] == [name for name, _ in bench.runs] == ["a"]
    assert bench.search.fraction == bench.fractions[0]
    assert bench.lines[-1].startswith("The time was over before a run of the best candidate; the last run is")


def test_when_the_time_is_over_before_any_run_nothing_is_found(monkeypatch):
    bench = Bench(200, monkeypatch, a=(0.5, 0.02))

    def stop(*_: object) -> None:
        raise TimeOver

    bench.search._train = stop
    with pytest.raises(TimeOver):
        bench.run()


def test_where_an_earlier_search_has_left_a_run_there_is_no_early_one(monkeypatch):
    bench = Bench(200, monkeypatch, has_run=True, a=(0.5, 0.01), b=(3.0, 0.02))
    bench.run()
    assert bench.runs == [("a", True), ("b", True)]


def test_where_the_time_is_over_the_run_of_an_earlier_search_is_kept(monkeypatch):
    bench = Bench(60, monkeypatch, has_run=True, a=(1.0, 0.05))

    def slower(line: str) -> None:
        if "100 to test" in line:
            bench.made["a"].slowdown = 8

    bench.search._tell = slower
    assert bench.search.run() is None
    assert bench.runs == []
    assert bench.clock.now <= 1.2 * 60


@pytest.mark.parametrize("found", [["freezing=none"], None])
def test_fine_tuning_starts_from_a_run_that_is_tested_only_if_it_stays_the_best(monkeypatch, found):
    tuning = Tuned(found)
    bench = Bench(200, monkeypatch, tuning=tuning, a=(0.5, 0.01), b=(3.0, 0.02))
    assert bench.run().tuned_with == found
    assert bench.runs == [("a", True), ("b", False), *([] if found else [("b", True)])]
    (leader,) = tuning.leaders
    assert (leader.choice.model, leader.num_images, leader.num_test) == ("b", NUM_IMAGES, NUM_TEST)
    assert leader.run_seconds == RUN_SECONDS


def test_a_size_that_is_too_slow_by_what_another_one_takes_is_not_built(monkeypatch):
    bench = Bench(60, monkeypatch, a=(0.5, 0.02), b=(3.0, 0.3))
    bench.search._waiting = [
        Choice("a", ImageSpec, 384, (), dict),
        Choice("a", ImageSpec, 96, (), dict),
        Choice("b", ImageSpec, 96, (), dict),
    ]
    bench.run()
    assert [each.reason for each in bench.search.tried if each.choice.size == 384] == ["a run would take 91 s or more"]
    assert all(each.seconds == 0 for each in bench.search.tried if each.choice.size == 384)
    (line,) = [line for line in bench.lines if line.startswith("There isn't the time for a at 384 px; time=")]
    assert 105 < int(line.split("time=")[1].split()[0]) < 130


def test_candidates_that_are_beaten_early_cost_few_images(monkeypatch):
    bench = Bench(500, monkeypatch, a=(3.0, 0.01), b=(0.2, 0.01), c=(3.0, 0.01))
    bench.run()
    assert len(bench.made["b"].done) == 64
    assert len(bench.made["c"].done) > 64


def test_what_does_not_fit_is_passed_over_and_the_time_is_kept(monkeypatch):
    bench = Bench(40, monkeypatch, a=(0.5, 0.01), b=(3.0, 1.0), c=(1.0, 0.015))
    assert bench.run().choice.model == "c"
    assert "a run would take" in bench.reasons()["b"]
    assert bench.clock.now <= 40


def test_a_machine_that_slows_down_does_not_break_the_budget(monkeypatch):
    bench = Bench(60, monkeypatch, a=(0.5, 0.01), b=(3.0, 0.03))
    usual = bench.make

    def slower(choice: Choice) -> Made:
        made = usual(choice)
        made.slowdown = 6 if choice.model == "b" else 1
        return made

    bench.search._make = slower
    best = bench.run()
    assert bench.clock.now <= 1.05 * 60
    assert best.choice.model == bench.runs[-1][0]


def test_of_many_images_as_many_are_taken_as_there_is_time_for(monkeypatch):
    bench = Bench(30, monkeypatch, a=(1.0, 0.08))
    assert bench.run().choice.model == "a"
    assert 0.2 < bench.search.fraction < 1
    assert 20 < bench.clock.now <= 1.05 * 30


def test_without_the_time_for_a_test_the_best_candidate_is_trained_all_the_same(monkeypatch):
    bench = Bench(60, monkeypatch, a=(0.5, 0.01), b=(3.0, 0.05))
    bench.made["b"].slowdown_of_test = 20
    assert bench.run().choice.model == "b"
    assert bench.runs == [("a", True), ("b", False)]
    assert bench.clock.now <= 60


def test_a_budget_that_nothing_fits_into_says_what_is_needed(monkeypatch):
    with pytest.raises(
        ValueError, match=r"time: got 12; .* a takes 100 ms for each of .* Give at least time=\d+"
    ) as raised:
        Bench(12, monkeypatch, a=(1.0, 0.1)).run()
    least = int(str(raised.value).rpartition("time=")[2].rstrip("."))
    assert Bench(least, monkeypatch, a=(1.0, 0.1)).run().choice.model == "a"


def test_candidates_that_cannot_be_used_are_passed_over_by_name(monkeypatch):
    nan = (torch.nan, 0.01)
    bench = Bench(200, monkeypatch, worst=nan, gone=(-1, 0.01), a=(1.0, 0.01), bad=nan)
    assert bench.run().choice.model == "a"
    assert bench.reasons()["gone"] == "its weights aren't here."
    assert all("NaN" in bench.reasons()[name] for name in ("worst", "bad"))


def test_without_any_candidate_the_reasons_are_errors(monkeypatch):
    with pytest.raises(ValueError, match=r"(?s)models: gone: its weights aren't here\..*models: bad: .* NaN"):
        Bench(200, monkeypatch, gone=(-1, 0.01), bad=(torch.nan, 0.01)).run()


def test_without_a_limit_the_choice_is_the_same_however_fast_the_machine_is(monkeypatch):
    slow = Bench(torch.inf, monkeypatch, a=(1.0, 1.0), b=(1.2, 5.0), c=(1.1, 3.0))
    quick = Bench(torch.inf, monkeypatch, a=(1.0, 0.01), b=(1.2, 0.01), c=(1.1, 0.2))
    assert slow.run().choice.model == quick.run().choice.model
    assert slow.reasons() == quick.reasons()


def sized(budget: float, monkeypatch: pytest.MonkeyPatch, **signals: float) -> Bench:
    """A search over one model at several sizes, whose seconds an image grow with the area."""
    bench = Bench(budget, monkeypatch, **{name: (signal, int(name[1:]) ** 2 / 1e6) for name, signal in signals.items()})
    bench.search._waiting = [Choice("m", ImageSpec, int(name[1:]), (name,), dict) for name in signals]
    bench.name_of = lambda choice: choice.overrides[0]
    return bench


@pytest.mark.parametrize(
    ("budget", "first", "is_said"),
    [(70, "s224", False), (30, "s160", True), (24, "s128", True), (19, "s96", True), (torch.inf, "s224", False)],
)
def test_the_first_run_is_at_the_largest_size_that_there_is_time_for(monkeypatch, budget, first, is_said):
    bench = sized(budget, monkeypatch, s224=1.0, s160=1.0, s128=1.0, s96=1.0)
    bench.run()
    whole = [run for run, fraction in zip(bench.runs, bench.fractions, strict=True) if fraction == 1]
    assert whole[0] == (first, True)
    assert any("There isn't the time for m at 224 px; time=" in line for line in bench.lines) == is_said
    assert bench.clock.now <= budget


@pytest.mark.parametrize("run_seconds", [1.0, 2.0])  # in the second case, only if it isn't counted again
def test_a_larger_size_is_chosen_if_a_first_run_has_taken_less_than_expected(monkeypatch, run_seconds):
    monkeypatch.setattr(sys.modules[__name__], "BUILD_SECONDS", 5.0)
    monkeypatch.setattr(sys.modules[__name__], "RUN_SECONDS", run_seconds)
    bench = sized(48, monkeypatch, s224=1.0, s128=1.0)
    bench.run()
    assert (bench.runs[0], bench.runs[-1]) == (("s128", False), ("s224", True))
    assert ("s128", True) not in bench.runs
    assert bench.fractions[-1] == 1
    assert bench.clock.now <= 48


def test_texts_that_no_length_cuts_are_looked_at_with_the_largest_alone(monkeypatch):
    bench = sized(torch.inf, monkeypatch, s256=1.0, s128=1.0, s64=1.0)
    bench.search._waiting = [Choice("m", TextSpec, each.size, each.overrides, dict) for each in bench.search._waiting]
    for made in bench.made.values():
        made.longest = 40
    assert bench.run().choice.name == "m at 256 tokens"
    reason = "the same as m at 256 tokens, as no text has more than 40 tokens"
    assert {each.choice.size: each.reason for each in bench.search.tried} == {256: None, 128: reason, 64: reason}
    assert not bench.made["s128"].done


def test_an_early_run_is_at_a_small_size_if_the_chosen_one_takes_too_long(monkeypatch):
    bench = sized(100, monkeypatch, s384=1.0, s96=1.0)
    bench.run()
    assert bench.runs == [("s96", False), ("s384", True)]
    assert bench.fractions[0] < 0.3


def test_of_candidates_that_cannot_be_told_apart_the_one_with_the_lower_loss_is_chosen(monkeypatch):
    bench = Bench(500, monkeypatch, a=(2.0, 0.01), b=(2.0, 0.01), c=(0.5, 0.01))
    bench.made["b"]._noise = torch.randn(NUM_IMAGES, 5, generator=torch.Generator().manual_seed(3))
    assert bench.run().choice.model == "b"
    assert bench.runs == [("a", True), ("b", True)]
    assert bench.reasons()["a"] == "b has a lower log loss, though not by more than chance"
    assert "is better by more than chance" in bench.reasons()["c"]


@pytest.mark.parametrize(("budget", "best"), [(60, "c"), (26, "a")])
def test_what_there_was_no_time_to_compare_is_looked_at_again_if_the_time_is_not_needed(monkeypatch, budget, best):
    usual = Search._try

    def postponing_c(search: Search, choice: Choice, *words: object) -> None:
        if choice.model == "c":
            search.tried.append(Tried(choice))
            search.tried[-1].stop("there was no time to compare it", is_open=True)
        else:
            usual(search, choice, *words)

    monkeypatch.setattr(Search, "_try", postponing_c)
    bench = Bench(budget, monkeypatch, a=(1.0, 0.01), b=(0.5, 0.01), c=(3.0, 0.01))
    assert bench.run().choice.model == bench.runs[-1][0] == best
    assert bench.reasons()["c"] == (None if best == "c" else "there was no time to compare it")
    assert bench.clock.now <= budget


def test_a_candidate_that_was_not_compared_on_all_images_does_not_replace_the_first_run(monkeypatch):
    bench = Bench(42, monkeypatch, a=(0.5, 0.01), b=(3.0, 0.03))
    usual = bench.make

    def slower(choice: Choice) -> Made:
        made = usual(choice)
        made.slowdown = 3 if choice.model == "b" else 1
        return made

    bench.search._make = slower
    assert bench.run().choice.model == "a"
    assert bench.runs == [("a", True)]
    assert bench.clock.now <= 42


def test_a_first_run_that_takes_longer_than_expected_is_of_the_images_that_were_computed(monkeypatch):
    bench = Bench(26, monkeypatch, a=(1.0, 0.02))

    def slower(line: str) -> None:
        bench.made["a"].slowdown = 4

    bench.search._tell = slower
    assert bench.run().choice.model == "a"
    assert 0.2 < bench.search.fraction < 1
    assert bench.fractions[-1] == bench.search.fraction
    assert bench.clock.now <= 1.05 * 26


def test_uncut_texts_have_an_early_run_of_the_smallest_size_on_a_slow_machine(monkeypatch):
    bench = sized(300, monkeypatch, s256=1.0, s64=1.0)
    bench.search._waiting = [Choice("m", TextSpec, each.size, each.overrides, dict) for each in bench.search._waiting]
    for made in bench.made.values():
        made.longest = 40
    bench.clock.now = 19.0
    best = bench.run()
    assert bench.runs == [("s64", False), ("s256", True)]
    assert [each for each in bench.search.tried if each.reason is None] == [best]
