"""The plan of which features of a run are stored instead of computed in each epoch."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from regraft.config.instantiate import Config, factory
from regraft.core.console import ProgressBar
from regraft.core.errors import ConfigError
from regraft.core.types import Backbone
from regraft.data.images.transforms.augment import Augment
from regraft.features.cache import FeatureCache
from regraft.features.cut import CutPhase, cut_phases, frozen_depth
from regraft.features.fingerprint import UnreadableSourceError
from regraft.features.settings import FeatureSettings
from regraft.features.store.store import NoFolderError
from regraft.models.freezing import FreezingStrategy, Stages
from regraft.models.freezing import phases as phases_of
from regraft.training.caching.feature_policy import (
    draws_views,
    full_batch_optimizer,
    require_full_batch,
    step_level_option,
    trains_head_only,
    why_drawn_again,
    why_not_cacheable,
    why_not_worthwhile,
    why_too_large,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeaturePlan:
    """What is going to be stored for a run.

    Attributes:
        has_train: whether features of training images are stored, besides those of validation and test.
        one_batch_per_epoch: whether an epoch that trains the head alone is one batch.
        is_full_batch: whether such an epoch is a single step.
        is_tested: whether the run looks at test images.
    """

    settings: FeatureSettings
    images: Any
    frozen: FeatureCache
    cuts: list[CutPhase]
    one_batch_per_epoch: bool
    is_full_batch: bool
    is_tested: bool
    has_train: bool = True

    @property
    def depths(self) -> list[int]:
        """The cuts, ascending."""
        return sorted({part.depth for part in self.cuts if part.depth})

    @property
    def train_cuts(self) -> list[CutPhase]:
        """The cuts above which training images are read from the store."""
        return self.cuts if self.has_train else []

    @property
    def first_views(self) -> list[Any]:
        """The images of the first split that is stored, under each transform."""
        return self.views("train" if self.has_train else "val")

    @property
    def eval_depth(self) -> int:
        """The cut for evaluation after training, below which nothing has ever trained; 0 for none."""
        return self.cuts[-1].depth if self.cuts else 0

    @property
    def is_required(self) -> bool:
        """Whether the run would be a different one without the store."""
        return self.settings.cache == "on" or self.is_full_batch or draws_views(self.settings, self.images.augment)

    @property
    def record(self) -> dict[str, Any]:
        """What a resumed run needs to continue in the same way, whatever the store holds by then."""
        return {"precision": self.frozen.precision, "one_batch_per_epoch": self.one_batch_per_epoch}

    @property
    def needed(self) -> dict[str, tuple[list[Any], list[int]]]:
        """The views of each split that is stored, and the depths at which they are."""
        depths = {"train": self.depths if self.has_train else [], "val": self.depths}
        depths["test"] = [self.eval_depth] if self.eval_depth and self.is_tested else []
        return {
            split: (self.views(split), wanted)
            for split, wanted in depths.items()
            if wanted and split in self.images.sizes
        }

    def views(self, split: str) -> list[Any]:
        """Returns the images of a split, under each transform."""
        return self.images.inputs.views(split, self.settings.views, self.settings.views_seed)


def feature_plan(
    config: Config,
    backbone: Backbone,
    data: Any,
    strategy: FreezingStrategy,
    device: torch.device,
    *,
    start_epoch: int,
    progress: ProgressBar,
    earlier: Mapping[str, Any] | None = None,
    may_leave_out_train: bool = False,
    is_filled: bool = False,
) -> FeaturePlan | None:
    """Returns what to store for a training, None if nothing; the log says why.

    Args:
        backbone: with the weights that the run starts or resumes with.
        start_epoch: the epoch at which the run starts or resumes.
        earlier: `FeaturePlan.record` of the run that is resumed, or one without a precision if nothing was stored; a
            run whose epochs weren't one batch keeps to that.
        may_leave_out_train: whether features of validation and test images are stored alone where those of training
            images can't be, because each epoch draws other ones.
        is_filled: whether the store is filled before the training, so that storing costs the training nothing.

    Raises:
        ConfigError: `features.cache=on`, `features.views`, an optimizer or filling needs what can't be stored.
    """
    settings: FeatureSettings = factory(config["features"], "features")()
    names = backbone.stage_names
    max_epochs = config["trainer"]["max_epochs"]
    phases = run_phases_of(strategy, backbone.has_parameters, max_epochs)
    is_full_batch = full_batch_optimizer(config) is not None
    plan = None
    reason = require_storable_if_wanted(config, backbone, data.augment, strategy)
    has_train = reason is None
    if reason is not None and may_leave_out_train and data.has_val and why_drawn_again(settings, data.augment):
        reason = why_not_cacheable(settings, config, None, frozen_depth(phases[0][1], names))
    if reason is None:
        reason = why_too_large(config, backbone, frozen_depth(phases[0][1], names), device)
    if reason is None and earlier is not None and earlier["precision"] is None and settings.cache != "on":
        reason = "the run didn't store them when it began."
    if reason is None:
        # Where training computes the frozen stages, the validation images' features are as exact as those.
        precisions = settings.precisions(is_head_only=has_train and trains_head_only(phases, backbone))
        if earlier is not None and earlier["precision"] in precisions:
            precisions = (earlier["precision"],)
        try:
            num_images = sum(data.sizes.values())
            frozen = FeatureCache(
                backbone, model_name(config), settings, precisions, device, progress, num_images=num_images
            )
        except (UnreadableSourceError, NoFolderError) as error:
            reason = str(error)
        else:
            parts = cut_phases(phases, names, max_epochs, start_epoch, frozen.costs)
            # A checkpoint within an epoch of many batches can't be resumed in an epoch that is one batch.
            was_one_batch = earlier is None or earlier.get("one_batch_per_epoch", False)
            is_whole = is_full_batch or (step_level_option(config) is None and was_one_batch)
            is_tested = config["trainer"].get("limit_test_batches") != 0
            plan = FeaturePlan(settings, data, frozen, parts, is_whole, is_full_batch, is_tested, has_train)
            if start_epoch and not plan.depths and cut_phases(phases, names, max_epochs, 0, frozen.costs)[0].depth:
                # No reason to refuse a run that has been accepted when it started.
                log.info("Features aren't stored: the epochs that are left train the stages that were stored before.")
                return None
            reason = _drawback(config, plan, is_decided=earlier is not None or is_filled)
    if reason is None:
        assert plan is not None, "nothing speaks against it"
        key = step_level_option(config)
        if not has_train:
            log.info("Features: of validation and test images only: %s", why_drawn_again(settings, data.augment))
        elif key is not None and any(part.depth == len(names) for part in plan.cuts):
            log.info("Features: the head takes its steps one by one, which is slower, because of %s.", key)
        return plan
    _require_not_wanted(settings, data.augment, reason, full_batch_optimizer(config))
    if is_filled:
        raise ConfigError("fill", f"a training with these settings stores no features: {reason}")
    if settings.cache == "auto":
        # Whoever trains the first stage hasn't asked for what frozen stages would allow.
        level = logging.INFO if frozen_depth(phases[0][1], names) else logging.DEBUG
        log.log(level, "Features aren't stored: %s", reason)
    return None


def require_storable_if_wanted(
    config: Config, backbone: Backbone, augment: Augment, strategy: FreezingStrategy
) -> str | None:
    """Returns why the features of a run can't be stored, None if they can, from its config and stages alone.

    Raises ConfigError instead if the user wants them stored, or an optimizer that works on them.
    """
    settings: FeatureSettings = factory(config["features"], "features")()
    phases = run_phases_of(strategy, backbone.has_parameters, config["trainer"]["max_epochs"])
    full_batch = full_batch_optimizer(config)
    if full_batch is not None:
        require_full_batch(config, backbone, augment, [factors for _, factors in phases])
    reason = why_not_cacheable(settings, config, augment, frozen_depth(phases[0][1], backbone.stage_names))
    if reason is not None:
        _require_not_wanted(settings, augment, reason, full_batch)
    return reason


def _drawback(config: Config, plan: FeaturePlan, *, is_decided: bool) -> str | None:
    """Returns why a plan isn't worthwhile, None if it is; chooses the precision that the store has already."""
    if not plan.depths:
        return "no cut below the frozen stages makes an epoch at least 1.3 times as fast."
    plan.frozen.prefer_stored(plan.first_views, plan.depths[-1])
    # What is trained on must not depend on what the store holds: views are stored whether or not that saves time.
    if is_decided or plan.is_required:
        return None
    views = {
        split: plan.views(split)
        for split in plan.images.sizes
        if split == "val" or (split, plan.has_train) == ("train", True)
    }
    return why_not_worthwhile(config, plan.frozen, plan.cuts, views)


def _require_not_wanted(settings: FeatureSettings, augment: Augment, reason: str, full_batch: str | None) -> None:
    """Raises ConfigError if the user wants what can't be stored."""
    if settings.cache == "on":
        raise ConfigError("features.cache", f"got 'on', but {reason}")
    if full_batch is not None:
        raise ConfigError("optimizer", f"{full_batch} works on stored features, but {reason}")
    if draws_views(settings, augment):
        raise ConfigError(
            "features.views", f"got {settings.views}, but {reason} features.views=0 draws again in each epoch."
        )


def run_phases_of(strategy: FreezingStrategy, stages: Stages, max_epochs: int) -> list[tuple[int, dict[str, float]]]:
    """Returns each phase's first epoch and its factors of the learning rate."""
    return [(phase.start_epoch, phase.factors) for phase in phases_of(strategy, stages, max_epochs)]


def model_name(config: Config) -> str:
    """Returns the name that people know the backbone by."""
    node = config["model"]
    return str(node.get("name") or node["_target_"].rpartition(".")[2])


def frozen_part(
    config: Config,
    settings: FeatureSettings,
    backbone: Backbone,
    strategy: FreezingStrategy,
    device: torch.device,
    progress: ProgressBar,
) -> tuple[FeatureCache, int] | str:
    """Returns the cache of the stages that no phase trains, and their number; or why there is none."""
    none = "the run trained every stage, or all that is worth storing."
    names, max_epochs = backbone.stage_names, config["trainer"]["max_epochs"]
    phases = run_phases_of(strategy, backbone.has_parameters, max_epochs)
    if not all(frozen_depth(factors, names) for _, factors in phases):
        return none
    precisions = settings.precisions(is_head_only=trains_head_only(phases, backbone))
    try:
        frozen = FeatureCache(backbone, model_name(config), settings, precisions, device, progress)
    except (UnreadableSourceError, NoFolderError) as error:
        return str(error)
    depth = cut_phases(phases, names, max_epochs, 0, frozen.costs)[-1].depth
    return (frozen, depth) if depth else none
