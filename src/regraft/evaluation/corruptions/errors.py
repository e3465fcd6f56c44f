"""Error rates on corrupted images, and their summaries: mean corruption error, and relative mean corruption error.

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
    """Error rates, in [0, 1]: without a corruption, and by corruption at severities 1 to 5."""

    num_images: int
    clean: float
    errors: Mapping[str, list[float]]


def corruption_errors(
    batches: Iterable[tuple[Tensor, Tensor]], classify: Callable[[Tensor], Tensor], count: Callable[[int], None]
) -> CorruptionErrors:
    """Returns the error rates of a classifier, without corruption and at each severity of each corruption.

    A batch is decoded once, then corrupted and classified for one severity after the other.

    Args:
        batches: images (batch, channels, height, width), uint8, the model's input before it is normalised, and targets
            (batch,), int64.
        classify: maps images to predicted classes, (batch,), int64, on the CPU.
    """
    wrong = {name: [0] * NUM_SEVERITIES for name in CORRUPTIONS}
    num_images, num_wrong = 0, 0
    with ThreadPoolExecutor() as pool:
        for images, targets in batches:
            num_images += len(targets)
            num_wrong += int((classify(images) != targets).sum())
            count(len(targets))
            rows = list(images.permute(0, 2, 3, 1).numpy())
            for name in CORRUPTIONS:
                for severity in range(1, NUM_SEVERITIES + 1):
                    made = pool.map(corrupted, rows, [name] * len(rows), [severity] * len(rows))
                    changed = torch.from_numpy(np.stack(list(made))).permute(0, 3, 1, 2)
                    wrong[name][severity - 1] += int((classify(changed) != targets).sum())
                    count(len(targets))
    errors = {name: [number / num_images for number in numbers] for name, numbers in wrong.items()}
    return CorruptionErrors(num_images, num_wrong / num_images, errors)


def summary(found: CorruptionErrors, baseline: CorruptionErrors | None) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the metrics, and why any of them is undefined.

    `corruption_error` is the mean error over corruptions and severities, `relative_corruption_error` the same minus the
    error on clean images, both in [0, 1]. With a baseline (AlexNet in the paper) there are also `mce` and
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
