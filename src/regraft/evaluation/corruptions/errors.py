"""Errors on corrupted inputs, and their summaries: mean corruption error, and relative mean corruption error.

Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from regraft.core.errors import ConfigError

NUM_SEVERITIES = 5

_CORRUPTIONS = {
    "image": "regraft.evaluation.corruptions.corruptions:ImageCorruptions",
    "text": "regraft.evaluation.corruptions.text:TextCorruptions",
}


class Corruptions(Protocol):
    """The corruptions of a modality, see `ImageCorruptions` and `TextCorruptions`.

    Attributes:
        names: of the corruptions.
    """

    names: tuple[str, ...]

    def of_batch(self, batch: Any, samples: Any) -> Any:
        """Returns the inputs of a batch of a split's loader as they are corrupted."""

    def corrupted(self, inputs: Any, name: str, severity: int) -> Any:
        """Returns corrupted inputs, the same ones at each call; the severity is 1 to `NUM_SEVERITIES`."""

    def views(self, inputs: Any, model: Any) -> Tensor:
        """Returns inputs as `TrainedNetwork.decisions` takes them."""


def corruptions_of(kind: str) -> Corruptions:
    """Returns the corruptions of a kind of input."""
    module, _, name = _CORRUPTIONS[kind].partition(":")
    found: Corruptions = getattr(import_module(module), name)()
    return found


@dataclass(frozen=True)
class CorruptionErrors:
    """Errors, see `Task.error`: without a corruption, and by corruption at severities 1 to 5."""

    num_images: int
    clean: float
    errors: Mapping[str, list[float]]


def corruption_errors(
    corruptions: Corruptions,
    batches: Iterable[tuple[Any, Tensor]],
    decide: Callable[[Any], np.ndarray],
    error: Callable[[np.ndarray, np.ndarray], float | None],
    count: Callable[[int], None],
) -> CorruptionErrors:
    """Returns the errors of a model, without corruption and at each severity of each corruption.

    A batch is decoded once, then corrupted and predicted for one severity after the other.

    Args:
        batches: inputs as `Corruptions.of_batch` gives them, and targets (batch,) or (batch, num_outputs).
        decide: maps inputs to what the error is computed from, (batch,) or (batch, num_outputs); see `Task.decisions`.
        error: of all inputs' decisions and targets; see `Task.error`.
    """
    clean: list[np.ndarray] = []
    true: list[np.ndarray] = []
    decisions: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
    for inputs, targets in batches:
        true.append(targets.numpy())
        clean.append(decide(inputs))
        count(len(targets))
        for name in corruptions.names:
            for severity in range(1, NUM_SEVERITIES + 1):
                decisions[name, severity].append(decide(corruptions.corrupted(inputs, name, severity)))
                count(len(targets))
    whole = np.concatenate(true)

    def error_of(parts: list[np.ndarray]) -> float:
        found = error(np.concatenate(parts), whole)
        if found is None:
            raise ConfigError("robustness", f"the error of these {len(whole):,} inputs is undefined")
        return found

    severities = range(1, NUM_SEVERITIES + 1)
    errors = {name: [error_of(decisions[name, severity]) for severity in severities] for name in corruptions.names}
    return CorruptionErrors(len(whole), error_of(clean), errors)


def summary(found: CorruptionErrors, baseline: CorruptionErrors | None) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the metrics, and why any of them is undefined.

    `corruption_error` is the mean error over corruptions and severities, `relative_corruption_error` the same minus the
    error on clean images. With a baseline (AlexNet in the paper) there are also `mce` and
    `relative_mce`: the mean over corruptions of the error divided by the baseline's; 1 is as bad as the baseline.
    """
    table = np.array(list(found.errors.values()))
    mean = float(table.mean())
    metrics = {"corruption_error": mean, "relative_corruption_error": mean - found.clean}
    if baseline is None:
        return metrics, {}
    undefined = {}
    of_baseline = np.array([baseline.errors[name] for name in found.errors])
    for name, clean, clean_of_baseline in (("mce", 0.0, 0.0), ("relative_mce", found.clean, baseline.clean)):
        sums, divisors = (table - clean).sum(1), (of_baseline - clean_of_baseline).sum(1)
        harmless = [corruption for corruption, each in zip(found.errors, divisors, strict=True) if each <= 0]
        if harmless:
            undefined[name] = f"undefined: the baseline errs no more with {', '.join(harmless)} than without."
        else:
            metrics[name] = float((sums / divisors).mean())
    return metrics, undefined
