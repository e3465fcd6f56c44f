"""Storing what a plan names, and the data that reads it."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from regraft.core.errors import ConfigError
from regraft.data.images.deterministic_views import is_flip_only
from regraft.features.datamodule import FeatureDataModule
from regraft.features.extract import ExtractionStats
from regraft.features.share import Share
from regraft.features.store.store import NoRoomError
from regraft.training.caching.feature_plan import FeaturePlan

log = logging.getLogger(__name__)


def store_share(plan: FeaturePlan, share: Share) -> tuple[int, float]:
    """Computes and stores a share of what the store lacks; returns how many inputs it computed, and its seconds.

    If the disk can't hold all of it, nothing is computed: each process then keeps it in memory, see `store_features`.
    """
    splits = list(plan.needed.values())
    try:
        plan.frozen.make_room(splits)
        if plan.frozen.store.is_in_memory:
            return 0, 0.0
        done = [plan.frozen.extract(view, depths, share) for views, depths in splits for view in views]
    except OSError:  # reported by `store_features`, which tries again
        return 0, 0.0
    return sum(each.num_computed for each in done), sum(each.seconds for each in done)


def store_features(
    plan: FeaturePlan, in_shares: ExtractionStats | None = None, *, is_logged: bool = True
) -> tuple[FeatureDataModule, dict[str, Any]] | None:
    """Computes what the store lacks and returns the data that reads it, with a summary for the run's results.

    If neither the disk nor memory can hold it, it raises ConfigError where it is required, else returns None.

    Args:
        in_shares: what this process and others have computed before, see `store_share`.
    """
    needed = plan.needed
    views = {split: of_split for split, (of_split, _) in needed.items()}
    try:
        plan.frozen.make_room(list(needed.values()))
        filled = [plan.frozen.ensure(*of_split) for of_split in needed.values()]
        filled += [] if in_shares is None else [in_shares]
    except NoRoomError as error:
        if plan.is_required:
            raise ConfigError("features.cache", f"{error}") from error
        log.warning("features: %s They are computed again in each epoch.", error)
        return None
    finally:
        plan.frozen.release()
    tables = {
        (split, depth): plan.frozen.table(of_split, depth, plan.images.indices(split), plan.images.labels(split))
        for split, (of_split, depths) in needed.items()
        for depth in depths
    }
    data = FeatureDataModule(
        plan.images,
        tables,
        plan.cuts,
        plan.eval_depth,
        num_stages=len(plan.frozen.stage_names),
        one_batch_per_epoch=plan.one_batch_per_epoch,
        is_full_batch=plan.is_full_batch,
    )
    summary = _summary(plan, views, filled)
    if is_logged:
        _log(plan, summary)
    return data, summary


def _summary(
    plan: FeaturePlan, views: Mapping[str, Sequence[Any]], filled: Sequence[ExtractionStats]
) -> dict[str, Any]:
    """Returns what was stored, reused and saved, in plain types; `views` are of each split."""
    frozen, depths = plan.frozen, plan.depths
    num_computed, seconds = sum(one.num_computed for one in filled), sum(one.seconds for one in filled)
    per_flop = frozen.seconds_per_flop(plan.first_views, depths)
    num_images = sum(len(views[split][0]) for split in ("train", "val") if split in views)
    flops = sum(part.num_epochs * frozen.costs.up_to(part.depth) for part in plan.cuts if part.depth) * num_images
    is_known = per_flop is not None and math.isfinite(flops)
    return {
        "cuts": [frozen.stage_names[depth - 1] for depth in depths],
        "num_computed": num_computed,
        "num_reused": sum(one.num_images for one in filled) - num_computed,
        "seconds": seconds,
        "seconds_saved": flops * per_flop - seconds if is_known and per_flop is not None else None,
    }


def _log(plan: FeaturePlan, summary: Mapping[str, Any]) -> None:
    num_views = len(plan.first_views)
    if num_views > 1:
        exactly = is_flip_only(plan.images.augment)
        log.info(
            "Features: %s of each training image; each epoch draws one.",
            "the image and its mirror image" if exactly else f"{num_views} augmented views, drawn once,",
        )
    num, seconds = summary["num_computed"], summary["seconds"]
    log.info(
        "Features: %s: %s computed%s, %s reused; kept in %s.",
        "; ".join(map(plan.frozen.description, plan.depths)),
        f"{num:,}",
        f" ({seconds:.1f} s, {num / seconds:.0f} {plan.images.input_spec.nouns}/s)" if num else "",
        f"{summary['num_reused']:,}",
        plan.frozen.store.location,
    )
    saved = summary["seconds_saved"]
    if saved is not None and saved >= 1:
        log.info("Features: computed again in each epoch, they would take about %.0f s more.", saved)
