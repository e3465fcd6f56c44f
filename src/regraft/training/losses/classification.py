"""Classification losses on logits, with class weights and label smoothing for each, and the L1/L2 penalty.

Targets are class indices, (batch,) int64, or rows that sum to 1, (batch, num_classes) float, from mixup or CutMix. With
class weights the mean is normalised as torch's cross-entropy does it: by the summed weights of the samples' classes for
indices, by the number of samples for rows. `loss.total` returns sum and normaliser separately: summed over batches and
then divided, they give the mean of all samples whatever the batch size.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.core.errors import ConfigError, UnknownNameError, require


class Loss(nn.Module):
    """Base class of all losses: the weighted mean over the samples of a batch.

    Attributes:
        tasks: names of the tasks that it fits.
    """

    tasks: ClassVar[tuple[str, ...]]

    @property
    def counts_samples(self) -> bool:
        """Whether each sample adds 1 to what `total` divides by, if samples weigh the same."""
        return True

    def forward(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the mean loss, a scalar, 0 if each sample of the batch weighs 0.

        Args:
            logits: (batch, num_outputs).
            targets: as the task has them.
            weights: of the samples, (batch,), at least 0; None for equal ones.
        """
        return _mean(*self.total(logits, targets, weights))

    def total(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the summed loss and what to divide it by, scalars to add up over batches."""
        losses, normalisers = self.of_samples(logits, targets)
        if weights is None:
            return losses.sum(), normalisers.sum(dtype=torch.float32)
        losses = losses if losses.ndim == 1 else losses.sum(1)
        return (losses * weights).sum(), (normalisers * weights).sum(dtype=torch.float32)

    def of_samples(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of each sample, (batch,) or by class, and what each adds to the divisor, (batch,)."""
        raise NotImplementedError


class ClassificationLoss(Loss):
    """Base class of the losses of one class an image: class weights and label smoothing.

    Args:
        num_classes: of the data, as `class_counts`; None for a loss that `regraft.train` is given, which knows them.
        class_counts: number of training images of each class.
        class_weights: `balanced`, a number for each class, or None; a config may also name classes.
        label_smoothing: share of the target that is spread evenly over all classes, in [0, 1).

    Attributes:
        options: the arguments, without those of the data.
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    class_weights: Tensor | None
    options: dict[str, Any]

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        class_counts: Sequence[int] | None = None,
        class_weights: str | Sequence[float] | Mapping[str, float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        # Not persistent: they follow from config and data, and a checkpoint must not depend on which loss trained it.
        if num_classes is None or class_counts is None:
            # Weights that are `balanced` or given by name wait for the data.
            numbers = class_weights if isinstance(class_weights, list | tuple) else []
            weights = resolve_class_weights(numbers, [1] * len(numbers), len(numbers)) if numbers else None
        else:
            weights = resolve_class_weights(class_weights, class_counts, num_classes)
        self.register_buffer("class_weights", weights, persistent=False)
        require(0 <= label_smoothing < 1, "loss.label_smoothing", label_smoothing, "at least 0, below 1")
        self.label_smoothing = label_smoothing
        self.options = {"class_weights": class_weights, "label_smoothing": label_smoothing}

    @property
    def is_open(self) -> bool:
        """Whether its class weights depend on data that it wasn't given."""
        return self.options["class_weights"] is not None and self.class_weights is None

    @property
    def counts_samples(self) -> bool:
        """Whether there are no class weights."""
        return self.class_weights is None

    def _normalisers(self, targets: Tensor) -> Tensor:
        """Returns what each sample adds to torch's divisor, (batch,), float32; half precision couldn't count many."""
        if self.class_weights is None or targets.ndim == 2:
            return torch.ones(len(targets), dtype=torch.float32, device=targets.device)
        return self.class_weights[targets].float()


class CrossEntropy(ClassificationLoss):
    """Softmax cross-entropy, torch's own."""

    def forward(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the mean loss; see `Loss.forward`."""
        if self.class_weights is None and weights is None:
            # One operation for five; a small head's step takes no longer than forty.
            return functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        return super().forward(logits, targets, weights)

    def total(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the summed loss and what to divide it by."""
        if weights is not None:
            return super().total(logits, targets, weights)
        summed = functional.cross_entropy(
            logits, targets, self.class_weights, reduction="sum", label_smoothing=self.label_smoothing
        )
        return summed, self._normalisers(targets).sum(dtype=torch.float32)

    def of_samples(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of each sample and what it adds to the divisor."""
        losses = functional.cross_entropy(
            logits, targets, self.class_weights, reduction="none", label_smoothing=self.label_smoothing
        )
        return losses, self._normalisers(targets)


class MSE(ClassificationLoss):
    """Squared error, mean over outputs: of standardised numbers, or of raw outputs against one-hot targets.

    For the latter see Hui and Belkin, ICLR 2021. A sample's class weight multiplies its whole error.

    Args:
        scale: standard deviation of each target, by which its errors are divided; None for classes.
    """

    tasks = ("classification", "regression")
    scale: Tensor | None

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        class_counts: Sequence[int] | None = None,
        class_weights: str | Sequence[float] | Mapping[str, float] | None = None,
        label_smoothing: float = 0.0,
        scale: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            class_counts=class_counts,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
        )
        self.register_buffer("scale", None if scale is None else torch.tensor(scale), persistent=False)
        for key, value, none in (("class_weights", class_weights, None), ("label_smoothing", label_smoothing, 0)):
            require(scale is None or value == none, f"loss.{key}", value, "none, as there are no classes")

    def of_samples(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of each sample and what it adds to the divisor."""
        if self.scale is not None:
            return ((logits - targets) / self.scale).square().mean(1), self._normalisers(targets)
        rows = _as_rows(targets, logits)
        errors = (logits - _smoothed(rows, self.label_smoothing)).square().mean(dim=1)
        if self.class_weights is not None:
            errors = errors * (rows @ self.class_weights)
        return errors, self._normalisers(targets)


class Focal(ClassificationLoss):
    """Multi-class focal loss, -(1 - p)^gamma log p of the true class (Lin et al., ICCV 2017); gamma 0 is cross-entropy.

    For soft targets, the sum over classes of target * (1 - p)^gamma * -log p. The class weights are the paper's alpha.

    Args:
        gamma: how strongly well-classified samples are down-weighted, at least 0; the paper uses 2.
    """

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        class_counts: Sequence[int] | None = None,
        class_weights: str | Sequence[float] | Mapping[str, float] | None = None,
        label_smoothing: float = 0.0,
        gamma: float = 2.0,
    ) -> None:
        require(0 <= gamma < math.inf, "loss.gamma", gamma, "at least 0 (0 is cross-entropy)")
        super().__init__(
            num_classes=num_classes,
            class_counts=class_counts,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
        )
        self.gamma = gamma
        self.options["gamma"] = gamma

    def of_samples(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of each sample and what it adds to the divisor."""
        rows = _as_rows(targets, logits)
        log_p = functional.log_softmax(logits, dim=1)
        # Away from 0, where (1 - p)^gamma has no finite slope for gamma below 1.
        one_minus_p = -torch.expm1(log_p).clamp_max(-torch.finfo(log_p.dtype).eps)
        per_class = -_smoothed(rows, self.label_smoothing) * one_minus_p**self.gamma * log_p
        if self.class_weights is not None:
            per_class = per_class * self.class_weights
        return per_class, self._normalisers(targets)


def penalty(groups: Iterable[Mapping[str, Any]], l1: float, l2: float) -> Tensor:
    """Returns l1 * sum |w| + l2 / 2 * sum w^2 over the trained weights with decay, a scalar to add to the loss.

    Args:
        groups: the optimizer's named groups; only those named `.../decay` count, whatever their `weight_decay`.
        l2: for plain SGD the same as a `weight_decay` of l2.
    """
    for name, strength in (("l1", l1), ("l2", l2)):
        require(0 <= strength < math.inf, f"penalty.{name}", strength, "at least 0")
    decayed = [p for group in groups if group["name"].endswith("/decay") for p in group["params"] if p.requires_grad]
    terms = [l1 * weight.abs().sum() + l2 / 2 * weight.square().sum() for weight in decayed]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def resolve_class_weights(
    class_weights: str | Sequence[float] | Mapping[str, float] | None, class_counts: Sequence[int], num_classes: int
) -> Tensor | None:
    """Returns (num_classes,) float weights, or None for none.

    Args:
        class_weights: None; `balanced`, which is n / (num_classes * n_c), n_c images of class c out of n; or a list. By
            name they are a config's only, see `weights_by_index`.
    """
    assert not isinstance(class_weights, Mapping), "names are resolved where the loss is built from a config"
    assert len(class_counts) == num_classes, "class_counts comes from the same data as num_classes."
    if class_weights is None:
        return None
    if isinstance(class_weights, str):
        allowed = "null, balanced, a list of one number per class, or {CLASS: NUMBER} with 1 for the others"
        require(class_weights == "balanced", "loss.class_weights", class_weights, allowed)
        empty = [str(index) for index, count in enumerate(class_counts) if count == 0]
        if empty:
            raise ConfigError(
                "loss.class_weights",
                f"'balanced' needs training samples of each class; without any: class {', '.join(empty)}",
                fix=f"Add some, drop the class, or give {num_classes} numbers.",
            )
        return sum(class_counts) / (num_classes * torch.tensor(class_counts, dtype=torch.float32))
    if len(class_weights) != num_classes:
        raise ConfigError(
            "loss.class_weights",
            f"got {len(class_weights)} numbers, but the data has {num_classes} classes",
            fix="Give one per class, those of some classes by name ({CLASS: NUMBER}), balanced, or null.",
        )
    weights = torch.tensor([float(weight) for weight in class_weights])
    is_valid = bool(weights.isfinite().all() and (weights >= 0).all() and (weights > 0).any())
    require(is_valid, "loss.class_weights", list(class_weights), "finite numbers of at least 0, one of them above 0")
    return weights


def weights_by_index(class_weights: Mapping[str, float], class_names: Sequence[str]) -> list[float]:
    """Returns the weight of each class of weights by name, 1 for those that aren't named."""
    by_name = {str(name): weight for name, weight in class_weights.items()}
    for name in by_name:
        if name not in class_names:
            raise UnknownNameError("loss.class_weights", "class", name, class_names)
    return [by_name.get(name, 1.0) for name in class_names]


def _as_rows(targets: Tensor, logits: Tensor) -> Tensor:
    rows = functional.one_hot(targets, logits.shape[1]) if targets.ndim == 1 else targets
    assert rows.shape == logits.shape, f"targets {tuple(targets.shape)} don't fit logits {tuple(logits.shape)}."
    return rows.to(logits.dtype)


def _smoothed(rows: Tensor, label_smoothing: float) -> Tensor:
    return rows * (1 - label_smoothing) + label_smoothing / rows.shape[1]


def _mean(summed: Tensor, normaliser: Tensor) -> Tensor:
    """Returns the quotient; where the normaliser is 0, a 0 that gradients of 0 flow from."""
    is_weighed = normaliser > 0
    return torch.where(is_weighed, summed, 0.0) / torch.where(is_weighed, normaliser, 1.0)
