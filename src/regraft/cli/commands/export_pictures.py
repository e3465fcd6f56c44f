"""Which images an exported file is checked on."""

import logging
from pathlib import Path

from regraft.data.from_config import build_unread_datamodule
from regraft.deployment.classifier import Classifier
from regraft.deployment.export import sample_images
from regraft.deployment.export.sample_images import Pictures
from regraft.runs.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def pictures_of(checkpoint: Checkpoint, model: Classifier, folder: Path | None) -> Pictures:
    """Returns the images of a folder, else the run's own of test or validation, else generated ones, which it says.

    Args:
        checkpoint: the run's.
        model: that it holds.
        folder: of images; None for the run's own.

    Raises:
        ValueError: the folder holds no image.
    """
    num_channels, side = model.input_spec.num_channels, model.least_side
    if folder is not None:
        return sample_images.of_folder(folder, model.class_names, num_channels, side)
    try:
        data = build_unread_datamodule(checkpoint.config, checkpoint.input_spec, checkpoint)
        if not data.is_here:
            raise FileNotFoundError("it would have to be downloaded")
        data.prepare_data()
        data.setup()
        split = next((name for name in ("test", "val") if name in data.sizes), None)
        if split is None:
            raise ValueError("it has neither test nor validation images")
    except (OSError, ValueError) as error:
        log.warning(
            "The run's own data can't be used (%s), so the file is checked on generated images, made to look like "
            "photos; images=FOLDER checks it on yours.",
            str(error).rstrip("."),
        )
        return sample_images.made(num_channels)
    return sample_images.of_split(split, data.part(split), num_channels, side)
