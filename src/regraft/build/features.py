"""What of a run is stored instead of computed again and again: asked for, possible, worth it; then done."""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from hydra.utils import get_object

from regraft.build.targets import Config, factory
from regraft.contracts import Backbone
from regraft.data.augment import Augment
from regraft.data.image_view import is_flip_only, is_none
from regraft.features.datamodule import CachedData
from regraft.features.fill import Progress
from regraft.features.frozen import FrozenFeatures, NoFolderError, NoRoomError
from regraft.features.key import UnreadableSourceError
from regraft.features.plan import Stretch, frozen_depth, saved_flops, stretches
from regraft.features.settings import Settings
from regraft.freezing.phases import phases
from regraft.freezing.strategies import FreezingStrategy
from regraft.optim import LBFGS

log = logging.getLogger(__name__)

_SINGLE_PRECISIONS = ("32-true", "32", 32)


@dataclass(frozen=True)
class FeaturePlan:
    """What is going to be stored for a run.

    Attributes:
        settings: the user's choices.
        images: the datamodule of the images.
        frozen: where features are kept and computed.
        stretches: the run's epochs and their cuts.
        is_amortised: whether an epoch that trains the head alone is one batch.
        is_full_batch: whether such an epoch is a single step.
    """

    settings: Settings
    images: Any
    frozen: FrozenFeatures
    stretches: list[Stretch]
    is_amortised: bool
    is_full_batch: bool

    @property
    def depths(self) -> list[int]:
        """The cuts, ascending."""
        return sorted({part.depth for part in self.stretches if part.depth})

    @property
    def eval_depth(self) -> int:
        """The cut for what is measured after training, below which nothing has ever trained; 0 for none."""
        return self.stretches[-1].depth if self.stretches else 0

    def views(self, split: str) -> list[Any]:
        """Returns the images of a split, under each transform."""
        views: list[Any] = self.images.views(split, self.settings.views, self.settings.views_seed)
        return views


def feature_plan(
    config: Config,
    backbone: Backbone,
    data: Any,
    strategy: FreezingStrategy,
    device: torch.device,
    *,
    start_epoch: int,
    progress: Progress,
) -> FeaturePlan | None:
    """Returns what to store for a training, None if nothing; the log says why.

    Args:
        config: the resolved config.
        backbone: with the weights that the run starts or goes on with.
        data: the prepared datamodule of the images.
        strategy: what trains when.
        device: of the run.
        start_epoch: where the run starts or goes on.
        progress: see `fill.Progress`.

    Raises:
        ValueError: `features.cache=on` or an optimizer wants what can't be.
    """
    settings: Settings = factory(config["features"], "features")()
    names = backbone.stage_names
    max_epochs = config["trainer"]["max_epochs"]
    run_phases = [(phase.start_epoch, phase.factors) for phase in phases(strategy, names, max_epochs)]
    is_full_batch = issubclass(get_object(config["optimizer"]["_target_"]), LBFGS)
    if is_full_batch:
        _require_full_batch(config, backbone, data, [factors for _, factors in run_phases])
    plan = None
    reason = _obstacle(settings, data.augment, frozen_depth(run_phases[0][1], names))
    frozen = None
    if reason is None:
        precisions = settings.precisions(is_head_only=_trains_head_only(run_phases, backbone))
        try:
            frozen = FrozenFeatures(backbone, model_name(config), settings, precisions, device, progress)
        except (UnreadableSourceError, NoFolderError) as error:
            reason = str(error)
    if frozen is not None:
        parts = stretches(run_phases, names, max_epochs, start_epoch, frozen.costs)
        plan = FeaturePlan(settings, data, frozen, parts, is_amortised(config) or is_full_batch, is_full_batch)
        if plan.depths:
            frozen.prefer_stored(plan.views("train"), plan.depths[-1])
        elif start_epoch and any(part.depth for part in stretches(run_phases, names, max_epochs, 0, frozen.costs)):
            # No reason to refuse a run that has been accepted when it started.
            log.info("Features aren't stored: the epochs that are left train the stages that were stored before.")
            return None
        reason = _waste(config, plan)
    if reason is None:
        return plan
    if settings.cache == "on":
        raise ValueError(f"features.cache: got 'on', but {reason}")
    if is_full_batch:
        raise ValueError(f"optimizer: LBFGS works on stored features, but {reason}")
    if settings.cache == "auto":
        log.info("Features aren't stored: %s", reason)
    return None


def model_name(config: Config) -> str:
    """Returns what people call the backbone."""
    node = config["model"]
    return str(node.get("name") or node["_target_"].rpartition(".")[2])


def is_amortised(config: Config) -> bool:
    """Whether nothing that the config asks of Lightning is between two steps, so that an epoch may be one batch."""
    trainer = config["trainer"]
    plain = {"max_steps": -1, "limit_train_batches": None, "val_check_interval": None, "fast_dev_run": False}
    plain |= {"accumulate_grad_batches": 1, "gradient_clip_val": None, "overfit_batches": 0, "num_nodes": 1}
    between = ("every_n_steps", "every_n_train_steps")
    watches = [node for node in config["callbacks"].values() if node and any(node.get(key) for key in between)]
    return (
        all(trainer.get(key, value) == value for key, value in plain.items())
        and trainer["precision"] in _SINGLE_PRECISIONS
        and not watches
    )


def evaluation_data(
    config: Config,
    backbone: Backbone,
    images: Any,
    split: str,
    strategy: FreezingStrategy,
    device: torch.device,
    progress: Progress,
) -> CachedData | None:
    """Returns the data of an evaluation that reads what the run's training stored, None if it didn't.

    With `features.cache=on` what is missing is computed and stored.

    Args:
        config: the run's.
        backbone: with the weights to evaluate.
        images: the prepared datamodule.
        split: `val` or `test`.
        strategy: what trained when.
        device: to evaluate on.
        progress: see `fill.Progress`.

    Raises:
        ValueError: `features.cache=on`, and no stage stayed frozen, or there is no room.
    """
    if "features" not in config:  # a run of an older version
        return None
    settings: Settings = factory(config["features"], "features")()
    if settings.cache == "off":
        return None
    max_epochs = config["trainer"]["max_epochs"]
    run_phases = [(phase.start_epoch, phase.factors) for phase in phases(strategy, backbone.stage_names, max_epochs)]
    frozen = None
    if all(frozen_depth(factors, backbone.stage_names) for _, factors in run_phases):
        precisions = settings.precisions(is_head_only=_trains_head_only(run_phases, backbone))
        # What was no obstacle to training is none to an evaluation.
        with suppress(UnreadableSourceError, NoFolderError):
            frozen = FrozenFeatures(backbone, model_name(config), settings, precisions, device, progress)
    if frozen is not None:
        depth = stretches(run_phases, backbone.stage_names, max_epochs, 0, frozen.costs)[-1].depth
        views = images.views(split, settings.views, settings.views_seed)
        if depth:
            frozen.prefer_stored(views, depth)
        if depth and (settings.cache == "on" or frozen.has_all(views, depth)):
            try:
                frozen.ensure(views, [depth])
            except NoRoomError as error:
                raise ValueError(f"features.cache: {error}") from error
            table = frozen.table(views, depth, images.indices(split), images.labels(split))
            stages = len(backbone.stages)
            return CachedData(
                images, {(split, depth): table}, [], depth, num_stages=stages, is_amortised=False, is_full_batch=False
            )
    if settings.cache == "on":
        raise ValueError("features.cache: got 'on', but the run trained every stage, or all that is worth storing.")
    return None


def store(plan: FeaturePlan) -> tuple[CachedData, dict[str, Any]] | None:
    """Computes what the store lacks and returns the data that reads it, with a summary for the run's results.

    None if neither the disk nor memory can hold it and the user didn't insist; the log says so.

    Raises:
        ValueError: the user did insist.
    """
    splits = {"train": plan.depths, "val": plan.depths, "test": [plan.eval_depth] if plan.eval_depth else []}
    views = {split: plan.views(split) for split, depths in splits.items() if depths and split in plan.images.sizes}
    try:
        filled = [plan.frozen.ensure(views[split], splits[split]) for split in views]
    except NoRoomError as error:
        if plan.settings.cache == "on" or plan.is_full_batch:
            raise ValueError(f"features.cache: {error}") from error
        log.warning("features: %s They are computed anew in each epoch.", error)
        return None
    finally:
        plan.frozen.release()
    tables = {
        (split, depth): plan.frozen.table(views[split], depth, plan.images.indices(split), plan.images.labels(split))
        for split in views
        for depth in splits[split]
    }
    data = CachedData(
        plan.images,
        tables,
        plan.stretches,
        plan.eval_depth,
        num_stages=len(plan.frozen.stage_names),
        is_amortised=plan.is_amortised,
        is_full_batch=plan.is_full_batch,
    )
    num_asked, num_computed = (sum(getattr(one, key) for one in filled) for key in ("num_images", "num_computed"))
    summary = _summary(plan, views, num_asked, num_computed, sum(one.seconds for one in filled))
    _report(plan, views, summary)
    return data, summary


def _obstacle(settings: Settings, augment: Augment, first_frozen_depth: int) -> str | None:
    """Returns why features can't be stored, None if they can; always a sentence of its own."""
    if settings.cache == "off":
        return "features.cache=off."
    if first_frozen_depth == 0:
        return "the first stage trains from the start; freeze it, for example with freezing=linear_probe."
    if augment.is_mixing:
        return "mixup and CutMix mix images, so that no features are those of a single one; set both alphas to 0."
    if not (is_none(augment) or is_flip_only(augment)) and settings.views == 0:
        return (
            "the augmentation draws anew in each epoch; features.views=8 stores 8 views of each image and draws one, "
            "which is another, smaller augmentation."
        )
    return None


def _trains_head_only(phases: Sequence[tuple[int, Mapping[str, float]]], backbone: Backbone) -> bool:
    names = backbone.stage_names
    return all(frozen_depth(factors, names) == len(names) for _, factors in phases)


def _waste(config: Config, plan: FeaturePlan) -> str | None:
    """Returns why storing doesn't pay, None if it does."""
    if not plan.depths:
        return "no cut below the frozen stages makes an epoch at least 1.3 times as fast."
    if plan.settings.cache == "on" or plan.is_full_batch:
        return None
    trainer = config["trainer"]
    limits = [key for key in ("fast_dev_run", "limit_train_batches", "limit_val_batches") if trainer[key]]
    if limits:
        return f"with trainer.{limits[0]} a run looks at some of the images only; features.cache=on stores all of them."
    sizes = plan.images.sizes
    missing = sum(
        plan.frozen.num_missing(plan.views(split), plan.depths) for split in ("train", "val") if split in sizes
    )
    saved = saved_flops(
        plan.stretches, plan.frozen.costs, num_images=sizes["train"] + sizes.get("val", 0), num_missing=missing
    )
    if saved <= 0:
        return "so few epochs cost no more than computing and storing them; features.cache=on stores them all the same."
    return None


def _require_full_batch(
    config: Config, backbone: Backbone, data: Any, phase_factors: Sequence[Mapping[str, float]]
) -> None:
    """Checks that an epoch can be one step of LBFGS: the same function of the head alone, each time it is asked."""
    trainer = config["trainer"]
    wrong = [
        (any(frozen_depth(factors, backbone.stage_names) < len(backbone.stages) for factors in phase_factors),
         "it trains the head alone; use freezing=linear_probe"),
        (not is_none(data.augment), "it needs the same images in each epoch; use augment=none"),
        (config["data"]["sampler"] != "shuffle", "it needs the same images in each epoch; use data.sampler=shuffle"),
        (config["head"].get("dropout", 0) > 0, "it needs the same loss each time; use head.dropout=0"),
        (config["penalty"]["l1"] > 0 or config["penalty"]["l2"] > 0, "use optimizer.weight_decay, not penalty"),
        (trainer["accumulate_grad_batches"] != 1 or trainer["gradient_clip_val"] is not None,
         "trainer.accumulate_grad_batches and trainer.gradient_clip_val have no meaning for it; leave them out"),
        (trainer["precision"] not in _SINGLE_PRECISIONS, "use trainer.precision=32-true"),
        (str(trainer["devices"]) not in ("1", "auto"), "use trainer.devices=1"),
    ]  # fmt: skip
    reason = next((text for is_wrong, text in wrong if is_wrong), None)
    if reason is not None:
        raise ValueError(f"optimizer: LBFGS takes one step an epoch on all training features: {reason}.")


def _summary(
    plan: FeaturePlan, views: Mapping[str, Sequence[Any]], num_asked: int, num_computed: int, seconds: float
) -> dict[str, Any]:
    per_image = plan.frozen.seconds_per_image(views["train"], plan.depths[-1])
    num_images = sum(len(views[split][0]) for split in ("train", "val") if split in views)
    num_passes = sum(part.num_epochs for part in plan.stretches if part.depth) * num_images
    is_known = per_image is not None and math.isfinite(num_passes)
    return {
        "cuts": [plan.frozen.stage_names[depth - 1] for depth in plan.depths],
        "num_computed": num_computed,
        "num_reused": num_asked - num_computed,
        "seconds": seconds,
        "seconds_saved": per_image * num_passes - seconds if is_known and per_image is not None else None,
    }


def _report(plan: FeaturePlan, views: Mapping[str, Sequence[Any]], summary: Mapping[str, Any]) -> None:
    """Says what is stored, what of it was there, and what it saves."""
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
        "; ".join(map(plan.frozen.row_text, plan.depths)),
        f"{summary['num_computed']:,}",
        summary["seconds"],
        rate,
        f"{summary['num_reused']:,}",
        plan.frozen.place(views["train"], plan.depths[-1]),
    )
    if summary["seconds_saved"] is not None:
        log.info("Features: computed anew in each epoch, they would take about %.0f s more.", summary["seconds_saved"])
