"""The time of a search: what has passed, what its end takes, and whether there can be a run in it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regraft.config.quoting import key_of
from regraft.core.errors import ConfigError, require
from regraft.core.startup import seconds_since_start
from regraft.training.auto.decisions import CLOSING_SECONDS, SAFETY

_LEAST_SECONDS = 5
_SHARE_OF_CONFIG = 0.08
"""What comes before torch is imported, during which nothing ends the command, has this share of what comes before a
first run; all of it takes 5.4 CPU seconds for a small data set."""
_HOPELESS = 3.0
"""Times the budget, beyond which what has been measured by then says that it is too small; the first files are slow."""
_MAX_SHARE_OF_END = 0.1
"""Of the budget, for its end: from a cold disk the start is slow, and the end isn't."""


@dataclass
class SearchClock:
    """The time of a search, which began with its command.

    Attributes:
        budget: seconds that it may take; infinite for no limit.
        share_done: of what has to be done before there is a first run.
    """

    budget: float
    share_done: float = _SHARE_OF_CONFIG

    def passed(self) -> float:
        """Returns the seconds since the start."""
        return seconds_since_start()

    @property
    def closing(self) -> float:
        """The seconds that the end takes: at most twice as many as what comes before torch is imported."""
        return max(CLOSING_SECONDS, min(2 * self.passed(), _MAX_SHARE_OF_END * self.budget))

    @property
    def is_hopeless(self) -> bool:
        """Whether the start alone has taken so long that the budget is too small by far."""
        return self._expected > _HOPELESS * self.budget

    @property
    def _expected(self) -> float:
        """The seconds after which there would be a run, by what has been done in the time so far."""
        return self.passed() / self.share_done

    def too_small(self) -> ConfigError:
        """Returns the error that the budget is too small, which names one that isn't."""
        least = math.ceil(max(SAFETY * self._expected, self.budget) + CLOSING_SECONDS)
        reason = f"{self.passed():.0f} s have passed without a run"
        return ConfigError("time", reason, got=self.budget, fix=f"Give at least time={least}.")


def require_limit(config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raises ConfigError unless a search's config limits its time or its trials."""
    seconds, trials = config["time"], config["trials"]
    if trials is not None:
        require(type(trials) is int and trials >= 1, "trials", trials, "1, 2, 3, ..., or null")
        if "time" in map(key_of, overrides):
            raise ConfigError("trials", "it is given together with time", fix="Give one of the two.")
    is_time = isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds < math.inf
    require(is_time and seconds >= _LEAST_SECONDS, "time", seconds, f"seconds, {_LEAST_SECONDS} or more")
