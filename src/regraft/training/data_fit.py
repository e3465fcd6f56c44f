"""Whether a config and its data go together: said once the data's listing is read, before an image is decoded."""

import math
from typing import Any

from regraft.config.collector import ErrorCollector
from regraft.config.instantiate import Config
from regraft.config.nested import at
from regraft.core.errors import ConfigError, ConfigErrors, errors_in
from regraft.core.types import Backbone
from regraft.data.from_config import prepare
from regraft.training.build_preflight import PreflightResult
from regraft.training.from_config import build_loss
from regraft.training.preflight import build_scheduler, check_watchers, trial_optimizer, weightless_head

_LIMITS = ("limit_train_batches", "fast_dev_run", "val_check_interval")


def data_errors(checked: PreflightResult) -> tuple[list[ConfigError], Any]:
    """Returns what is wrong with a config's data, and the data; None if it is to be downloaded or can't be read.

    No image is decoded.
    """
    config, body = checked.config, checked.backbone
    data = checked.data
    if body is None or data is None:
        return [], None
    try:
        if not data.is_here:
            return [], None
        prepare(data)
        if checked.rows is not None:
            require_fitting_data(config, data, body, checked)
    except (ValueError, OSError) as error:
        return errors_in(error), None
    return [], data


def require_fitting_data(config: Config, data: Any, body: Backbone, checked: PreflightResult | None) -> None:
    """Checks a config against the prepared datamodule.

    Args:
        config: the resolved config.
        data: the prepared datamodule.
        body: the backbone.
        checked: the config's check; None for a run that has been accepted before.

    Raises:
        ConfigErrors: they don't go together.
    """
    collector = ErrorCollector(config, None, set())
    trial = None if checked is None else checked.trial_optimizer
    if trial is None:
        trial = trial_optimizer(config, body, weightless_head(config, body.num_features, data.num_classes))
    check_watchers(collector, data.num_classes, has_val=data.has_val)
    collector.try_build("loss", lambda: build_loss(config, data.class_counts.tolist()))
    if checked is not None:
        collector.try_build("data", lambda: _require_filled_batch(config, data, checked))
    collector.try_build("trainer", lambda: _require_reached_validation(config, data))
    collector.try_build("scheduler", lambda: _try_schedule(config, data, trial))
    if collector.errors:
        raise ConfigErrors(collector.errors)


def steps_per_epoch(config: Config, num_images: int) -> int:
    """Returns the optimizer's steps of an epoch on one process, limits left out."""
    batches = math.ceil(num_images / config["data"]["batch_size"])
    return math.ceil(batches / config["trainer"]["accumulate_grad_batches"])


def _require_filled_batch(config: Config, data: Any, checked: PreflightResult) -> None:
    """Checks that a batch that was asked for can be had; the usual one takes what there is, be it a few shots."""
    got = config["data"]["batch_size"]
    if got <= data.num_train_samples or checked.reference is None:
        return
    if at(checked.reference(), "data.batch_size") != got:
        raise ConfigError(
            "data.batch_size",
            f"got {got}, but there are {data.num_train_samples} training images; allowed: at most as "
            f"many. Use data.batch_size={data.num_train_samples} or less, or more images.",
        )


def _require_reached_validation(config: Config, data: Any) -> None:
    """Checks that a validation after some batches comes before the epoch's end, where one process takes all of them."""
    trainer = config["trainer"]
    interval = trainer.get("val_check_interval")
    if not isinstance(interval, int) or trainer.get("check_val_every_n_epoch") is None or not _is_single(trainer):
        return
    num_batches = math.ceil(data.num_train_samples / config["data"]["batch_size"])
    if interval > num_batches:
        raise ConfigError(
            "trainer.val_check_interval",
            f"got {interval}, but an epoch has {num_batches} batches; allowed: 1 to "
            f"{num_batches}, or a share of an epoch, such as 0.5.",
        )


def _is_single(trainer: Config) -> bool:
    return str(trainer["devices"]) in ("1", "auto")


def _try_schedule(config: Config, data: Any, trial: Any) -> None:
    """Makes the schedule with the number of steps that it will have, where one process takes all of them."""
    trainer = config["trainer"]
    if any(trainer.get(key) for key in _LIMITS) or not _is_single(trainer):
        return
    steps = steps_per_epoch(config, data.num_train_samples)
    lengths = [trainer["max_steps"], trainer["max_epochs"] * steps]
    total = min((length for length in lengths if length >= 0), default=math.inf)
    build_scheduler(config, trial, steps, total)
