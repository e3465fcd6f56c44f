"""Whether the decoded images of a run are stored, and which splits read stored ones."""

import logging
import math
from typing import Any

from regraft.config.instantiate import Config, factory
from regraft.core.console import ProgressBar
from regraft.core.errors import ConfigError
from regraft.features.image_cache import ImageCache
from regraft.features.store.store import NoFolderError
from regraft.training.caching.feature_plan import FeaturePlan
from regraft.training.caching.feature_policy import limit_of

log = logging.getLogger(__name__)


def store_pixels(
    config: Config, images: Any, plan: FeaturePlan | None, start_epoch: int, progress: ProgressBar
) -> None:
    """Has a training's images read from the store, where that is worthwhile; what the store lacks is decoded first.

    A run's numbers don't depend on it: what is stored is what would be decoded, bit for bit.

    Args:
        plan: what of the run is stored deeper in the backbone; None if nothing is.

    Raises:
        ConfigError: `data.cache=on` can't be done, or an image can't be decoded.
    """
    is_required = images.cache == "on"
    if images.inputs.decoded("train") is None:
        if is_required:
            raise ConfigError(
                "data.cache", "got 'on', but this data set's images are in memory, decoded. Leave it out."
            )
        return
    if images.cache == "off":
        return
    reason = None if is_required else _drawback(config, plan, start_epoch)
    if reason is not None:
        log.debug("Decoded images aren't stored: %s", reason)
        read_stored_pixels(config, images, list(images.sizes), progress)
        return
    try:
        store = ImageCache(factory(config["features"], "features")(), progress)
        _fill(store, images)
    except (OSError, NoFolderError) as error:
        if is_required:
            raise ConfigError("data.cache", f"{error}") from error
        log.warning("Decoded images aren't stored: %s They are decoded again in each epoch.", error)


def read_stored_pixels(config: Config, images: Any, splits: list[str], progress: ProgressBar) -> None:
    """Has those splits read from the store that it holds completely; nothing is decoded."""
    if images.cache == "off" or images.inputs.decoded("train") is None:
        return
    try:
        store = ImageCache(factory(config["features"], "features")(), progress)
        for split in splits:
            view = images.inputs.decoded(split)
            stored = store.find(view)
            if stored is not None:
                images.inputs.use_stored(split, view.stored(stored))
    except (OSError, NoFolderError) as error:
        log.info("Stored images aren't read: %s", error)


def _fill(store: ImageCache, images: Any) -> None:
    num_decoded, num_images, seconds = 0, 0, 0.0
    for split in images.sizes:
        view = images.inputs.decoded(split)
        stored, filled = store.decode_missing(view)
        images.inputs.use_stored(split, view.stored(stored))
        num_decoded += filled.num_computed
        num_images += filled.num_images
        seconds += filled.seconds
    rate = f" ({seconds:.1f} s, {num_decoded / seconds:.0f} images/s)" if num_decoded else ""
    log.info(
        "Images: %s decoded%s, %s read from the store; kept in %s.",
        f"{num_decoded:,}",
        rate,
        f"{num_images - num_decoded:,}",
        store.folder,
    )


def _drawback(config: Config, plan: FeaturePlan | None, start_epoch: int) -> str | None:
    """Returns why storing isn't worthwhile, None if it is."""
    limit = limit_of(config["trainer"])
    if limit is not None:
        return f"with trainer.{limit} a run looks at some of the images only; data.cache=on stores all of them."
    if plan is None or not plan.has_train:
        max_epochs = config["trainer"]["max_epochs"]
        num_epochs = math.inf if max_epochs < 0 else max_epochs - start_epoch
    else:
        num_epochs = sum(part.num_epochs for part in plan.cuts if not part.depth)
    if num_epochs < 2:
        return "fewer than two epochs read them; data.cache=on stores them all the same."
    return None
