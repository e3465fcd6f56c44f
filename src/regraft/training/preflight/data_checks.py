"""Whether a config fits its data: checked once the data's listing is read, before an image is decoded."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

from regraft.config.collector import ErrorCollector
from regraft.config.instantiate import Config
from regraft.config.nested import at
from regraft.core.errors import ConfigError, ConfigErrors, errors_in, require
from regraft.core.types import BATCH_NORMS
from regraft.data.from_config import prepare
from regraft.data.sampler import num_train_batches, too_few
from regraft.models.dry_run import dry_outputs
from regraft.models.freezing import keeps_statistics
from regraft.tasks import Task
from regraft.training.caching.feature_policy import full_batch_optimizer
from regraft.training.closed_form.policy import is_closed_form
from regraft.training.fit.multi_process import needs_processes, num_processes
from regraft.training.from_config import build_loss
from regraft.training.preflight.check import Preflight, build_schedule
from regraft.training.preflight.trainer_check import check_watchers

_MOST_STEPS_SHOWN = 100_000
_LIMITS = ("limit_train_batches", "fast_dev_run", "val_check_interval")


def data_errors(checked: Preflight) -> list[ConfigError]:
    """Reads the data's listing and returns what is wrong with it; no image is decoded, nothing is downloaded."""
    try:
        if checked.backbone is not None and checked.data is not None and checked.data.is_here:
            prepare(checked.data)
            if checked.rows is not None:
                require_suitable_data(checked)
    except (ValueError, OSError) as error:
        return errors_in(error)
    return []


def require_suitable_data(checked: Preflight) -> None:
    """Raises ConfigErrors if a config doesn't fit its data, which has been prepared."""
    config, data = checked.config, checked.data
    collector = ErrorCollector(config, None, set(checked.blocked))
    if data.task.name != config["task"]["name"]:
        fix = f"Use task={data.task.name}."
        raise ConfigError("task", f"the data is of task={data.task.name}", got=config["task"]["name"], fix=fix)
    check_watchers(collector, data.num_classes, has_val=data.has_val or is_closed_form(config))
    collector.try_build("loss", lambda: build_loss(config, data.target_summary))
    collector.try_build("augment", lambda: _require_mixable(config, data.task))
    collector.try_build("data", lambda: _require_filled_batch(checked))
    collector.try_build("data", lambda: _require_enough(config, data.sizes))
    collector.try_build("data", lambda: _require_varied_batches(checked))
    collector.try_build("trainer", lambda: _require_reached_validation(config, data))
    collector.try_build("trainer", lambda: require_batch_shares(config, data.sizes))
    collector.try_build("scheduler", lambda: _try_schedule(checked))
    if collector.errors:
        raise ConfigErrors(collector.errors)


def steps_per_epoch(config: Config, num_images: int) -> int:
    """Returns the number of optimizer steps in an epoch, without limits."""
    return math.ceil(_batches_per_epoch(config, num_images) / config["trainer"]["accumulate_grad_batches"])


def left_out(config: Config, num_images: int, noun: str) -> str | None:
    """Returns a sentence on the training inputs that each epoch leaves out; None if there are none."""
    if full_batch_optimizer(config) is not None:
        return None
    size = config["data"]["batch_size"] * num_processes(config["trainer"])
    if _batches_per_epoch(config, num_images) * size >= num_images:
        return None
    return (
        f"1 training {noun} is left out of each epoch, another one each time: the last batch would have no other, and "
        f"BatchNorm can't train on a single {noun}."
    )


def _batches_per_epoch(config: Config, num_images: int) -> int:
    if full_batch_optimizer(config) is not None:
        return 1
    return max(1, num_train_batches(num_images, config["data"]["batch_size"] * num_processes(config["trainer"])))


def _require_mixable(config: Config, task: Task) -> None:
    """Raises ConfigError if pasting a part of another image, CutMix, makes no sense of the targets."""
    alpha = config["augment"].get("cutmix_alpha", 0)
    if alpha and not task.has_confidences:
        fix = "Use augment.mixup_alpha, or leave it out."
        raise ConfigError("augment.cutmix_alpha", f"task={task.name} has numbers as targets", got=alpha, fix=fix)


def _require_filled_batch(checked: Preflight) -> None:
    got, num_images = checked.config["data"]["batch_size"], checked.data.sizes["train"]
    nouns = checked.data.input_spec.nouns
    # Only the default size may be larger than the data.
    if got <= num_images or checked.reference is None or at(checked.reference(), "data.batch_size") == got:
        return
    raise ConfigError(
        "data.batch_size",
        f"there are {num_images} training {nouns}",
        got=got,
        allowed="at most as many",
        fix=f"Use data.batch_size={num_images} or less, or more {nouns}.",
    )


def _require_enough(config: Config, sizes: Mapping[str, int]) -> None:
    """Raises ConfigError if a split has fewer samples than there are processes."""
    number = num_processes(config["trainer"])
    for split, num_samples in sizes.items():
        if num_samples < number:
            raise too_few({"train": "training", "val": "validation"}.get(split, split), num_samples, number)


def _require_reached_validation(config: Config, data: Any) -> None:
    trainer = config["trainer"]
    interval = trainer.get("val_check_interval")
    if not isinstance(interval, int) or trainer.get("check_val_every_n_epoch") is None or needs_processes(trainer):
        return
    num_batches = _batches_per_epoch(config, data.sizes["train"])
    allowed = f"at most {num_batches}, the batches of an epoch, or a share of it, such as 0.5"
    require(interval <= num_batches, "trainer.val_check_interval", interval, allowed)


def require_batch_shares(config: Config, sizes: Mapping[str, int]) -> None:
    """Raises ConfigError if a share of the batches to use, `trainer.limit_*_batches`, is less than one of them.

    Args:
        sizes: number of images of each split.
    """
    for split, num_images in sizes.items():
        key = f"limit_{split}_batches"
        share = config["trainer"].get(key)
        num_batches = math.ceil(num_images / config["data"]["batch_size"])
        if isinstance(share, float) and 0 < share * num_batches < 1:
            allowed = f"a number of batches, or at least {1 / num_batches:.2g} of {num_batches}"
            require(False, f"trainer.{key}", share, allowed)


def _require_varied_batches(checked: Preflight) -> None:
    """Raises ConfigError if a trained BatchNorm would see a single value of each channel, which has no variance."""
    config, backbone = checked.config, checked.backbone
    num_images = min(config["data"]["batch_size"], checked.data.sizes["train"])
    if num_images > 1 or is_closed_form(config) or checked.strategy is None or keeps_statistics(checked.strategy):
        return
    assert checked.rows is not None, "the optimizer is built before data is checked"
    assert backbone is not None, "the backbone is built before data is checked"
    trained = {row.stage for row in checked.rows if row.lr_by_epoch} & set(backbone.stage_names)
    norms = [each for name in trained for each in backbone.stages[name].modules() if isinstance(each, BATCH_NORMS)]
    if any(output[0, 0].numel() == 1 for _, output in dry_outputs(backbone, norms, 1)):
        raise ConfigError(
            "data.batch_size",
            "BatchNorm of a trained stage sees one value of each channel in a batch of one image",
            got=config["data"]["batch_size"],
            fix="Use a larger batch, or a larger model.image_size.",
        )


def _try_schedule(checked: Preflight) -> None:
    """Builds the schedule with the number of steps that it will have, where that is known."""
    lengths = _lengths(checked)
    if lengths is not None:
        build_schedule(checked, *lengths)


def _lengths(checked: Preflight) -> tuple[int, float] | None:
    """Returns the steps of an epoch, and those of the run, inf for no limit; None where they aren't known."""
    trainer = checked.config["trainer"]
    if any(trainer.get(key) for key in _LIMITS) or needs_processes(trainer):
        return None
    steps = steps_per_epoch(checked.config, checked.data.sizes["train"])
    limits = [trainer["max_steps"], trainer["max_epochs"] * steps]
    return steps, min((limit for limit in limits if limit >= 0), default=math.inf)


def schedule_text(checked: Preflight) -> str | None:
    """Returns the learning rate over the run in a sentence; None if it isn't known before, or there is none.

    The optimizer of the check is stepped through the whole run, unless that is very long.
    """
    lengths = _lengths(checked)
    if lengths is None or lengths[1] > _MOST_STEPS_SHOWN or is_closed_form(checked.config):
        return None
    steps, total = lengths[0], int(lengths[1])
    made = build_schedule(checked, steps, total)
    if "lr" not in checked.config["optimizer"] or "monitor" in made:
        return None
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the schedule is stepped without its optimizer
        for step in range(1, total + 1):
            rates.append(checked.optimizer.param_groups[0]["lr"])
            if made["interval"] == "step" or step % steps == 0:
                made["scheduler"].step()
    if len(set(rates)) == 1:
        return f"learning rate: {rates[0]:.3g} throughout"
    places = {"at first": 0, "at a quarter": total // 4, "at half": total // 2, "at three quarters": 3 * total // 4}
    shown = [f"{rates[place]:.3g} {words}" for words, place in places.items()]
    return f"learning rate, after each {made['interval']}: {', '.join(shown)}, {rates[-1]:.3g} in the last step"
