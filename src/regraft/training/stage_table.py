"""What trains, from when and how fast: the table that a run shows at its start."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.models.freezing import HEAD, FreezingStrategy, Stages, phases

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class StageRow:
    """One stage, or the head.

    Attributes:
        num_decayed: number of parameters with weight decay.
        lr_by_epoch: (epoch, base learning rate from then on), an entry where it changes; empty if it never trains.
    """

    stage: str
    num_parameters: int
    num_decayed: int
    weight_decay: float
    lr_by_epoch: tuple[tuple[int, float], ...]

    @property
    def trains_from_epoch(self) -> int | None:
        """First epoch in which it trains; None is never."""
        return self.lr_by_epoch[0][0] if self.lr_by_epoch else None


def stage_rows(
    groups: Sequence[Mapping[str, Any]], stages: Stages, strategy: FreezingStrategy, lr: float, max_epochs: int
) -> list[StageRow]:
    """Returns a row for each stage from the input up, then one for the head.

    Args:
        lr: base learning rate, before schedule and factors; nan for an optimizer without one.
        max_epochs: -1 is unlimited.
    """
    run_phases = phases(strategy, stages, max_epochs)
    by_name = {group["name"]: group for group in groups}
    rows = []
    for stage in [*stages, HEAD]:
        decayed, undecayed = (by_name.get(f"{stage}/{kind}", {}) for kind in ("decay", "no_decay"))
        num_decayed, num_undecayed = (sum(p.numel() for p in each.get("params", ())) for each in (decayed, undecayed))
        lrs: list[tuple[int, float]] = []
        factor = 0.0
        for phase in run_phases if num_decayed + num_undecayed else ():
            if phase.factors[stage] != factor:
                factor = phase.factors[stage]
                lrs.append((phase.start_epoch, lr * factor))
        weight_decay = decayed.get("weight_decay", 0.0)
        rows.append(StageRow(stage, num_decayed + num_undecayed, num_decayed, weight_decay, tuple(lrs)))
    return rows


def render(rows: Sequence[StageRow]) -> "Table":
    """Returns the rows as a table for the terminal."""
    from rich.table import Table

    table = Table("stage", title="What trains")
    for heading in ("parameters", "trains from epoch", "learning rate", "weight decay"):
        table.add_column(heading, justify="right")
    for row in rows:
        start = "-" if row.num_parameters == 0 else "never" if row.trains_from_epoch is None else row.trains_from_epoch
        rates = [f"{rate:g} from {epoch}" for epoch, rate in row.lr_by_epoch]
        rates[:1] = [f"{rate:g}" for _, rate in row.lr_by_epoch[:1] if not math.isnan(rate)]
        table.add_row(row.stage, f"{row.num_parameters:,}", str(start), ", ".join(rates) or "-", _decay_text(row))
    return table


def _decay_text(row: StageRow) -> str:
    if not row.num_decayed or not row.lr_by_epoch or math.isnan(row.lr_by_epoch[0][1]):
        return "-"
    if row.num_decayed == row.num_parameters:
        return f"{row.weight_decay:g}"
    return f"{row.weight_decay:g} on {100 * row.num_decayed / row.num_parameters:.3g} %"
