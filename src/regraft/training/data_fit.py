"""Whether a config and its data go together: said once the data's listing is read, before an image is decoded."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from regraft.config.errors import FaultsError, sentences_of
from regraft.config.instantiate import Config
from regraft.config.nested import at
from regraft.config.repair import Mending
from regraft.core.errors import ConfigError
from regraft.core.types import Backbone
from regraft.data.from_config import build_unread_datamodule
from regraft.runs.checkpoint import Checkpoint
from regraft.training.build_preflight import Checked, preflight
from regraft.training.from_config import build_loss, build_optimizer
from regraft.training.preflight import build_scheduler, watch_faults, weightless_head

_LIMITS = ("limit_train_batches", "fast_dev_run", "val_check_interval")


def require_sound(
    config: Config,
    folder: Path,
    continued: Checkpoint | None,
    reference: Callable[[], Config] | None,
) -> Checked:
    """Returns what checking a config has made; see `preflight`.

    Raises:
        FaultsError: all that is wrong with it, and where its data is at hand, with that too.
    """
    checked = preflight(config, folder, continued=continued, reference=reference)
    if checked.faults:
        raise FaultsError([*checked.faults, *data_faults(checked)[0]])
    return checked


def data_faults(checked: Checked) -> tuple[list[str], Any]:
    """Returns what is wrong with a config's data, and the data; None if it is to be downloaded or can't be read.

    No image is decoded.
    """
    config, body = checked.config, checked.backbone
    if body is None or not checked.is_data_made:
        return [], None
    try:
        data = build_unread_datamodule(config, body.input_spec)
        if not data.is_here:
            return [], None
        data.prepare_data()
        data.setup("fit")
        if checked.rows is not None:
            require_fitting_data(config, data, body, checked)
    except (ValueError, OSError) as error:
        return sentences_of(error), None
    return [], data


def require_fitting_data(config: Config, data: Any, body: Backbone, checked: Checked | None) -> None:
    """Checks a config against the prepared datamodule.

    Args:
        config: the resolved config.
        data: the prepared datamodule.
        body: the backbone.
        checked: the config's check; None for a run that has been accepted before.

    Raises:
        FaultsError: they don't go together.
    """
    mending = Mending(config, None, set())
    watch_faults(mending, data.num_classes, has_val=data.has_val)
    mending.attempt("loss", lambda: build_loss(config, data.class_counts.tolist()))
    if checked is not None:
        mending.attempt("data", lambda: _require_filled_batch(config, data, checked))
    mending.attempt("trainer", lambda: _require_reached_validation(config, data))
    mending.attempt("scheduler", lambda: _try_schedule(config, data, body))
    if mending.faults:
        raise FaultsError(mending.faults)


def steps_per_epoch(config: Config, num_images: int) -> int:
    """Returns the optimizer's steps of an epoch on one process, limits left out."""
    batches = math.ceil(num_images / config["data"]["batch_size"])
    return math.ceil(batches / config["trainer"]["accumulate_grad_batches"])


def _require_filled_batch(config: Config, data: Any, checked: Checked) -> None:
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


def _try_schedule(config: Config, data: Any, body: Backbone) -> None:
    """Makes the schedule with the number of steps that it will have, where one process takes all of them."""
    trainer = config["trainer"]
    if any(trainer.get(key) for key in _LIMITS) or not _is_single(trainer):
        return
    steps = steps_per_epoch(config, data.num_train_samples)
    lengths = [trainer["max_steps"], trainer["max_epochs"] * steps]
    total = min((length for length in lengths if length >= 0), default=math.inf)
    build_scheduler(
        config,
        build_optimizer(config, body, weightless_head(config, body.num_features, data.num_classes)),
        steps,
        total,
    )
