"""How often a classifier errs on corrupted pictures, and what that adds up to: mean corruption error, and relative.

Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regraft.evaluation.corruptions.corruptions import CORRUPTIONS, NUM_SEVERITIES, corrupted


@dataclass(frozen=True)
class CorruptionErrors:
    """Shares of images that are classified wrongly.

    Attributes:
        num_images: how many were asked about.
        clean: of them as they are.
        errors: by corruption, at severities 1 to 5.
    """

    num_images: int
    clean: float
    errors: Mapping[str, list[float]]


def corruption_errors(
    batches: Iterable[tuple[Tensor, Tensor]],
    classify: Callable[[Tensor], Tensor],
    count: Callable[[int], None],
) -> CorruptionErrors:
    """Returns how often a classifier errs, without corruption and at each severity of each.

    A batch's pictures are decoded once, and corrupted and classified one severity after the other.

    Args:
        batches: pictures (batch, channels, height, width), uint8, as the model sees them before they are normalised,
            and targets (batch,), int64.
        classify: from such pictures to predicted classes, (batch,), int64, on the CPU.
        count: called with the number of pictures classified.
    """
    wrong = {name: [0] * NUM_SEVERITIES for name in CORRUPTIONS}
    num_images, num_wrong = 0, 0
    with ThreadPoolExecutor() as pool:
        for pictures, targets in batches:
            num_images += len(targets)
            num_wrong += int((classify(pictures) != targets).sum())
            count(len(targets))
            rows = list(pictures.permute(0, 2, 3, 1).numpy())
            for name in CORRUPTIONS:
                for severity in range(1, NUM_SEVERITIES + 1):
                    made = pool.map(corrupted, rows, [name] * len(rows), [severity] * len(rows))
                    changed = torch.from_numpy(np.stack(list(made))).permute(0, 3, 1, 2)
                    wrong[name][severity - 1] += int((classify(changed) != targets).sum())
                    count(len(targets))
    errors = {name: [number / num_images for number in numbers] for name, numbers in wrong.items()}
    return CorruptionErrors(num_images, num_wrong / num_images, errors)


def summary(found: CorruptionErrors, baseline: CorruptionErrors | None) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the metrics, and why one isn't among them.

    `corruption_error` is the mean error over corruptions and severities, `relative_corruption_error` the same less the
    error on clean images, both in [0, 1]. With a baseline there are the paper's `mce` and `relative_mce` too: each
    corruption's error is divided by the baseline's, and the mean over corruptions taken; 1 is as bad as the baseline.

    Args:
        found: of the model.
        baseline: of the model that errors are normalised by; in the paper AlexNet.
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
