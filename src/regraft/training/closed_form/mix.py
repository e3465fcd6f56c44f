"""A mix of linear heads, chosen by leave-one-out log loss, that is one linear head in the end."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from regraft.models.stage_standardisation import CLIP
from regraft.training.closed_form.criteria import ClassCriterion, Criterion, ValueCriterion
from regraft.training.closed_form.logistic import Logistic
from regraft.training.closed_form.scaling import StageScaling, fit_scaling
from regraft.training.closed_form.scatter import Scatter
from regraft.training.closed_form.solvers import Solution, discriminant, ridge, weighted_sum
from regraft.training.closed_form.threads import one_thread_for_few
from regraft.training.closed_form.training_images import MAX_RANK, MAX_SIZE, TrainingImages

ALPHAS = tuple(10 ** (exponent / 2) for exponent in range(-6, 13))
"""The regularisations that may be chosen; each stage's features have a mean squared length of 1."""
ALPHAS_OF_NUMBERS = (*(10 ** (exponent / 2) for exponent in range(-12, -6)), *ALPHAS)
"""Numbers that features determine, such as the mean of a colour, have next to no noise."""
NUM_PICKS = 10
MAX_SCORED = 8192
"""Images whose leave-one-out scores are computed, at most: enough for a log loss to three digits."""
_NUM_CHOOSING, _NUM_CHOOSING_OF_CLASS = 600, 10
"""Images, and images of each class, at least, that choose the regularisation for half as many again or more.

The best one is the same: for up to 3,000 images of CIFAR-10 and CIFAR-100, other images had the log loss as by all, but
it varied with 6 of a class. Numbers that features determine are an exception: with more features than images, next to
none is best, which is far too little for more images; squared errors on others were up to 1.6 times those by all.
"""
_MAX_PRODUCT = 10**8
"""Of images, features and classes, for solvers on the last stage that take steps: some 20 seconds."""
SOLVERS: Mapping[str, Callable[[Any], Callable[[float], Solution]]] = {
    "ridge": partial(partial, ridge),
    "discriminant": partial(partial, discriminant),
    "logistic": Logistic,
}
"""From training images to the head of a regularisation."""
MIXED = ("ridge", "discriminant")
"""The solvers whose leave-one-out scores are exact, and take no longer than the head itself."""


@dataclass(frozen=True)
class Pick:
    """A head of a mix.

    Attributes:
        solver: a key of `SOLVERS`.
        stages: whose features it reads.
        alpha: its regularisation.
        log_loss: leave-one-out, of the head alone; nan if no class has two images.
        share: of the mix, in (0, 1].
    """

    solver: str
    stages: tuple[str, ...]
    alpha: float
    log_loss: float
    share: float


@dataclass(frozen=True)
class ClosedFormHead:
    """A linear head on the scaled, concatenated features of stages. Tensors are float64.

    Attributes:
        scaling: of the features.
        stages: in the order in which their features are concatenated.
        weight: (num_classes, width).
        bias: (num_classes,).
        picks: what it is the mean of.
        scored: (num_scored,), int64, positions of the training images that have leave-one-out logits.
        loo_logits: (num_scored, num_classes).
        is_informative: (num_scored,), bool: whether images of its class remain when it, or its group, is left out.
            Nothing is chosen by the others.
    """

    scaling: StageScaling
    stages: tuple[str, ...]
    weight: Tensor
    bias: Tensor
    picks: tuple[Pick, ...]
    scored: Tensor
    loo_logits: Tensor
    is_informative: Tensor

    def logits(self, features: Mapping[str, Tensor]) -> Tensor:
        """Returns (batch, num_classes) of features (batch, width) by stage."""
        scaled = torch.cat([self.scaling(stage, features[stage]) for stage in self.stages], dim=1)
        return scaled @ self.weight.T + self.bias


def nested_stages(stages: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the last stage, the upper two thirds of the stages and all of them, each once."""
    return [tuple(stages[-count:]) for count in sorted({1, round(len(stages) * 2 / 3), len(stages)})]


def fit_closed_form(
    features: Mapping[str, Tensor],
    labels: Tensor,
    num_classes: int,
    *,
    sample_weight: Tensor | None = None,
    solvers: Sequence[str] = MIXED,
    stage_sets: Sequence[Sequence[str]] | None = None,
    clip: float = CLIP,
    make_criterion: Callable[[TrainingImages], Criterion] = ClassCriterion,
    groups: Tensor | None = None,
    last_stage_solvers: Sequence[str] = (),
) -> ClosedFormHead:
    """Returns the mix of heads that has the least leave-one-out log loss, found greedily.

    Each solver's alpha on each set of stages is chosen by leave-one-out log loss at the best scale. Heads are then
    added one by one, with replacement, for the least log loss of the mean of the logits (Caruana et al., "Ensemble
    selection from libraries of models", ICML 2004). If that isn't better than the mix of the heads on the first set of
    stages by more than `GUARD` standard errors, the latter is returned. If no class has two images, or there is one
    group, nothing can be chosen: the first solver's heads on the first two sets of stages then have alpha 1 and equal
    shares.

    Args:
        features: by stage, from the input up, (num_images, width).
        labels: (num_images,), int64, in [0, num_classes); or rows of targets, (num_images, num_classes), float.
        num_classes: at least 2; of rows, their number of columns.
        sample_weight: (num_images,), above 0; None for equal weights.
        solvers: keys of `SOLVERS`; a single one on a single set of stages is fitted without a mix. For `logistic`,
            5-fold cross-validation replaces leaving one out.
        stage_sets: each a part of the stages, in their order, the safest first; None for `nested_stages`.
        clip: of the standardised features, see `fit_scaling`.
        make_criterion: what is minimised, see `CRITERIA`; of anything but classes the solver is `ridge`.
        groups: (num_images,), int64: images of the same one are left out together; None to leave each out alone.
        last_stage_solvers: further ones, whose heads on the first set of stages may join the mix, where there are few
            enough images, features and classes.

    Raises:
        ConfigError: features that are NaN or infinite, by stage; fewer than two images or classes.
    """
    sets = nested_stages(list(features)) if stage_sets is None else [tuple(each) for each in stage_sets]
    with one_thread_for_few(len(labels)):
        read = {stage: rows for stage, rows in features.items() if any(stage in each for each in sets)}
        scaling = fit_scaling(read, clip=clip)
        max_scored = None if "logistic" in solvers else MAX_SCORED
        images = TrainingImages(
            features, scaling, labels, num_classes, sample_weight=sample_weight, max_scored=max_scored, groups=groups
        )
        criterion: Criterion = make_criterion(images)
        is_of_numbers = isinstance(criterion, ValueCriterion)
        alphas: Sequence[float] = ALPHAS_OF_NUMBERS if is_of_numbers else ALPHAS
        if not criterion.can_choose:
            sets, solvers, alphas = sets[:2], solvers[:1], [1.0]
        few = None if is_of_numbers or not criterion.can_choose else _few(images, make_criterion)
        candidates = []
        for each in sets:
            candidates += _best_on(each, images, solvers, alphas, criterion, few)
        shares = _shares(candidates, criterion)
        if len(sets) > 1 and criterion.can_choose:
            of_first = candidates[: len(solvers)]
            simpler = _shares(of_first, criterion)
            if not criterion.is_better(_mixed(candidates, shares), _mixed(of_first, simpler)):
                candidates, shares = of_first, simpler
            width = sum(scaling.widths(sets[0]))
            is_small = len(images.labels) <= MAX_SCORED and len(images.labels) * width * num_classes <= _MAX_PRODUCT
            if last_stage_solvers and is_small:
                candidates = [*candidates, *_best_on(sets[0], images, last_stage_solvers, alphas, criterion)]
                shares = _shares(candidates, criterion)
        return _joined(candidates, shares, images, scaling, criterion)


def _few(
    images: TrainingImages, make_criterion: Callable[[TrainingImages], Criterion]
) -> tuple[TrainingImages, Criterion] | None:
    """Returns images that are enough to choose the regularisation, and their loss; None if all are needed."""
    count = max(_NUM_CHOOSING, _NUM_CHOOSING_OF_CLASS * len(images.class_weight))
    if images.groups is not None or len(images.labels) < 1.5 * count:
        return None
    of_few = images.sample(count, _NUM_CHOOSING_OF_CLASS)
    return of_few, make_criterion(of_few)


@dataclass(frozen=True)
class _Candidate:
    """A head that may be picked, its scores times `scale` being logits; `logits` are leave-one-out."""

    solver: str
    alpha: float
    log_loss: float
    scale: float
    solution: Solution
    logits: Tensor

    @property
    def stages(self) -> tuple[str, ...]:
        return self.solution.scatter.stages


def _best_on(
    stages: Sequence[str],
    images: TrainingImages,
    solvers: Sequence[str],
    alphas: Sequence[float],
    criterion: Criterion,
    few: tuple[TrainingImages, Criterion] | None = None,
) -> list[_Candidate]:
    """Returns each solver's best head on a set of stages, in double precision where one has little regularisation.

    Args:
        few: a part of the images by which alpha is chosen, and their loss; None to choose it by all.
    """
    is_exact = set(solvers) <= set(MIXED)
    is_by_factor = is_exact and images.groups is None and images.size(stages) <= MAX_SIZE
    if is_by_factor and few is not None:
        of_few, loss_of_few = few
        with one_thread_for_few(len(of_few.labels)):
            chosen = [each.alpha for each in _best_on(stages, of_few, solvers, alphas, loss_of_few)]
        matrix = images.matrix(stages, may_be_single=True)
        if min(chosen) < matrix.least_alpha:
            matrix = images.matrix(stages)
        return [_best(solver, matrix, [alpha], criterion) for solver, alpha in zip(solvers, chosen, strict=True)]
    # A factor serves one alpha, but leaves no direction out.
    scatter_of = images.matrix if is_by_factor and images.size(stages) > MAX_RANK else images.spectrum
    # Steps take so long that the precision saves nothing, and a second time would double it.
    scatter = scatter_of(stages, may_be_single=is_exact)
    found = [_best(solver, scatter, alphas, criterion) for solver in solvers]
    if min(each.alpha for each in found) >= scatter.least_alpha:
        return found
    scatter = scatter_of(stages)
    return [_best(solver, scatter, alphas, criterion) for solver in solvers]


def _best(solver: str, scatter: Scatter, alphas: Sequence[float], criterion: Criterion) -> _Candidate:
    """Returns the solver's head at the alpha of least log loss, found downhill from the one nearest to 1."""
    solution_of = SOLVERS[solver](scatter)

    def solve(index: int, start: float) -> tuple[float, float, Solution]:
        solution = solution_of(alphas[index])
        solution, scale = criterion.fitted(solution, start)
        return criterion(scale * solution.loo_scores), scale, solution

    index = min(range(len(alphas)), key=lambda each: abs(math.log(alphas[each])))
    loss, scale, solution = solve(index, 1.0)
    for step in (1, -1):
        is_moved = False
        while 0 <= index + step < len(alphas):
            other = solve(index + step, scale)
            if not other[0] < loss:
                break
            index, is_moved, (loss, scale, solution) = index + step, True, other
        if is_moved:
            break
    return _Candidate(solver, alphas[index], loss, scale, solution, scale * solution.loo_scores)


def _shares(candidates: Sequence[_Candidate], criterion: Criterion) -> list[float]:
    """Returns how often each candidate is picked, with replacement, for the mean of the logits, as shares of 1."""
    if not criterion.can_choose or len(candidates) == 1:
        return [1 / len(candidates)] * len(candidates)
    counts, total = [0] * len(candidates), torch.zeros_like(candidates[0].logits)
    for number in range(1, NUM_PICKS + 1):
        losses = [criterion((total + each.logits) / number) for each in candidates]
        best = losses.index(min(losses))
        counts[best] += 1
        total += candidates[best].logits
    return [count / NUM_PICKS for count in counts]


def _mixed(candidates: Sequence[_Candidate], shares: Sequence[float]) -> Tensor:
    return _mean([candidate.logits for candidate in candidates], shares)


def _joined(
    candidates: Sequence[_Candidate],
    shares: Sequence[float],
    images: TrainingImages,
    scaling: StageScaling,
    criterion: Criterion,
) -> ClosedFormHead:
    """Returns the candidates' mean as one layer on the stages that they read, at its best scale."""
    picked = [(each, share) for each, share in zip(candidates, shares, strict=True) if share > 0]
    shares = [share for _, share in picked]
    stages = tuple(stage for stage in scaling.mean if any(stage in each.stages for each, _ in picked))
    logits = _mean([each.logits for each, _ in picked], shares)
    scale = criterion.scale(logits) if criterion.can_choose else 1.0
    width = sum(scaling.widths(stages))
    weight = torch.zeros(logits.shape[1], width, dtype=torch.float64)
    bias = torch.zeros(logits.shape[1], dtype=torch.float64)
    # A pass over the features for each set of stages, not for each candidate.
    for _, group in groupby(picked, key=lambda pick: id(pick[0].solution.scatter)):
        parts = list(group)
        factors = [scale * share * each.scale for each, share in parts]
        of_stages, bias_of_stages = weighted_sum([each.solution for each, _ in parts], factors).linear()
        weight[:, scaling.columns(parts[0][0].stages, stages)] += of_stages
        bias += bias_of_stages
    return ClosedFormHead(
        scaling=scaling.of(stages),
        stages=stages,
        weight=weight,
        bias=bias,
        picks=tuple(Pick(each.solver, each.stages, each.alpha, each.log_loss, share) for each, share in picked),
        scored=images.scored,
        loo_logits=scale * logits,
        is_informative=criterion.weight > 0,
    )


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    return torch.stack([share * tensor for tensor, share in zip(tensors, shares, strict=True)]).sum(0)
