"""Multinomial logistic regression to convergence, with cross-validated scores."""

import logging
import warnings
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from regraft.core.seeding import derive_seed
from regraft.data.folds import fold_numbers
from regraft.training.closed_form.scatter import Spectrum
from regraft.training.closed_form.solvers import ABSENT, Solution

log = logging.getLogger(__name__)

NUM_FOLDS = 5
_MAX_STEPS = 2000
_TOLERANCE = 1e-5


class Logistic:
    """Fits logistic regressions on the same images, each from the weights of the last one.

    In the principal directions there are no more unknowns than images; the penalty is the same.

    Args:
        spectrum: in which all training images are scored.
    """

    def __init__(self, spectrum: Spectrum) -> None:
        from sklearn.linear_model import LogisticRegression  # which takes most of a second

        self._spectrum = spectrum
        self._folds = stratified_folds(spectrum.labels, spectrum.groups)
        options = {"warm_start": True, "tol": _TOLERANCE, "max_iter": _MAX_STEPS}
        # One for each fold, and one for all images.
        self._models = [LogisticRegression(**options) for _ in range(int(self._folds.max()) + 2)]

    def __call__(self, alpha: float) -> Solution:
        """Returns the logistic regression of all images; its `loo_scores` are of `NUM_FOLDS` folds.

        Minimises the weighted sum of the log losses plus `alpha` / 2 times the squared weights, without the constant.

        Args:
            alpha: above 0.
        """
        spectrum, folds = self._spectrum, self._folds
        scores = torch.empty(len(folds), len(spectrum.class_weight), dtype=torch.float64)
        *of_folds, of_all = self._models
        # Threads would wait for each other after each small product: with other processes on the cores, ten steps on
        # 400 images of 81 classes took 3 s with two threads and 0.3 s with one.
        with threadpool_limits(1):
            for fold, model in enumerate(of_folds):
                coefficients, constant = self._fitted(model, alpha, folds != fold)
                scores[folds == fold] = spectrum.coordinates[folds == fold] @ coefficients + constant
            return Solution(spectrum, *self._fitted(of_all, alpha, folds >= 0), scores)

    def _fitted(self, model: Any, alpha: float, is_used: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the coefficients (rank, num_classes) of the coordinates, and the constants (num_classes,)."""
        from sklearn.exceptions import ConvergenceWarning

        spectrum = self._spectrum
        num_classes = len(spectrum.class_weight)
        coefficients = torch.zeros(spectrum.coordinates.shape[1], num_classes, dtype=torch.float64)
        constant = torch.full((num_classes,), ABSENT, dtype=torch.float64)
        labels = spectrum.labels[is_used]
        present = labels.unique()
        if len(present) == 1 or spectrum.coordinates.shape[1] == 0:
            # Nothing can be fitted but how frequent the classes are.
            weight = torch.zeros_like(constant).index_add_(0, labels, spectrum.sample_weight[is_used])
            constant[present] = (weight[present] / weight.sum()).log()
            return coefficients, constant
        model.C = 1 / alpha
        with warnings.catch_warnings(record=True) as caught:
            # It also warns about few images of each class.
            warnings.simplefilter("always")
            model.fit(
                spectrum.coordinates[is_used].numpy(),
                labels.numpy(),
                sample_weight=spectrum.sample_weight[is_used].numpy(),
            )
        if any(issubclass(each.category, ConvergenceWarning) for each in caught):
            log.warning("Logistic regression with alpha %.3g has not converged after %d steps.", alpha, _MAX_STEPS)
        found, intercept = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
        if len(present) == 2:  # whose logits differ by those of scikit-learn
            found, intercept = torch.cat([-found / 2, found / 2]), torch.cat([-intercept / 2, intercept / 2])
        coefficients[:, present], constant[present] = found.T, intercept
        return coefficients, constant


def stratified_folds(labels: Tensor, groups: Tensor | None = None) -> Tensor:
    """Returns the fold of each image, (num_images,), int64; each class is spread evenly, the same way every time.

    There are `NUM_FOLDS` of them, or as many as there are images or groups.

    Args:
        labels: (num_images,), int64.
        groups: (num_images,), int64: images of the same one are in one fold; None for no groups.
    """
    if groups is not None:
        most = min(len(groups.unique()), int(torch.bincount(labels).max()))
        names, seed = groups.numpy(), derive_seed(0, "folds")
        strata = labels if most > 1 else torch.zeros_like(labels)
        return torch.from_numpy(fold_numbers(strata, names, max(2, min(NUM_FOLDS, most)), seed))
    generator = torch.Generator().manual_seed(derive_seed(0, "folds"))
    order = torch.randperm(len(labels), generator=generator)
    by_class = order[labels[order].argsort(stable=True)]
    folds = torch.empty_like(labels)
    folds[by_class] = torch.arange(len(labels)) % min(NUM_FOLDS, len(labels))
    return folds
