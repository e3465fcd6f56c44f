"""All heads of a probe, each with an estimate of how good it is, and the choice of the best."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regraft.config.hydra_messages import MISTAKES
from regraft.config.instantiate import Config, factory
from regraft.core.console import ProgressBar
from regraft.core.errors import ConfigError, errors_in
from regraft.data.from_config import build_datamodule
from regraft.training.auto.scores import Score, score_of
from regraft.training.closed_form.baselines import NUM_NEIGHBOURS, nearest_mean, nearest_neighbours
from regraft.training.closed_form.logistic import NUM_FOLDS
from regraft.training.closed_form.mix import MAX_SCORED, MIXED, ClosedFormHead, fit_closed_form, one_thread_for_few
from regraft.training.closed_form.policy import require_suitable_head
from regraft.training.closed_form.temperature import fit_scale
from regraft.training.feature_plan import require_storable_if_wanted
from regraft.training.from_config import build_freezing, build_loss
from regraft.training.probe.features import Images, ProbeFeatures
from regraft.training.probe.grid import GridPoint, TrainedHead, fit_grid, require_linear_heads

LEAVE_ONE_OUT, FOLDS, HOLD_OUT = "leave-one-out", f"{NUM_FOLDS} folds", "hold-out"
_NUM_TRAINED = 3
"""Rows of trained heads for each number of shots; the others are in grid.csv."""
_MAX_PRODUCTS = 2**31
"""Images times features times classes, above which logistic regression would take many minutes."""


class _Recipe(NamedTuple):
    """A head in closed form; `stages` is `all` or `last`."""

    name: str
    solvers: tuple[str, ...]
    stages: str
    stage_sets: str = "one"


_RECIPES = (
    _Recipe("mix", MIXED, "all", "nested"),
    _Recipe("ridge", ("ridge",), "all"),
    _Recipe("LDA", ("discriminant",), "all"),
    _Recipe("ridge", ("ridge",), "last"),
    _Recipe("LDA", ("discriminant",), "last"),
    _Recipe("logistic regression", ("logistic",), "last"),
)
_BASELINES: Mapping[str, Callable[[Tensor, Tensor, int, Tensor], Tensor]] = {
    "nearest mean (cosine)": nearest_mean,
    f"{NUM_NEIGHBOURS} nearest neighbours (cosine)": nearest_neighbours,
}


@dataclass(frozen=True)
class HeadRow:
    """A head of the table.

    Attributes:
        settings: what distinguishes it from others of its name.
        stages: `all` or `last`.
        shots: training images of each class; None for all.
        estimate: what the score is of: `LEAVE_ONE_OUT`, `FOLDS` or `HOLD_OUT`; None if nothing is known.
        config: of the run that fits it; None for a baseline, which is for comparison only.
        recipe: of a head in closed form.
    """

    name: str
    settings: str
    stages: str
    shots: int | None
    estimate: str | None
    score: Score | None
    seconds: float
    config: Config | None = None
    recipe: _Recipe | None = None

    def record(self, *, is_chosen: bool) -> dict[str, Any]:
        """Returns the row in plain types."""
        names = ("name", "settings", "stages", "shots", "estimate", "seconds")
        row = {name: getattr(self, name) for name in names} | {"is_chosen": is_chosen}
        if self.score is None:
            return row
        errors = {"acc_error": self.score.headline_error, "loss_error": self.score.loss_error}
        figures = {"num_images": len(self.score.losses), "acc": self.score.headline, "loss": self.score.loss}
        return row | figures | {name: error for name, error in errors.items() if math.isfinite(error)}


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
        return {"rows": [row.record(is_chosen=row is self.best) for row in self.rows], "notes": self.notes}


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
    of_mix = next(iter(closed_forms.values()))
    features = ProbeFeatures(of_mix, device, progress)
    notes: list[str] = []
    reason = _why_no_closed_form(of_mix, features)
    rows: list[HeadRow] = []
    for shots, each in closed_forms.items() if reason is None else ():
        rows += _rows_in_closed_form(each, shots, features, notes)
    started = time.perf_counter()
    fits = fit_grid(grid, features, features.matrix_device) if grid else {}
    trained = _trained_rows(grid, fits, time.perf_counter() - started)
    if grid and not fits:
        if reason is not None:
            raise ConfigError("data.val_fraction", "got 0, but trained heads are picked by validation. Give 0.1.")
        notes.append("Heads are trained only if there are validation images to choose among them.")
    if reason is not None:
        if not trained:
            raise ConfigError("probe", f"the grid is empty, and a closed form isn't possible: {reason}")
        notes.append(f"Heads in closed form are left out. {reason}")
    best, why = choose(rows, trained, lambda row, other: _without_validation(row, other, features))
    rows += trained
    return Comparison(
        fits, rows, best, [*_explained(rows, len(fits), is_refit=of_mix["data"].get("refit", False)), *notes, *why]
    )


def choose(
    rows: Sequence[HeadRow], trained: Sequence[HeadRow], on_validation: Callable[[HeadRow, HeadRow], Score]
) -> tuple[HeadRow, list[str]]:
    """Returns the best head, and why.

    Of the heads in closed form it is the one of least log loss on images that are left out, of the trained ones that of
    the highest validation accuracy. The validation images have chosen the latter, so that it has to be better there by
    more than two standard errors than the former, fitted without them.

    Args:
        on_validation: returns the score of a head in closed form on the validation images of a trained head, fitted to
            its training images.
    """
    usable = [row for row in rows if row.config is not None]
    known = [row for row in usable if row.score is not None]
    first = min(known, key=_loss) if known else next(iter(usable), None)
    top = min(trained, key=lambda row: (-_score(row).headline, _loss(row)), default=None)
    if first is None:
        assert top is not None, "There is at least one head."
        return top, ["The best head is the trained one of the highest validation accuracy, then the lowest loss."]
    if not known:
        why = "No class has two images, so no image can be left out, and the mix is chosen without an estimate."
    else:
        why = f"The best head is {_label(first)}: it has the lowest log loss on images that are left out."
    if top is None:
        return first, [why]
    rival, own = _score(top), on_validation(first, top)
    is_beaten = own.is_beaten_by(rival)
    verdict = (
        f"On the {len(rival.losses):,} validation images, fitted without them, its log loss is {own.loss:.3f}, and "
        f"that of the best trained head {rival.loss:.3f}: "
    )
    if is_beaten:
        return top, [why, f"{verdict}better by more than two standard errors, so the trained head is chosen instead."]
    return first, [why, f"{verdict}not better by more than two standard errors."]


def _score(row: HeadRow) -> Score:
    assert row.score is not None, "It has been evaluated."
    return row.score


def _loss(row: HeadRow) -> float:
    return _score(row).loss


def _label(row: HeadRow) -> str:
    return f"{row.name} on {'all stages' if row.stages == 'all' else 'the last stage'}"


def _why_no_closed_form(config: Config, features: ProbeFeatures) -> str | None:
    """Returns why a config's head can't be found in closed form, None if it can."""
    augment = factory(config["augment"], "augment")()
    try:
        require_suitable_head(config)
        strategy = build_freezing(config, features.body.stage_names)
        require_storable_if_wanted(config, features.body, augment, strategy)
    except MISTAKES as error:
        return "; ".join(map(str, errors_in(error)))
    return None


def _rows_in_closed_form(config: Config, shots: int | None, features: ProbeFeatures, notes: list[str]) -> list[HeadRow]:
    """Returns the heads in closed form and the baselines on a config's images; adds what is left out to `notes`."""
    data = build_datamodule(config, features.input_spec)
    images = features.images(features.tables(config, data)["train"])
    weights = _class_weights(config, data)
    num_alone = int((torch.bincount(images.labels) == 1).sum())
    if 0 < num_alone < len(images.labels):
        notes.append(f"Images that are the only one of their class can't be left out: {num_alone:,}.")
    rows = []
    for recipe in _RECIPES:
        if len(features.widths) == 1 and recipe.stages == "all" and recipe.stage_sets == "one":
            continue  # the same as on the last
        if "logistic" in recipe.solvers:
            num_products = images.features[[*images.features][-1]].numel() * data.num_classes
            if num_products > _MAX_PRODUCTS:
                notes.append("Logistic regression is left out for so many images: regraft train optimizer=logistic.")
                continue
        started = time.perf_counter()
        found = _fitted(recipe, images, data.num_classes, weights)
        seconds = time.perf_counter() - started
        settings = f"alpha {found.picks[0].alpha:.3g}" if len(found.picks) == 1 else f"{len(found.picks)} heads"
        is_known = found.is_informative
        score = None
        if is_known.any():
            score = score_of(found.loo_logits[is_known], images.labels[found.scored][is_known], found.stages)
        estimate = None if score is None else FOLDS if "logistic" in recipe.solvers else LEAVE_ONE_OUT
        own = _with_recipe(config, recipe, features)
        rows.append(HeadRow(recipe.name, settings, recipe.stages, shots, estimate, score, seconds, own, recipe))
    return [*rows, *_baseline_rows(images, data.num_classes, shots)]


def _fitted(recipe: _Recipe, images: Images, num_classes: int, weights: Tensor | None) -> ClosedFormHead:
    stages = list(images.features)
    read = stages if recipe.stages == "all" else stages[-1:]
    return fit_closed_form(
        {stage: images.features[stage] for stage in read},
        images.labels,
        num_classes,
        sample_weight=None if weights is None else weights[images.labels],
        solvers=recipe.solvers,
        stage_sets=None if recipe.stage_sets == "nested" else [read],
    )


def _with_recipe(config: Config, recipe: _Recipe, features: ProbeFeatures) -> Config:
    """Returns the config of a run that fits this head."""
    stages = features.stages if recipe.stages == "all" else "last"
    optimizer = {"solvers": list(recipe.solvers), "stage_sets": recipe.stage_sets}
    return config | {
        "head": config["head"] | {"stages": stages},
        "optimizer": config["optimizer"] | optimizer,
    }


def _class_weights(config: Config, data: Any) -> Tensor | None:
    loss: Any = build_loss(config, data.target_summary)
    weights: Tensor | None = loss.class_weights
    return weights


def _baseline_rows(images: Images, num_classes: int, shots: int | None) -> list[HeadRow]:
    last = [*images.features][-1]
    order = torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(0))
    scored = order[:MAX_SCORED].sort().values
    labels = images.labels[scored]
    is_known = torch.bincount(images.labels, minlength=num_classes)[labels] > 1
    rows = []
    for name, classify in _BASELINES.items() if is_known.any() else ():
        started = time.perf_counter()
        with one_thread_for_few(len(images.labels)):
            logits = classify(images.features[last], images.labels, num_classes, scored)[is_known]
            weight = torch.ones(len(logits), dtype=torch.float64)
            score = score_of(fit_scale(logits, labels[is_known], weight) * logits, labels[is_known], [last])
        rows.append(HeadRow(name, "", "last", shots, LEAVE_ONE_OUT, score, time.perf_counter() - started))
    return rows


def _trained_rows(
    grid: Mapping[GridPoint, Config], fits: Mapping[GridPoint, TrainedHead], seconds: float
) -> list[HeadRow]:
    """Returns the best trained heads of each number of shots, by validation accuracy; of equals, by validation loss."""
    sound = {point: each for point, each in fits.items() if not each.fit.is_diverged}
    if fits and not sound:
        raise ConfigError("grid.lr", "every head diverged", fix="Give lower learning rates.")
    ranked = sorted(sound, key=lambda point: (-sound[point].fit.val_acc, sound[point].fit.val_loss))
    rows = []
    for shots in dict.fromkeys(point.shots for point in grid):
        for point in [each for each in ranked if each.shots == shots][:_NUM_TRAINED]:
            name = grid[point]["optimizer"]["_target_"].rpartition(".")[2]
            settings = f"lr {point.lr:g}, decay {point.weight_decay:g}, seed {point.seed}"
            on_val = sound[point].on_val
            rows.append(HeadRow(name, settings, "last", shots, HOLD_OUT, on_val, seconds, grid[point]))
    return rows


def _without_validation(row: HeadRow, trained: HeadRow, features: ProbeFeatures) -> Score:
    """Returns the score of a head in closed form on the validation images of a trained one, fitted to its images."""
    assert row.recipe is not None, "It is in closed form."
    assert trained.config is not None, "It has been trained."
    data = build_datamodule(trained.config, features.input_spec)
    train, val = (features.images(table) for table in features.tables(trained.config, data).values())
    found = _fitted(row.recipe, train, data.num_classes, _class_weights(trained.config, data))
    return score_of(found.logits(val.features), val.labels, found.stages)


def _explained(rows: Sequence[HeadRow], num_trained: int, *, is_refit: bool) -> list[str]:
    """Returns sentences on the estimates that the table has."""
    images = "training or validation image" if is_refit else "training image"
    chosen = "its epoch" if num_trained == 1 else f"the best of {num_trained:,} heads and of their epochs"
    sentences = {
        LEAVE_ONE_OUT: f"each {images} is classified by the head that is fitted to all others",
        FOLDS: "each is classified by the head that is fitted to the other four fifths",
        HOLD_OUT: f"the validation images, which also chose {chosen}, so the figures are optimistic; the seconds are "
        "those of all trained heads",
    }
    kinds = {row.estimate for row in rows}
    return [f"{kind}: {sentence}." for kind, sentence in sentences.items() if kind in kinds]
