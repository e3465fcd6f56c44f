"""What a checkpoint says of its run, and what it may name.

A checkpoint can come from a stranger: it is read without running code, and the classes that its config names are built
only if they are this project's, or those of modules that the user trusts on the command line.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from regraft.backbones.weights import load_safely
from regraft.contracts import InputSpec

_NEEDED = ("config", "architecture", "input_spec", "class_names", "class_counts", "fingerprint")
_KNOWN_MODULES = ("regraft.", "torch.optim.", "pytorch_lightning.callbacks.", "pytorch_lightning.loggers.")
_KNOWN_TARGETS = ("pytorch_lightning.Trainer",)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a run of ours.

    Attributes:
        path: the file.
        content: what Lightning wrote: `state_dict`, `global_step` and the rest.
        config: the run's resolved config.
        architecture: the config that builds its backbone without weights.
        input_spec: what the backbone is fed, mean and std included.
        class_names: by class index.
        class_counts: training images of each class, which balanced losses weigh by.
        fingerprint: of the data.
    """

    path: Path
    content: dict[str, Any]
    config: dict[str, Any]
    architecture: dict[str, Any]
    input_spec: InputSpec
    class_names: list[str]
    class_counts: list[int]
    fingerprint: str


def read(path: Path, trust: Sequence[str]) -> Checkpoint:
    """Returns what the file holds.

    Args:
        path: a Lightning checkpoint that a run of ours wrote.
        trust: further modules whose classes its config may name.

    Raises:
        ValueError: not a checkpoint of ours, one that would run code, or one that names a class of another module.
    """
    content = load_safely(path)
    record = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    missing = [key for key in _NEEDED if key not in record]
    if missing:
        raise ValueError(f"ckpt_path: {path} is not a checkpoint of Regraft; it lacks {', '.join(missing)}.")
    require_known_targets([record["config"], record["architecture"]], trust, str(path))
    return Checkpoint(
        path=path,
        content=content,
        config=record["config"],
        architecture=record["architecture"],
        input_spec=InputSpec.from_dict(record["input_spec"]),
        class_names=list(record["class_names"]),
        class_counts=list(record["class_counts"]),
        fingerprint=record["fingerprint"],
    )


def require_known_targets(node: Any, trust: Sequence[str], source: str) -> None:
    """Checks every `_target_` in a config that came out of a file.

    Raises:
        ValueError: a target is neither ours, nor one that our own configs use, nor trusted.
    """
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not _is_known(str(target), trust):
            raise ValueError(
                f"{source} names {target!r}, which isn't Regraft's. If you trust it, add trust=[{target}]."
            )
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            require_known_targets(part, trust, source)


def _is_known(target: str, trust: Sequence[str]) -> bool:
    if any(f"{target}.".startswith(f"{name}.") for name in trust):
        return True
    if not (target in _KNOWN_TARGETS or target.startswith(_KNOWN_MODULES)):
        return False
    from hydra.utils import get_object

    # A path into our modules can lead out again, through what they import: regraft.x.subprocess.run.
    home = getattr(get_object(target), "__module__", None) or ""
    return home.startswith(("regraft.", "torch.optim.", "pytorch_lightning."))


class LastCheckpoint(ModelCheckpoint):
    """Keeps the last epoch, and while the run goes on leaves out epochs that are over before a save has paid.

    Where only a head trains, on stored features, an epoch takes less time than a checkpoint.

    Args:
        dirpath: where the file goes.
        filename: without its ending.
        max_share: of the time that saving may take, in (0, 1]; 1 saves each epoch. The last epoch is always saved; with
            several processes, each one is.

    Raises:
        ValueError: `max_share` is out of range.
    """

    def __init__(self, *, dirpath: str | Path | None = None, filename: str, max_share: float) -> None:
        if not 0 < max_share <= 1:
            raise ValueError(f"callbacks.last.max_share: got {max_share}; allowed: above 0, at most 1 (each epoch).")
        super().__init__(dirpath, filename, save_on_train_epoch_end=True, enable_version_counter=False)
        self._max_share = max_share
        self._next_save = 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the epoch, if it is the last one or if the time has come."""
        started = time.perf_counter()
        if started < self._next_save and trainer.world_size == 1 and not _is_last_epoch(trainer):
            return
        super().on_train_epoch_end(trainer, pl_module)
        ended = time.perf_counter()
        self._next_save = ended + (ended - started) * (1 / self._max_share - 1)


def _is_last_epoch(trainer: pl.Trainer) -> bool:
    has_all_epochs = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch + 1
    return trainer.should_stop or has_all_epochs or 0 <= trainer.max_steps <= trainer.global_step


class InItsFolder(pl.Callback):
    """Makes a run that goes on in its own folder find its best checkpoint there, also if the folder was moved.

    Lightning forgets which epoch was best when the folder's path has changed.
    """

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Rewrites the folder in the checkpoint callbacks' states before Lightning hands them out."""
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            if not isinstance(callback, ModelCheckpoint) or state is None:
                continue
            folder = str(callback.dirpath)
            for key in ("best_model_path", "last_model_path", "kth_best_model_path"):
                state[key] = _moved(state[key], folder)
            state["best_k_models"] = {_moved(path, folder): score for path, score in state["best_k_models"].items()}
            state["dirpath"] = folder


def _moved(path: str, folder: str) -> str:
    return str(Path(folder, Path(path).name)) if path else path
