"""The heads of a probe that are fitted in closed form, and the baselines that aren't fitted."""

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from regraft.config.instantiate import Config
from regraft.data.from_config import build_datamodule
from regraft.tasks import Task
from regraft.training.auto.scores import Score, score_of
from regraft.training.closed_form.baselines import NUM_NEIGHBOURS, nearest_mean, nearest_neighbours, nearest_rows
from regraft.training.closed_form.criteria import CRITERIA
from regraft.training.closed_form.mix import MAX_SCORED, MIXED, ClosedFormHead, fit_closed_form
from regraft.training.closed_form.optimizer import fitting_weights
from regraft.training.closed_form.temperature import fit_scale
from regraft.training.closed_form.threads import one_thread_for_few
from regraft.training.from_config import build_loss
from regraft.training.probe.features import Images, ProbeFeatures
from regraft.training.probe.rows import BY_GROUP, FOLDS, LEAVE_ONE_OUT, HeadRow, Recipe

_MAX_PRODUCTS = 2**31
"""Images times features times classes, above which logistic regression would take many minutes."""
_RECIPES = (
    Recipe("mix", MIXED, "all", "nested"),
    Recipe("ridge", ("ridge",), "all"),
    Recipe("LDA", ("discriminant",), "all"),
    Recipe("ridge", ("ridge",), "last"),
    Recipe("LDA", ("discriminant",), "last"),
    Recipe("logistic regression", ("logistic",), "last"),
)
_NEIGHBOURS = f"{NUM_NEIGHBOURS} nearest neighbours (cosine)"
_NEAREST_MEAN = "nearest mean (cosine)"


def recipes(task: Task) -> list[Recipe]:
    """Returns the heads for a task; of anything but classes the solver is `ridge`."""
    able = [each for each in _RECIPES if task.has_classes or "ridge" in each.solvers]
    return able if task.has_classes else [each._replace(solvers=("ridge",)) for each in able]


def closed_form_rows(config: Config, shots: int | None, features: ProbeFeatures, notes: list[str]) -> list[HeadRow]:
    """Returns the heads in closed form and the baselines on a config's images; adds what is left out to `notes`."""
    data = build_datamodule(config, features.input_spec)
    images, nouns = _images(config, data, features), features.input_spec.nouns
    task: Task = data.task
    is_alone = task.has_classes and images.groups is None
    num_alone = int((torch.bincount(images.labels) == 1).sum()) if is_alone else 0
    if 0 < num_alone < len(images.labels):
        notes.append(f"{nouns.capitalize()} that are the only one of their class can't be left out: {num_alone:,}.")
    rows = []
    for recipe in recipes(task):
        if len(features.widths) == 1 and recipe.stages == "all" and recipe.stage_sets == "one":
            continue  # the same as on the last
        if "logistic" in recipe.solvers:
            num_products = images.features[[*images.features][-1]].numel() * data.num_classes
            if num_products > _MAX_PRODUCTS:
                notes.append(f"Logistic regression is left out for so many {nouns}: regraft train optimizer=logistic.")
                continue
        started = time.perf_counter()
        found = _fitted(recipe, images, data.num_classes, task)
        seconds = time.perf_counter() - started
        settings = f"alpha {found.picks[0].alpha:.3g}" if len(found.picks) == 1 else f"{len(found.picks)} heads"
        is_known = found.is_informative
        score = None
        if is_known.any():
            score = score_of(found.loo_logits[is_known], images.labels[found.scored][is_known], found.stages, task)
        estimate = (
            None if score is None else _estimate(images, FOLDS if "logistic" in recipe.solvers else LEAVE_ONE_OUT)
        )
        own = _with_recipe(config, recipe, features)
        rows.append(HeadRow(recipe.name, settings, recipe.stages, shots, estimate, score, seconds, own, recipe, task))
    return [*rows, *_baseline_rows(images, data.num_classes, shots, task)]


def on_validation(row: HeadRow, trained: HeadRow, features: ProbeFeatures) -> Score:
    """Returns the score of a head in closed form on the validation images of a trained one, fitted to its images."""
    assert row.recipe is not None, "It is in closed form."
    assert trained.config is not None, "It has been trained."
    data = build_datamodule(trained.config, features.input_spec)
    images = _images(trained.config, data, features)
    val = features.images(features.tables(trained.config, data)["val"], data)
    found = _fitted(row.recipe, images, data.num_classes, data.task)
    return score_of(found.logits(val.features), val.labels, found.stages, data.task)


def _images(config: Config, data: Any, features: ProbeFeatures) -> Images:
    """Returns the training images of a config, with their weights."""
    images = features.images(features.tables(config, data)["train"], data)
    weights = fitting_weights(build_loss(config, data.target_summary), images.labels, data.columns("train").weights)
    groups = data.group_numbers
    return replace(images, weights=weights, groups=None if groups is None else groups[data.indices("train")])


def _estimate(images: Images, alone: str) -> str:
    """Returns what an estimate is called: that of images, or of groups that are left out together."""
    return alone if images.groups is None else BY_GROUP[alone]


def _fitted(recipe: Recipe, images: Images, num_classes: int, task: Task) -> ClosedFormHead:
    stages = list(images.features)
    read = stages if recipe.stages == "all" else stages[-1:]
    return fit_closed_form(
        {stage: images.features[stage] for stage in read},
        images.labels,
        num_classes,
        sample_weight=images.weights,
        solvers=recipe.solvers,
        stage_sets=None if recipe.stage_sets == "nested" else [read],
        make_criterion=CRITERIA[task.name],
        groups=images.groups,
    )


def _with_recipe(config: Config, recipe: Recipe, features: ProbeFeatures) -> Config:
    """Returns the config of a run that fits this head."""
    stages = features.stages if recipe.stages == "all" else "last"
    optimizer = {"solvers": list(recipe.solvers), "stage_sets": recipe.stage_sets}
    return config | {
        "head": config["head"] | {"stages": stages},
        "optimizer": config["optimizer"] | optimizer,
    }


def _baseline_rows(images: Images, num_classes: int, shots: int | None, task: Task) -> list[HeadRow]:
    last, groups = [*images.features][-1], images.groups
    order = torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(0))
    scored = order[:MAX_SCORED].sort().values
    features, labels = images.features[last], images.labels[scored]
    is_known = torch.ones(len(labels), dtype=torch.bool)
    if groups is not None and len(groups.unique()) == 1:
        return []
    if task.has_classes:
        places = torch.arange(len(images.labels)) if groups is None else groups
        of_classes = torch.stack([images.labels, places]).unique(dim=1)[0]  # a class for each group that has it
        is_known = torch.bincount(of_classes, minlength=num_classes)[labels] > 1

    def outputs_of(name: str) -> Tensor:
        if not task.has_classes:
            outputs = nearest_rows(features, images.labels, scored, groups)
            return outputs.logit() if task.has_confidences else outputs
        if name == _NEIGHBOURS:
            logits = nearest_neighbours(features, images.labels, num_classes, scored, groups)
        else:
            logits = nearest_mean(features, images.labels, num_classes, scored)
        known = logits[is_known]
        return fit_scale(known, labels[is_known], known.new_ones(len(known))) * logits

    rows = []
    names = [_NEAREST_MEAN, _NEIGHBOURS] if task.has_classes and groups is None else [_NEIGHBOURS]
    for name in names if is_known.any() else ():
        started = time.perf_counter()
        with one_thread_for_few(len(images.labels)):
            score = score_of(outputs_of(name)[is_known], labels[is_known], [last], task)
        seconds, estimate = time.perf_counter() - started, _estimate(images, LEAVE_ONE_OUT)
        rows.append(HeadRow(name, "", "last", shots, estimate, score, seconds, task=task))
    return rows
