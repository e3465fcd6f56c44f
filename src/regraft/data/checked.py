"""The result of a check of a data set."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from regraft.data.class_counts import Counts
from regraft.data.findings import SEVERITIES, Finding, Severity


@dataclass(frozen=True)
class Check:
    """The result of a check.

    Attributes:
        place: the folder, or the name of the data set.
        counts: usable samples by split and class, or with each label or target.
        findings: the worst first.
        num_read: number of samples that weren't known from an earlier check.
        what: what `counts` are by, one and several of it.
        sizes: samples by split, where one may have several labels; None where `counts` add up to them.
        noun: what a sample is called.
    """

    place: str
    counts: Counts
    findings: list[Finding]
    num_samples: int
    num_read: int
    seconds: float
    what: tuple[str, str] = ("class", "classes")
    sizes: Mapping[str, int] | None = None
    noun: str = "image"

    def num(self, severity: Severity) -> int:
        """Returns the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def finished_check(
    place: str, counts: Counts, findings: list[Finding], num_samples: int, num_read: int, started: float
) -> Check:
    """Returns a check that began at `started`, by `time.perf_counter()`, its findings sorted."""
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Check(place, counts, findings, num_samples, num_read, time.perf_counter() - started)
