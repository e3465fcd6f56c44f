"""All heads of a probe, each with an estimate of how good it is, and the choice of the best."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from regraft.config.hydra_messages import MISTAKES
from regraft.config.instantiate import Config, factory
from regraft.core.console import ProgressBar
from regraft.core.errors import ConfigError, errors_in
from regraft.tasks import Task, task_of
from regraft.training.auto.scores import Score
from regraft.training.caching.feature_plan import require_storable_if_wanted
from regraft.training.closed_form.policy import require_suitable_head
from regraft.training.from_config import build_freezing
from regraft.training.probe.closed_forms import closed_form_rows, on_validation
from regraft.training.probe.features import ProbeFeatures
from regraft.training.probe.grid import GridPoint, TrainedHead, fit_grid, require_linear_heads
from regraft.training.probe.rows import BY_GROUP, FOLDS, HOLD_OUT, LEAVE_ONE_OUT, HeadRow

_NUM_TRAINED = 3
"""Rows of trained heads for each number of shots; the others are in grid.csv."""


@dataclass(frozen=True)
class Comparison:
    """What a probe found.

    Attributes:
        trained: all heads of the grid; empty if there is none, or no validation images.
        best: the chosen row.
        notes: sentences on the estimates and the choice.
    """

    trained: dict[GridPoint, TrainedHead]
    rows: list[HeadRow]
    best: HeadRow
    notes: list[str]

    @property
    def record(self) -> dict[str, Any]:
        """The table in plain types."""
        return {
            "task": self.best.task.name,
            "rows": [row.record(is_chosen=row is self.best) for row in self.rows],
            "notes": self.notes,
        }


def compare_heads(
    config: Config,
    grid: Mapping[GridPoint, Config],
    closed_forms: Mapping[int | None, Config],
    device: torch.device,
    progress: ProgressBar,
) -> Comparison:
    """Fits all heads and chooses the best one.

    Args:
        config: of the probe.
        grid: of each trained head the config of its run; may be empty.
        closed_forms: by shots the config of the run that fits the mix of heads in closed form.
        progress: for passes over the images.
    """
    for each in (config, *grid.values()):
        require_linear_heads(each)
    task = task_of(config["task"]["name"])
    of_mix = next(iter(closed_forms.values()))
    features = ProbeFeatures(of_mix, device, progress)
    notes: list[str] = []
    noun, nouns = features.input_spec.kind, features.input_spec.nouns
    reason = _why_no_closed_form(of_mix, features)
    rows: list[HeadRow] = []
    for shots, each in closed_forms.items() if reason is None else ():
        rows += closed_form_rows(each, shots, features, notes)
    started = time.perf_counter()
    fits = fit_grid(grid, features, features.matrix_device) if grid else {}
    trained = _trained_rows(grid, fits, time.perf_counter() - started, task)
    if grid and not fits:
        if reason is not None:
            raise ConfigError("data.val_fraction", "got 0, but trained heads are picked by validation. Give 0.1.")
        notes.append(f"Heads are trained only if there are validation {nouns} to choose among them.")
    if reason is not None:
        if not trained:
            raise ConfigError("probe", f"the grid is empty, and a closed form isn't possible: {reason}")
        notes.append(f"Heads in closed form are left out. {reason}")
    best, why = choose(rows, trained, partial(on_validation, features=features), task, noun)
    rows += trained
    return Comparison(
        fits,
        rows,
        best,
        [*_explained(rows, len(fits), noun, is_refit=of_mix["data"].get("refit", False)), *notes, *why],
    )


def choose(
    rows: Sequence[HeadRow],
    trained: Sequence[HeadRow],
    score_on: Callable[[HeadRow, HeadRow], Score],
    task: Task,
    noun: str,
) -> tuple[HeadRow, list[str]]:
    """Returns the best head, and why.

    Of the heads in closed form it is the one of least loss on images that are left out, of the trained ones that of the
    highest headline metric on validation. The validation images have chosen the latter, so that it has to be better
    there by more than two standard errors than the former, fitted without them.

    Args:
        score_on: returns the score of a head in closed form on the validation images of a trained head, fitted to
            its training images.
        noun: what an input is called.
    """
    usable = [row for row in rows if row.config is not None]
    known = [row for row in usable if row.score is not None]
    first = min(known, key=_loss) if known else next(iter(usable), None)
    top = min(trained, key=lambda row: (-_score(row).headline, _loss(row)), default=None)
    if first is None:
        assert top is not None, "There is at least one head."
        return top, [f"The best head is the trained one of the highest val/{task.headline}, then the lowest loss."]
    if not known:
        why = f"No class has two {noun}s, so no {noun} can be left out, and the mix is chosen without an estimate."
    else:
        why = f"The best head is {first.label}: it has the lowest {task.loss_title} on {noun}s that are left out."
    if top is None:
        return first, [why]
    rival, own = _score(top), score_on(first, top)
    is_beaten = own.is_beaten_by(rival)
    verdict = (
        f"On the {len(rival.losses):,} validation {noun}s, fitted without them, its {task.loss_title} is "
        f"{own.loss:.3f}, and that of the best trained head {rival.loss:.3f}: "
    )
    if is_beaten:
        return top, [why, f"{verdict}better by more than two standard errors, so the trained head is chosen instead."]
    return first, [why, f"{verdict}not better by more than two standard errors."]


def _score(row: HeadRow) -> Score:
    assert row.score is not None, "It has been evaluated."
    return row.score


def _loss(row: HeadRow) -> float:
    return _score(row).loss


def _why_no_closed_form(config: Config, features: ProbeFeatures) -> str | None:
    """Returns why a config's head can't be found in closed form, None if it can."""
    augment = factory(config["augment"], "augment")()
    try:
        require_suitable_head(config)
        strategy = build_freezing(config, features.body.has_parameters)
        require_storable_if_wanted(config, features.body, augment, strategy)
    except MISTAKES as error:
        return "; ".join(map(str, errors_in(error)))
    return None


def _trained_rows(
    grid: Mapping[GridPoint, Config], fits: Mapping[GridPoint, TrainedHead], seconds: float, task: Task
) -> list[HeadRow]:
    """Returns the best trained heads of each number of shots, by headline metric on validation; of equals, by loss."""
    sound = {point: each for point, each in fits.items() if not each.fit.is_diverged}
    if fits and not sound:
        raise ConfigError("grid.lr", "every head diverged", fix="Give lower learning rates.")
    ranked = sorted(sound, key=lambda point: (-sound[point].fit.val_headline, sound[point].fit.val_loss))
    rows = []
    for shots in dict.fromkeys(point.shots for point in grid):
        for point in [each for each in ranked if each.shots == shots][:_NUM_TRAINED]:
            name = grid[point]["optimizer"]["_target_"].rpartition(".")[2]
            settings = f"lr {point.lr:g}, decay {point.weight_decay:g}, seed {point.seed}"
            on_val = sound[point].on_val
            rows.append(HeadRow(name, settings, "last", shots, HOLD_OUT, on_val, seconds, grid[point], task=task))
    return rows


def _explained(rows: Sequence[HeadRow], num_trained: int, noun: str, *, is_refit: bool) -> list[str]:
    """Returns sentences on the estimates that the table has."""
    inputs = f"training or validation {noun}" if is_refit else f"training {noun}"
    chosen = "its epoch" if num_trained == 1 else f"the best of {num_trained:,} heads and of their epochs"
    sentences = {
        LEAVE_ONE_OUT: f"each {inputs} is predicted by the head that is fitted to all others",
        BY_GROUP[LEAVE_ONE_OUT]: f"each {inputs} is predicted by the head that is fitted to all other groups",
        BY_GROUP[FOLDS]: "each is predicted by the head that is fitted to the other four fifths of the groups",
        FOLDS: "each is predicted by the head that is fitted to the other four fifths",
        HOLD_OUT: f"the validation {noun}s, which also chose {chosen}, so the figures are optimistic; the seconds are "
        "those of all trained heads",
    }
    kinds = {row.estimate for row in rows}
    return [f"{kind}: {sentence}." for kind, sentence in sentences.items() if kind in kinds]
