"""Batch size and number of epochs by the number of training images, where a config leaves them open (`auto`)."""

import math

from regraft.config.instantiate import Config, target_of
from regraft.data.sampler import num_train_batches
from regraft.models.freezing import LinearProbe
from regraft.training.closed_form.policy import is_closed_form

OPEN = "auto"
_KEYS = (("data", "batch_size"), ("trainer", "max_epochs"))
_FEW_IMAGES = 2000
_BATCH_SIZE, _OF_FEW, _OF_FEW_FOR_A_HEAD = 64, 16, 32
_NUM_EPOCHS = 10
_STEPS_OF_A_HEAD = 300
"""At least as many for a head alone, whose steps cost little."""


def open_keys(config: Config) -> list[tuple[str, str]]:
    """Returns section and name of each key that the number of training images decides."""
    return [(section, key) for section, key in _KEYS if config[section].get(key) == OPEN]


def settled(config: Config, num_images: int | None) -> Config:
    """Returns a config with numbers in the place of `auto`.

    Args:
        num_images: for training; None as long as it isn't known, for numbers that do until then.
    """
    found = {section: dict(config[section]) for section, _ in _KEYS}
    is_known = num_images is not None and not is_closed_form(config)
    if found["data"].get("batch_size") == OPEN:
        found["data"]["batch_size"] = _batch_size(config, num_images or 1) if is_known else _BATCH_SIZE
    if found["trainer"].get("max_epochs") == OPEN:
        found["trainer"]["max_epochs"] = _NUM_EPOCHS
        if is_known and _is_head_alone(config):
            batches = max(1, num_train_batches(num_images or 1, found["data"]["batch_size"]))
            accumulated = found["trainer"].get("accumulate_grad_batches")
            steps = math.ceil(batches / accumulated) if isinstance(accumulated, int) and accumulated > 1 else batches
            found["trainer"]["max_epochs"] = max(_NUM_EPOCHS, math.ceil(_STEPS_OF_A_HEAD / steps))
    return config | found


def _batch_size(config: Config, num_images: int) -> int:
    few = _OF_FEW_FOR_A_HEAD if _is_head_alone(config) else _OF_FEW
    return min(num_images, few if num_images <= _FEW_IMAGES else _BATCH_SIZE)


def _is_head_alone(config: Config) -> bool:
    return target_of(config["freezing"], "freezing") is LinearProbe
