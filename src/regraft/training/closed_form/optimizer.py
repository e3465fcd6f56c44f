"""Linear heads in closed form, in the place of an optimizer: one step on all training features."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.errors import ConfigError, UnknownNameError
from regraft.models.heads import Linear, Standardised
from regraft.models.stage_standardisation import CLIP
from regraft.tasks import TASKS, Task
from regraft.tasks.rescaled import Rescaled
from regraft.training.closed_form.criteria import CRITERIA
from regraft.training.closed_form.logistic import NUM_FOLDS
from regraft.training.closed_form.mix import SOLVERS, ClosedFormHead, fit_closed_form

log = logging.getLogger(__name__)

LEAVE_ONE_OUT, LEAVE_GROUP_OUT = "leave-one-out", "leave-one-group-out"
HEADS = (Linear, Standardised)
"""Those that can be fitted; a linear one absorbs the standardisation of its features, which are not clipped then."""


class ClosedForm(torch.optim.Optimizer):
    """Fits the head once, on all training features; see `fit_closed_form`.

    Args:
        params: named groups, see `parameter_groups`.
        solvers: keys of `SOLVERS`.
        last_stage_solvers: keys of `SOLVERS` whose heads on the last stage join a mix of several sets of stages.
        stage_sets: `one` for heads on all stages that the head reads; `nested` for heads on the last one, on the upper
            two thirds and on all of them.

    Attributes:
        picks: what the fitted head is the mean of, in plain types; empty before.
        left_out: logits (num_images, num_classes) of heads that were fitted without the image, and labels
            (num_images,); None before, and where no class has two images.
    """

    def __init__(
        self,
        params: Sequence[dict[str, Any]],
        solvers: Sequence[str],
        stage_sets: str,
        last_stage_solvers: Sequence[str] = (),
    ) -> None:
        if not solvers:
            raise ConfigError("optimizer.solvers", got=list(solvers), allowed=f"one or more of {', '.join(SOLVERS)}")
        for key, given in {"solvers": solvers, "last_stage_solvers": last_stage_solvers}.items():
            for solver in given:
                if solver not in SOLVERS:
                    raise UnknownNameError(f"optimizer.{key}", "solver", str(solver), list(SOLVERS))
        if stage_sets not in ("one", "nested"):
            raise ConfigError("optimizer.stage_sets", got=stage_sets, allowed="one, nested")
        # A rate of 1 is a whole step.
        super().__init__(params, {"lr": 1.0})
        self._solvers, self._stage_sets = tuple(solvers), stage_sets
        self._last_stage_solvers = tuple(last_stage_solvers)
        self.left_out: tuple[Tensor, Tensor] | None = None

    @property
    def picks(self) -> list[dict[str, Any]]:
        """The heads that the fitted one is the mean of, in plain types; a checkpoint has them, too."""
        return list(self.param_groups[-1].get("picks", []))

    @property
    def validation(self) -> str:
        """How images are left out, for each kind of head that there is."""
        solvers = [pick["solver"] for pick in self.picks] or self._solvers
        return " and ".join(sorted({self._left_out_by(solver) for solver in solvers}, reverse=True))

    def _left_out_by(self, solver: str) -> str:
        is_grouped = self.param_groups[-1].get("is_grouped", False)
        if solver == "logistic":
            return f"{NUM_FOLDS}-fold by group" if is_grouped else f"{NUM_FOLDS}-fold"
        return LEAVE_GROUP_OUT if is_grouped else LEAVE_ONE_OUT

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Returns the loss; `fit` has set the weights."""
        return closure()

    @torch.no_grad()
    def fit(
        self,
        head: nn.Module,
        features: Tensor,
        targets: Tensor,
        widths: Mapping[str, int],
        weights: Tensor | None,
        task: Task = TASKS["classification"],
        groups: Tensor | None = None,
    ) -> None:
        """Sets the head's weights and buffers.

        Args:
            head: one of `HEADS`, possibly in a `Rescaled`.
            features: (num_images, num_features).
            targets: (num_images,), int64; or (num_images, num_outputs), float.
            widths: how many of the features each stage gives, in their order.
            weights: of the images, (num_images,), above 0; None for equal weights.
            groups: (num_images,), int64: images of the same one are left out together; None to leave each out alone.
        """
        outer, head = head, inner_head(head)
        assert isinstance(head, HEADS), "preflight refuses others"
        targets = targets.cpu()
        labels = outer.standardised(targets) if isinstance(outer, Rescaled) else targets
        by_stage = dict(zip(widths, features.cpu().split(list(widths.values()), dim=1), strict=True))
        found = fit_closed_form(
            by_stage,
            labels,
            head.classifier.out_features,
            sample_weight=None if weights is None else weights.cpu(),
            solvers=self._solvers if task.has_classes else ("ridge",),
            stage_sets=[list(widths)] if self._stage_sets == "one" else None,
            clip=CLIP if isinstance(head, Standardised) else torch.inf,
            make_criterion=CRITERIA[task.name],
            groups=None if groups is None else groups.cpu(),
            last_stage_solvers=self._last_stage_solvers if task.has_classes else (),
        )
        self.param_groups[-1]["is_grouped"] = groups is not None
        _set(head, found, widths)
        self.param_groups[-1]["picks"] = [vars(pick) | {"stages": list(pick.stages)} for pick in found.picks]
        known = found.is_informative
        outputs = found.loo_logits[known].float()
        outputs = outer.in_units(outputs) if isinstance(outer, Rescaled) else outputs
        self.left_out = (outputs, targets[found.scored][known]) if known.any() else None
        for pick in found.picks:
            loss = "" if math.isnan(pick.log_loss) else f" ({self._left_out_by(pick.solver)} loss {pick.log_loss:.3f})"
            stages = ", ".join(pick.stages)
            log.info("Head: %.0f %% %s on %s, alpha %.3g%s.", 100 * pick.share, pick.solver, stages, pick.alpha, loss)
        if len(known) < len(targets):
            log.info("Head: %d of %d samples, drawn at random, are left out in turn.", len(known), len(targets))
        if self.left_out is None:
            reason = "no class is in two groups" if groups is not None else "no class has two samples"
            log.warning("Head: %s, so nothing could be chosen by leaving one out.", reason)
        elif not known.all():
            alone = "the class of each other one is in a single group"
            reason = "each other one is the only one of its class" if groups is None else alone
            message = "Head: the val/ figures are those of %d of %d samples, as %s."
            log.warning(message, known.sum(), len(known), reason)


def inner_head(head: nn.Module) -> nn.Module:
    """Returns a head without what brings its outputs to the units of numbers."""
    return head.head if isinstance(head, Rescaled) else head


def fitting_weights(loss: Any, targets: Tensor, weights: Tensor | None) -> Tensor | None:
    """Returns how much training samples weigh, (num_images,), above 0; None for equal weights.

    Args:
        loss: of the run, which may have class weights.
        weights: of the samples, (num_images,); None for equal weights.
    """
    of_classes = getattr(loss, "class_weights", None)
    if of_classes is None:
        return weights
    of_samples: Tensor = of_classes.to(targets.device)[targets]
    return of_samples if weights is None else of_samples * weights


def _set(head: Linear | Standardised, found: ClosedFormHead, widths: Mapping[str, int]) -> None:
    """Copies what was found into the head; features of stages that it doesn't read have the weight 0."""
    scaling = found.scaling
    weights = dict(zip(found.stages, found.weight.split(scaling.widths(found.stages), dim=1), strict=True))
    zeros = {stage: found.weight.new_zeros(width) for stage, width in widths.items()}
    mean = torch.cat([scaling.mean.get(stage, zeros[stage]) for stage in widths])
    scale = torch.cat([scaling.factor.get(stage, zeros[stage]) / width**0.5 for stage, width in widths.items()])
    weight = torch.cat([weights.get(stage, zeros[stage].expand(len(found.weight), -1)) for stage in widths], dim=1)
    if isinstance(head, Standardised):
        head.mean.copy_(mean)
        head.scale.copy_(scale)
        head.limit.copy_(torch.cat([torch.full((width,), scaling.clip / width**0.5) for width in widths.values()]))
        head.classifier.weight.copy_(weight)
        head.classifier.bias.copy_(found.bias)
    else:
        head.classifier.weight.copy_(weight * scale)
        head.classifier.bias.copy_(found.bias - (weight * scale) @ mean)
