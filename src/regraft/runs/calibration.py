"""calibration.json: the temperature fitted to a run's best checkpoint."""

import hashlib
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from regraft.core.atomic import read_json, write_json
from regraft.core.errors import ConfigError
from regraft.runs.folder import Run

log = logging.getLogger(__name__)
CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """A temperature, the checkpoint that it belongs to, and the split that it was fitted on.

    Attributes:
        temperature: divisor of the logits before the softmax, above 0.
        checkpoint: the file's name.
        sha256: the checkpoint's checksum, hex: the temperature is valid for these weights only.
        log_loss_before: nats, without the temperature.
    """

    temperature: float
    checkpoint: str
    sha256: str
    split: str
    num_images: int
    log_loss_before: float
    log_loss_after: float


def write(run: Run, calibration: Calibration) -> None:
    """Writes a calibration into a run's folder, replacing an earlier one."""
    write_json(run.path / CALIBRATION, asdict(calibration))


def temperature_of(run: Run | None, checkpoint: Path) -> float:
    """Returns the temperature of a run's checkpoint; 1 if none was fitted, or, with a warning, for other weights."""
    path = None if run is None else run.path / CALIBRATION
    if path is None or not path.is_file():
        return 1.0
    try:
        kept = read_json(path)
        temperature, kept_checksum = float(kept["temperature"]), kept["sha256"]
        is_sound = 0 < temperature < math.inf
    except (ValueError, TypeError, KeyError):
        is_sound = False
    if not is_sound:
        fix = "Remove it, or fit it again: regraft eval run=... calibrate=temperature"
        raise ConfigError(None, f"{path} is damaged", fix=fix)
    if kept_checksum != checksum(checkpoint):
        log.warning(
            "%s was fitted for other weights than those of %s, so it isn't used. To fit it again: regraft eval "
            "run=... calibrate=temperature",
            *(path, checkpoint.name),
        )
        return 1.0
    return temperature


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
