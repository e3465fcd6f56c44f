"""What the end of a training says beside its figures: the tested weights, the number of images, and what is next."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regraft.config.fitting import was_fitted_in_closed_form
from regraft.config.given import sections_given
from regraft.config.quoting import for_shell, trusting
from regraft.runs.folder import Run
from regraft.runs.metrics_csv import rows_of
from regraft.sweeps.objectives import kept_row


def accuracy_note(run: Run, name: str, nouns: str) -> str:
    """Returns the interval of a metric of the final test and the number of its inputs (`nouns`); else nothing."""
    from regraft.runs import predictions as predictions_files
    from regraft.tasks.reliability import wilson

    split, _, metric = name.rpartition("/")
    found = predictions_files.read(run.path)
    if found is None or metric != "acc" or found.split != split or found.targets.ndim != 1:
        return ""
    low, high = wilson(int((found.targets == found.predicted).sum()), len(found.targets))
    return f" (95 % interval {low:.4f} to {high:.4f}, {len(found.targets):,} {nouns})"


def nouns_of(results: Mapping[str, Any]) -> str:
    """Returns what the inputs of a run are called."""
    return f"{results.get('noun', 'image')}s"


def tested_weights(results: Mapping[str, Any], run: Run) -> str:
    """Returns which checkpoint was tested, of which epoch, and why that one."""
    is_best = run.best_ckpt.is_file()
    if not is_best and not run.can_resume:  # as after fast_dev_run
        return "those of the last step, which aren't kept"
    name = (run.best_ckpt if is_best else run.last_ckpt).name
    if "refit" in results:
        return f"{name}, fitted again on all {nouns_of(results)}, validation included"
    if was_fitted_in_closed_form(run.readable_config):
        return f"{name}, found in closed form"
    kept = results.get("kept")
    if not is_best or kept is None:
        return f"{name}, after the last of {results['num_epochs']} epochs"
    best = run.readable_config.get("callbacks", {}).get("best") or {}
    monitor = str(best.get("monitor"))
    rows = [row for row in rows_of(run) if monitor in row]
    value = kept_row(rows, run.readable_config, results).get(monitor) if rows else None
    num_images, nouns = results.get("num_images", {}).get("val", 0), nouns_of(results)
    reached = f"{name}, after {kept['epoch'] + 1} of {results['num_epochs']} epochs"
    if value is None:
        return reached
    return f"{reached}, {monitor} {value:.4f}{f' on {num_images:,} {nouns}' if num_images else ''}"


def next_commands(results: Mapping[str, Any], run: Run) -> list[str]:
    """Returns the commands that a finished run is used with; none that needs an object, which only Python can give."""
    reference = for_shell("run", _shown(run.path))
    if not (run.best_ckpt.is_file() or run.can_resume):  # as after fast_dev_run
        return []
    config = run.readable_config
    reference = " ".join([reference, *map(shlex.quote, trusting(config.get("trust") or ()))])
    given = sections_given(config)
    is_of_objects = not {"model", "head"}.isdisjoint(given)
    commands = [] if is_of_objects else [f"regraft predict {reference} input=PATH", f"regraft serve {reference}"]
    if given:
        return commands
    if "limit" in results:
        return [*commands, f"regraft resume {reference}"]
    if was_fitted_in_closed_form(config) or "refit" in results or not run.can_resume:
        return commands
    return [*commands, f"regraft resume {reference} trainer.max_epochs={2 * results['num_epochs']}"]


def _shown(path: Path) -> str:
    """Returns a path relative to the current folder if it is in it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
