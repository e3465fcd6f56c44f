"""The config of an evaluation: the run's own, with what the command line says on top; and what else is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from regraft.cli.keys import keys_of
from regraft.config import compose
from regraft.config.compose import unknown
from regraft.evaluation.results import SPLITS
from regraft.runs.arguments import require_run
from regraft.runs.find import find_run
from regraft.runs.folder import find_checkpoint

_ONE_DEVICE = {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto"}


@dataclass(frozen=True)
class Asked:
    """What an evaluation is to measure.

    Attributes:
        split: `test` or `val`.
        calibrates: whether a temperature is fitted on validation, and kept.
        is_robustness: whether pictures are corrupted.
        baseline: the checkpoint whose errors normalise those on corrupted pictures; None for none.
        shift: a folder of another domain; None for none.
    """

    split: str
    calibrates: bool
    is_robustness: bool
    baseline: Path | None
    shift: str | None


def asked(composed: DictConfig) -> Asked:
    """Returns what is asked for.

    Raises:
        FileNotFoundError: there is no such baseline, or folder.
        ValueError: a value is none of those that are allowed.
    """
    if OmegaConf.is_missing(composed, "ckpt_path"):
        require_run([])
    known = keys_of("eval")
    for key in composed:  # Hydra lets a + add anything
        if key not in (*known, "hydra"):
            raise ValueError(f"eval: {unknown('key', str(key), known)}")
    if composed.split not in SPLITS:
        raise ValueError(f"split: {unknown('split', str(composed.split), SPLITS)}")
    for key, allowed in (("calibrate", "temperature"), ("robustness", "corruptions")):
        if composed[key] not in (None, allowed):
            raise ValueError(f"{key}: got {composed[key]!r}; allowed: {allowed}, null.")
    if composed.baseline is not None and composed.robustness is None:
        raise ValueError(
            "baseline: it normalises errors on corrupted pictures, so it needs robustness=corruptions; or leave it out."
        )
    if composed["shift"] is not None and not Path(str(composed["shift"])).expanduser().is_dir():
        raise FileNotFoundError(
            f"shift: there is no folder {composed['shift']}. Fix: shift=PATH, a folder with a subfolder for each class."
        )
    return Asked(
        split=composed.split,
        calibrates=composed.calibrate is not None,
        is_robustness=composed.robustness is not None,
        baseline=None if composed.baseline is None else _baseline(str(composed.baseline), composed.output_dir),
        shift=None if composed["shift"] is None else str(composed["shift"]),
    )


def with_overrides(config: dict[str, Any], composed: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the run's config with what the command line says on top, on one device of whatever kind there is.

    Data that was chosen as a whole (`data=folder`) takes the run's place; single keys are merged into it.

    Raises:
        ValueError: an unknown key, or several devices.
    """
    config = {**config, "trainer": config["trainer"] | _ONE_DEVICE}
    for section in ("data", "trainer", "features"):
        node = composed.get(section)
        if node is None:
            continue
        given = OmegaConf.to_container(node)
        assert isinstance(given, dict)
        is_whole = "_target_" in given and section == "data"
        config[section] = given if is_whole else _merged(config.get(section, {}), given, section)
    if any(config["trainer"][key] != _ONE_DEVICE[key] for key in ("devices", "num_nodes", "strategy")):
        raise ValueError("trainer.devices: an evaluation runs on one device, so that each image counts once.")
    return compose.plain(OmegaConf.create(config), overrides)


def _merged(section: dict[str, Any], given: dict[Any, Any], name: str) -> dict[str, Any]:
    for key in given:
        if key not in section:
            raise ValueError(f"{name}.{key}: {unknown('key', str(key), list(section))}")
    return section | {str(key): value for key, value in given.items()}


def _baseline(handle: str, output_dir: str) -> Path:
    if Path(handle).expanduser().is_file():
        return find_checkpoint(handle, prefer="best", key="baseline")
    try:
        return find_checkpoint(find_run(handle, output_dir).path, prefer="best")
    except (FileNotFoundError, ValueError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"baseline{str(error).removeprefix('run')}") from error
