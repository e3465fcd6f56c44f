"""The temperature that was fitted to a run's best checkpoint, as its folder keeps it."""

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from regraft.core.atomic import write_atomically
from regraft.runs.folder import Run

log = logging.getLogger(__name__)

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """What was fitted, and for which checkpoint.

    Attributes:
        temperature: that logits are divided by before they are probabilities, above 0.
        checkpoint: the file's name in the run's folder.
        sha256: the file's checksum, hex: with other weights the temperature means nothing.
        split: what it was fitted on.
        num_images: how many images that has.
        log_loss_before: on them, nats.
        log_loss_after: on them, nats.
    """

    temperature: float
    checkpoint: str
    sha256: str
    split: str
    num_images: int
    log_loss_before: float
    log_loss_after: float


def write(run: Run, calibration: Calibration) -> None:
    """Keeps a calibration in a run's folder, in the place of an earlier one."""
    write_atomically(run.path / CALIBRATION, (json.dumps(asdict(calibration), indent=2) + "\n").encode())


def temperature_of(run: Run | None, checkpoint: Path) -> float:
    """Returns what a checkpoint's logits are divided by before they are probabilities.

    1 if none was fitted, or, which the log says, if it was fitted for other weights than the checkpoint's.

    Args:
        run: that the checkpoint lies in; None for one that stands alone.
        checkpoint: the file.

    Raises:
        ValueError: the run's calibration is damaged.
    """
    path = None if run is None else run.path / CALIBRATION
    if path is None or not path.is_file():
        return 1.0
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        temperature, kept_checksum = float(kept["temperature"]), kept["sha256"]
        is_sound = 0 < temperature < math.inf
    except (ValueError, TypeError, KeyError, RecursionError):
        is_sound = False
    if not is_sound:
        raise ValueError(f"{path} is damaged. Remove it, or fit it anew: regraft eval run=... calibrate=temperature")
    if kept_checksum != checksum(checkpoint):
        log.warning(
            "%s was fitted for other weights than those of %s, so it isn't used; regraft eval run=... "
            "calibrate=temperature fits it anew.",
            *(path, checkpoint.name),
        )
        return 1.0
    return temperature


def checksum(path: Path) -> str:
    """Returns a file's SHA-256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
