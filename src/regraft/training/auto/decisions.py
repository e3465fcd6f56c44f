"""What a search does next, by what it has measured: functions of numbers alone."""

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

FIRST_RUNG = 64
IMAGES_PER_CLASS = 4
_LEAST_PER_CLASS = 2
"""So that one of them can be left out."""
SAFETY = 1.15
"""How much longer than expected a step may take, because other processes use the machine, too."""
CLOSING_SECONDS = 1.5
"""What the report and the end of the process take."""
EARLY_SECONDS = 20.0
"""Since the start of the command; by then there is a first run, if the machine allows it."""
EARLY_SAFETY = 1.5
"""As `SAFETY`, for that first run, which isn't to be late because of other processes."""
RUNS_APART = 10.0
"""Times the seconds that a run takes, between two runs of the best candidate so far."""
_FEW_IMAGES = 256
"""Up to so many a fit takes about as long."""
CONSTANT_SHARE = 0.35
"""EfficientNet-Lite0 took 4.5, 6.7, 9.4 and 19.7 ms at 96, 128, 160 and 224 px: up to 160 px, 1.7 whatever the size."""
MIN_SHARE_WITH_TEST = 0.75
"""Of the images that there is time for without a test; rather than fit on fewer for its sake, a run isn't tested."""
MAX_SHARE_OF_FIRST = 0.4
"""Share of the time left at the start that the first candidate takes if there isn't the time for all images."""


@dataclass(frozen=True)
class Cost:
    """What is left to do for a candidate's run.

    Attributes:
        num_missing: images without features that the head is fitted on.
        seconds_per_image: for each of them.
        run_seconds: of a run whose features are all stored, the fits of its head included.
        num_missing_test: test images without features, which a run can do without.
    """

    num_missing: int
    seconds_per_image: float
    run_seconds: float
    num_missing_test: int = 0

    @property
    def image_seconds(self) -> float:
        """What the images are expected to take on which the head is fitted."""
        return self.num_missing * self.seconds_per_image

    @property
    def seconds(self) -> float:
        """What all of it is expected to take."""
        return (self.num_missing + self.num_missing_test) * self.seconds_per_image + self.run_seconds

    @property
    def reserve(self) -> float:
        """What has to be left for it, the end of the command included; a test that takes longer is left out."""
        tested = self.num_missing_test * self.seconds_per_image
        return SAFETY * (self.image_seconds + self.run_seconds) + tested + CLOSING_SECONDS

    @property
    def reserve_with_test(self) -> float:
        """The same, with a test that isn't left out."""
        return SAFETY * self.seconds + CLOSING_SECONDS


def rungs(num_images: int, num_classes: int) -> list[int]:
    """Returns the numbers of images on which candidates are compared: each twice the one before, the last one all."""
    sizes, size = [], max(FIRST_RUNG, IMAGES_PER_CLASS * num_classes)
    while size < num_images:
        sizes.append(size)
        size *= 2
    return [*sizes, num_images]


def num_measured(num_images: int, num_classes: int) -> int:
    """Returns the number of images on which the time of a fit is measured first."""
    return min(max(FIRST_RUNG, _LEAST_PER_CLASS * num_classes), num_images)


@dataclass(frozen=True)
class FitSeconds:
    """What it takes to fit a head in closed form, by what it has taken on the most images so far.

    Time grows with the square of their number, once there are some hundreds.
    """

    num_images: int = 1
    seconds: float = 0.0

    def __call__(self, size: int) -> float:
        """Returns the seconds that are expected on a number of images."""
        growth = max(size, _FEW_IMAGES) / max(self.num_images, _FEW_IMAGES)
        return self.seconds * max(1.0, growth) ** 2

    def with_fit(self, num_images: int, seconds: float) -> "FitSeconds":
        """Returns what is expected after another fit."""
        return FitSeconds(num_images, seconds) if num_images >= self.num_images else self


def fraction_that_fits(
    num_images: int, num_test: int, num_classes: int, cost: Cost, fit: FitSeconds, seconds_left: float
) -> float:
    """Returns the share of the training images that the first candidate has the time for, 0 if that is too few.

    Args:
        cost: of a run of the first candidate on all of them, without the fits of its head.
        seconds_left: of the budget.
    """
    least = min(num_images, rungs(num_images, num_classes)[0])
    rate = cost.seconds_per_image * cost.num_missing / num_images
    most = math.floor(MAX_SHARE_OF_FIRST * max(seconds_left, 0.0) / (SAFETY * rate)) if rate else num_images
    for safety in (SAFETY, 1.0):

        def size_with(tested: int, safety: float = safety) -> int:
            seconds = _growing(rate, cost.run_seconds + tested * cost.seconds_per_image, fit)
            size = _largest(num_images, seconds, (seconds_left - CLOSING_SECONDS) / safety)
            return size if size == num_images else min(size, most)

        size, without_test = size_with(num_test), size_with(0)
        if size < max(least, MIN_SHARE_WITH_TEST * without_test):
            size = without_test
        if size >= least:
            return share_of(size, num_images)
    return 0.0


def larger_fraction(fraction: float, num_images: int, cost: Cost, fit: FitSeconds, seconds_left: float) -> float:
    """Returns the share of the training images that there is time for in the end, at least the one before.

    Args:
        fraction: the share before.
        cost: of the run on that share, without the fits of its head.
    """
    num_done = round(fraction * num_images) - cost.num_missing
    seconds = _growing(2 * cost.seconds_per_image, cost.run_seconds - 2 * num_done * cost.seconds_per_image, fit)
    tests = cost.num_missing_test * cost.seconds_per_image
    size = _largest(num_images, seconds, (seconds_left - tests - CLOSING_SECONDS) / SAFETY)
    return max(fraction, share_of(size, num_images))


def _growing(rate: float, constant: float, fit: FitSeconds) -> Callable[[int], float]:
    """Returns the seconds of a number of images: their features, and a head that is fitted to choose and in the run."""
    return lambda size: size * rate + constant + 2 * fit(size)


def _largest(num_images: int, seconds: Callable[[int], float], available: float) -> int:
    """Returns the largest number of images whose seconds are available, 0 if even one takes longer."""
    return bisect.bisect_right(range(1, num_images + 1), available, key=seconds)


def least_seconds(passed: float, num_images: int, num_classes: int, cost: Cost, fit: FitSeconds) -> int:
    """Returns the least budget with which a run of the first candidate, without a test, ends in time, whole seconds.

    Args:
        passed: since the start.
    """
    least = min(num_images, rungs(num_images, num_classes)[0])
    features = least / MAX_SHARE_OF_FIRST * cost.seconds_per_image
    return math.ceil(passed + features + SAFETY * (cost.run_seconds + 2 * fit(least)) + CLOSING_SECONDS)


def affordable(seconds: Sequence[Sequence[float]], available: float) -> list[int]:
    """Returns which candidates, the best first, are taken along; those that don't fit are passed over.

    Of those that are taken along, half are assumed to be left after each number of images.

    Args:
        seconds: that each candidate takes, for each number of images that is to come.
        available: for all of them.
    """
    chosen: list[int] = []
    for index in range(len(seconds)):
        tried = [*chosen, index]
        planned = sum(
            seconds[each][rung]
            for rung in range(len(seconds[index]))
            for each in tried[: math.ceil(len(tried) / 2**rung)]
        )
        if SAFETY * planned <= available:
            chosen = tried
    return chosen


def early_share(num_images: int, num_classes: int, cost: Cost, passed: float) -> float:
    """Returns the share of the training images for a first run that is there early, with a least number of images.

    Args:
        cost: of a run of the first candidate on few images; how many are missing doesn't count.
        passed: seconds since the start.
    """
    available = (EARLY_SECONDS - passed) / EARLY_SAFETY - cost.run_seconds
    fitting = max(available / cost.seconds_per_image, rungs(num_images, num_classes)[0])
    return share_of(fitting, num_images)


def share_of(size: float, num_images: int) -> float:
    """Returns the share that a number of images is of all, in thousandths, which are rounded down."""
    return min(1.0, max(math.floor(1000 * size / num_images), 1) / 1000)


def seconds_at(size: int, known: Mapping[int, float], exponent: int) -> float:
    """Returns what an input takes at a size, by that of the same model at other sizes; 0 without any.

    It grows with a power of the size, that of an image with the area, but for what it takes whatever the size, such as
    to read the image. That is known from two sizes; from one, it is taken to be `CONSTANT_SHARE` of the time at that
    size, if the other one is larger.

    Args:
        known: seconds by size.
        exponent: see `InputSpec.size_exponent`.
    """
    if not known:
        return 0.0
    smallest, largest = min(known), max(known)
    if smallest == largest:
        constant = CONSTANT_SHARE if size > largest else 0.0
        return known[largest] * (constant + (1 - constant) * (size / largest) ** exponent)
    growth = max(0.0, known[largest] - known[smallest]) / (largest**exponent - smallest**exponent)
    return max(0.0, known[largest] + growth * (size**exponent - largest**exponent))


def largest_in_time(costs: dict[T, Cost], seconds_left: float) -> T | None:
    """Returns the last of some candidates, from the smallest to the largest, whose tested run there is time for."""
    return next((each for each, cost in reversed(costs.items()) if cost.reserve_with_test <= seconds_left), None)
