"""Fits a temperature and thresholds on what is held out, and keeps them in the run's folder."""

import logging
from collections.abc import Callable

from regraft.evaluation import temperature as temperatures
from regraft.evaluation import thresholds
from regraft.evaluation.evaluator import Evaluator, Logits
from regraft.evaluation.options import ThresholdMetric
from regraft.runs import calibration
from regraft.runs import thresholds as kept_thresholds
from regraft.runs.calibration import Calibration
from regraft.runs.folder import Run, run_of
from regraft.runs.thresholds import Thresholds

log = logging.getLogger(__name__)


def calibrated(evaluator: Evaluator, by: str, logits: Logits) -> Calibration:
    """Fits a temperature and keeps it, unless it was fitted on other data than the run's.

    Args:
        by: how the samples are held out.
    """
    fitted = temperatures.fit(logits.values, logits.targets, by, evaluator.checkpoint.path)
    problem = _kept(evaluator, lambda run: calibration.write(run, fitted))
    if problem:
        log.warning("The temperature %.4f holds for this evaluation only: %s.", fitted.temperature, problem)
    return fitted


def with_thresholds(
    evaluator: Evaluator, by: str, logits: Logits, temperature: float, metric: ThresholdMetric
) -> Thresholds:
    """Fits thresholds and keeps them, unless they were fitted on other data than the run's.

    Args:
        by: how the samples are held out.
    """
    path, names = evaluator.checkpoint.path, evaluator.checkpoint.class_names
    fitted = thresholds.fit(
        logits.task,
        logits.outputs(temperature),
        logits.targets,
        names,
        metric,
        path,
        split=by,
        temperature=temperature,
        positive=logits.positive,
    )
    problem = _kept(evaluator, lambda run: kept_thresholds.write(run, fitted))
    if problem:
        log.warning("The thresholds hold for this evaluation only: %s.", problem)
    return fitted


def _kept(evaluator: Evaluator, write: Callable[[Run], None]) -> str:
    """Writes what was fitted into the run's folder; returns why it can't be kept, an empty text if it is."""
    checkpoint = evaluator.checkpoint.path
    run = run_of(checkpoint)
    if run is None:
        return f"{checkpoint} isn't in a run's folder"
    if not evaluator.is_on_all_own_data:
        return "it was fitted on other data than the run's, or on a part of it"
    try:
        write(run)
    except OSError as error:
        return f"it can't be kept in {run.path} ({error.strerror})"
    return ""
