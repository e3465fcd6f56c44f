"""What storing did for a run, for its results and for the log."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from regraft.data.images.deterministic_views import is_flip_only
from regraft.features.cache import FrozenFeatures
from regraft.features.cut import Stretch
from regraft.features.extract import Filled

log = logging.getLogger(__name__)


def summary(
    frozen: FrozenFeatures,
    stretches: Sequence[Stretch],
    views: Mapping[str, Sequence[Any]],
    filled: Sequence[Filled],
) -> dict[str, Any]:
    """Returns what was stored, reused and saved, in plain types.

    Args:
        frozen: where features are kept and computed.
        stretches: the run's epochs and their cuts.
        views: of each split.
        filled: what was done.
    """
    depths = sorted({part.depth for part in stretches if part.depth})
    num_computed, seconds = sum(one.num_computed for one in filled), sum(one.seconds for one in filled)
    per_flop = frozen.seconds_per_flop(views["train"], depths)
    num_images = sum(len(views[split][0]) for split in ("train", "val") if split in views)
    flops = sum(part.num_epochs * frozen.costs.prefix(part.depth) for part in stretches if part.depth) * num_images
    is_known = per_flop is not None and math.isfinite(flops)
    return {
        "cuts": [frozen.stage_names[depth - 1] for depth in depths],
        "num_computed": num_computed,
        "num_reused": sum(one.num_images for one in filled) - num_computed,
        "seconds": seconds,
        "seconds_saved": flops * per_flop - seconds if is_known and per_flop is not None else None,
    }


def say(plan: Any, views: Mapping[str, Sequence[Any]], summary: Mapping[str, Any]) -> None:
    """Logs what is stored, what of it was there, and what it saves.

    Args:
        plan: see `features.FeaturePlan`.
        views: of each split.
        summary: see `summary`.
    """
    num_views = len(views["train"])
    if num_views > 1:
        exactly = is_flip_only(plan.images.augment)
        log.info(
            "Features: %s of each training image; each epoch draws one.",
            "the image and its mirror image" if exactly else f"{num_views} augmented views, drawn once,",
        )
    rate = f", {summary['num_computed'] / summary['seconds']:.0f} images/s" if summary["num_computed"] else ""
    log.info(
        "Features: %s: %s computed (%.1f s%s), %s reused; kept in %s.",
        "; ".join(map(plan.frozen.rows.row_text, plan.depths)),
        f"{summary['num_computed']:,}",
        summary["seconds"],
        rate,
        f"{summary['num_reused']:,}",
        plan.frozen.rows.place([view for split in views.values() for view in split], plan.depths[-1]),
    )
    saved = summary["seconds_saved"]
    if saved is not None and saved >= 1:
        log.info("Features: computed anew in each epoch, they would take about %.0f s more.", saved)
