"""Backbones whose features are the pooled outputs of several stages, side by side."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.errors import ConfigError, UnknownNameError
from regraft.core.pooling import thinned
from regraft.core.types import Backbone
from regraft.models.dry_run import dry_outputs, is_small

log = logging.getLogger(__name__)


class TappedStage(nn.Module):
    """A stage that passes on, with its own output, the pooled outputs of the stages up to it.

    Args:
        pool: returns the pooled output of the stage, as `InputSpec.pool` does.
        is_first: whether it is the first such stage, whose input is the output of the stage before.
        is_last: whether it gives the features, and not a pair of its output and the pooled outputs.
    """

    def __init__(
        self,
        stage: nn.Module,
        pool: Callable[[Tensor], Tensor],
        *,
        is_first: bool,
        is_last: bool,
        is_pooled: bool,
    ) -> None:
        super().__init__()
        self.stage = stage
        self.pool = pool
        self.is_first = is_first
        self.is_last = is_last
        self.is_pooled = is_pooled

    def forward(self, inputs: Any) -> Any:
        """Returns (output, pooled outputs), or of the last stage the features, (batch, sum of widths)."""
        values, pooled = (inputs, ()) if self.is_first else inputs
        values = self.stage(values)
        if self.is_pooled:
            pooled = (*pooled, self.pool(values))
        return torch.cat(pooled, dim=1) if self.is_last else (values, pooled)


class TappedBackbone(Backbone):
    """A backbone whose features are the pooled outputs of some of its stages; it ends with the last of these.

    Args:
        backbone: whose stages are taken over; its own features aren't used.
        widths: by stage, from the input up, of its pooled output.
    """

    def __init__(self, backbone: Backbone, widths: Mapping[str, int]) -> None:
        own = backbone.untapped_stages
        names = list(own)
        first, last = names.index(next(iter(widths))), names.index([*widths][-1])
        stages = {
            name: own[name]
            if index < first
            else TappedStage(
                own[name],
                backbone.input_spec.pool,
                is_first=index == first,
                is_last=index == last,
                is_pooled=name in widths,
            )
            for index, name in enumerate(names[: last + 1])
        }
        super().__init__(stages, sum(widths.values()), backbone.input_spec)
        self._widths = dict(widths)
        self.known_costs = None if backbone.known_costs is None else backbone.known_costs[: last + 1]

    @property
    def feature_widths(self) -> dict[str, int]:
        """How many of the features each stage gives, in their order."""
        return dict(self._widths)

    @property
    def untapped_stages(self) -> dict[str, nn.Module]:
        """The stages, without what pools their outputs."""
        return {name: stage.stage if isinstance(stage, TappedStage) else stage for name, stage in self.stages.items()}

    def forward(self, inputs: Tensor, num_stages_done: int = 0) -> Tensor:
        """Returns what `Backbone.forward` does.

        Args:
            inputs: with `num_stages_done`, rows of the pooled outputs up to there and the output, (batch, width); where
                nothing has been pooled, the output alone.
            num_stages_done: see `Backbone.forward`.
        """
        names = self.stage_names[:num_stages_done]
        widths = [self._widths[name] for name in names if name in self._widths]
        if not widths or num_stages_done == len(self.stages):
            return super().forward(inputs, num_stages_done)
        pooled = inputs[:, : sum(widths)].split(widths, dim=1)
        shape = self.costs[num_stages_done - 1].shape
        assert shape is not None, "a backbone is cut where a single tensor crosses"
        pair: Any = (inputs[:, sum(widths) :].reshape(len(inputs), *shape), pooled)
        return super().forward(pair, num_stages_done)


def tapped(backbone: Backbone, stages: str | Sequence[str]) -> Backbone:
    """Returns a backbone whose features are the pooled outputs of stages.

    Args:
        stages: `last` for the backbone's own features; `all`; names of stages; or `auto`, which is all that can be
            pooled, or every second, third, ... of them from the last one down, with `MAX_WIDTH` features at most.

    Raises:
        ConfigError: an unknown name, or a stage without an output that can be pooled.
    """
    known = list(backbone.stage_names)
    if stages == "last" and not isinstance(backbone, TappedBackbone):
        return backbone
    names = {"all": known, "auto": known, "last": known[-1:]}.get(stages) if isinstance(stages, str) else stages
    if not (names and isinstance(names, Sequence)):
        raise ConfigError("head.stages", got=stages, allowed=f"auto, last, all, or a list of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UnknownNameError("head.stages", "stage", str(name), known)
    shapes = output_shapes(backbone)
    widths = {name: backbone.input_spec.pooled_width(shape) for name, shape in shapes.items()}
    if stages == "auto":
        return TappedBackbone(backbone, _read_by_default({name: widths[name] for name in known if name in widths}))
    for name in names:
        if name not in widths:
            able = ",".join(each for each in known if each in widths)
            raise ConfigError(
                "head.stages",
                f"stage {name} does not give one floating tensor with a part for each input, so it can't be pooled",
                fix=f"Leave it out: head.stages=[{able}].",
            )
    return TappedBackbone(backbone, {name: widths[name] for name in known if name in names})


def _read_by_default(widths: Mapping[str, int]) -> dict[str, int]:
    """Returns the widths of those stages that `auto` reads."""
    kept = thinned(widths)
    if len(kept) < len(widths):
        log.info("The head reads %d of %d stages (head.stages=auto): %s.", len(kept), len(widths), ", ".join(kept))
    return kept


def output_shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each stage's output of two images, where it is one floating tensor with a part for each."""
    stages = backbone.untapped_stages
    if is_small(backbone, num_inputs=2):
        costs = zip(stages, backbone.costs, strict=True)
        return {name: (2, *cost.shape) for name, cost in costs if cost.shape}
    names = {stage: name for name, stage in stages.items()}
    return {
        names[stage]: tuple(output.shape)
        for stage, output in dry_outputs(backbone, names, num_inputs=2)
        if output.is_floating_point() and output.dim() > 1 and len(output) == 2
    }
