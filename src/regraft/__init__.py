"""Regraft: new heads on pretrained backbones, composed by Hydra, run by Lightning.

The functions do what the commands of the same names do. The classes are what a training is made of, for scripts of your
own; they are imported when they are first used, because torch takes seconds.
"""

import importlib
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from regraft.core.types import Backbone, InputSpec
    from regraft.data.datamodule import DataModule
    from regraft.data.images.samples import ArrayImages, FileImages
    from regraft.data.images.transforms.augment import Augment
    from regraft.data.sources.base import Source, Splits
    from regraft.deployment.classifier import Classifier
    from regraft.evaluation.compare.leaderboard import Leaderboard
    from regraft.models.freezing import (
        LPFT,
        FreezingStrategy,
        Gradual,
        LastStages,
        Layerwise,
        LinearProbe,
        NoFreezing,
        TrainingPoint,
        UpTo,
    )
    from regraft.runs.folder import Run
    from regraft.training.callbacks.freezing import FreezingCallback
    from regraft.training.module import TransferModule

__version__ = "0.1.0"

_CLASSES = {
    "regraft.core.types": ("Backbone", "InputSpec"),
    "regraft.data.datamodule": ("DataModule",),
    "regraft.data.images.transforms.augment": ("Augment",),
    "regraft.data.images.samples": ("ArrayImages", "FileImages"),
    "regraft.data.sources.base": ("Source", "Splits"),
    "regraft.deployment.classifier": ("Classifier",),
    "regraft.evaluation.compare.leaderboard": ("Leaderboard",),
    "regraft.models.freezing": (
        *("LPFT", "FreezingStrategy", "Gradual", "LastStages", "Layerwise"),
        *("LinearProbe", "NoFreezing", "TrainingPoint", "UpTo"),
    ),
    "regraft.runs.folder": ("Run",),
    "regraft.training.callbacks.freezing": ("FreezingCallback",),
    "regraft.training.module": ("TransferModule",),
}
_MODULE_OF = {name: module for module, names in _CLASSES.items() for name in names}

__all__ = ["LPFT", "ArrayImages", "Augment", "Backbone", "Classifier", "DataModule", "FileImages", "FreezingCallback"]
__all__ += ["FreezingStrategy", "Gradual", "InputSpec", "LastStages", "Layerwise", "Leaderboard", "LinearProbe"]
__all__ += ["NoFreezing", "Run", "Source", "Splits", "TrainingPoint", "TransferModule", "UpTo", "auto", "compare"]
__all__ += ["evaluate", "export", "load", "probe", "reproduce", "resume", "train"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'regraft' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _callers_process_kept(*modules: str) -> AbstractContextManager[None]:
    """Restores what is global in the caller's process at the end of the block; see `process_state_kept`."""
    from regraft.core.process_state import process_state_kept

    return process_state_kept(*modules)


def _listed(overrides: str | Sequence[str]) -> list[str]:
    """Returns a list of overrides, of which one text may hold several, as on the command line."""
    from regraft.config.quoting import readable
    from regraft.core.errors import ConfigError

    if isinstance(overrides, str):
        return readable(shlex.split(overrides))
    if not isinstance(overrides, Sequence) or not all(isinstance(each, str) for each in overrides):
        allowed = "a list of texts, such as ['data=digits'], or one text, as on the command line"
        raise ConfigError("overrides", got=overrides, allowed=allowed)
    return readable(overrides)


def train(overrides: str | Sequence[str] = (), *, config_dir: str | None = None) -> "Run":
    """Trains one run, just as `regraft train` with the same overrides does.

    Args:
        overrides: Hydra overrides, such as `["data=digits", "optimizer.lr=3e-4"]`, or one text as on the command line.
        config_dir: a folder of your own configs, added to Regraft's.

    Returns:
        The run's handle: its folder, config, metrics and checkpoints.

    Raises:
        ValueError: a mistake in the overrides or the data; the message says what, what is allowed and the fix.
    """
    with _callers_process_kept("pytorch_lightning"):
        from regraft.cli.commands.train import train_once

        return train_once(_listed(overrides), config_dir)


def resume(overrides: str | Sequence[str], *, config_dir: str | None = None) -> "Run":
    """Goes on with a run in its own folder, just as `regraft resume` with the same overrides does.

    Args:
        overrides: `run=` (a run's folder, `last`, `best` or a part of its name), and what a resumed run may change.
        config_dir: a folder of your own configs, added to Regraft's.

    Returns:
        The run's handle.
    """
    with _callers_process_kept("pytorch_lightning"):
        from regraft.cli.commands.resume import resume_once

        return resume_once(_listed(overrides), config_dir)


def reproduce(overrides: str | Sequence[str], *, config_dir: str | None = None) -> "Run":
    """Trains a finished run again, beside it, and prints what each metric was and is.

    Args:
        overrides: `run=` (see `resume`), and where its data lies now, if that has changed.
        config_dir: a folder of your own configs, added to Regraft's.

    Returns:
        The new run's handle.

    Raises:
        ValueError: the run's data has changed.
    """
    with _callers_process_kept("pytorch_lightning"):
        from regraft.cli.commands.reproduce import reproduce_once

        return reproduce_once(_listed(overrides), config_dir)


def probe(overrides: str | Sequence[str] = (), *, config_dir: str | None = None) -> "Run":
    """Compares heads and fits the best one, just as `regraft probe` with the same overrides does.

    Args:
        overrides: Hydra overrides, such as `["data=digits", "grid.lr=[1e-3,1e-2]"]`.
        config_dir: a folder of your own configs, added to Regraft's.

    Returns:
        The handle of the best head's run, whose `results` hold all of them as `heads`; its folder also has `grid.csv`.
    """
    with _callers_process_kept("pytorch_lightning"):
        from regraft.cli.commands.probe import probe_once

        return probe_once(_listed(overrides), config_dir)


def auto(overrides: str | Sequence[str] = (), *, config_dir: str | None = None) -> "Run":
    """Finds the best classifier within a time, just as `regraft auto` with the same overrides does.

    Args:
        overrides: Hydra overrides, such as `["data=folder", "data.root=photos", "time=120"]`; the time counts from the
            call.
        config_dir: a folder of your own configs, added to Regraft's.

    Returns:
        The handle of the best candidate's run, in the folder of the search.

    Raises:
        ValueError: a mistake in the overrides or the data, or too little time.
    """
    with _callers_process_kept("pytorch_lightning"):
        from regraft.cli.commands.auto import auto_once

        return auto_once(_listed(overrides), config_dir)


def evaluate(overrides: str | Sequence[str], *, config_dir: str | None = None) -> dict[str, float]:
    """Returns the metrics that `regraft eval` with the same overrides prints.

    Args:
        overrides: Hydra overrides; `run=` or `ckpt_path=<run or file>` is required.
        config_dir: a folder of your own configs, added to Regraft's.
    """
    with _callers_process_kept("pytorch_lightning"):
        from regraft.cli.commands.eval import evaluate_once

        return evaluate_once(_listed(overrides), config_dir)


def compare(arguments: "Sequence[str | Path]" = ()) -> "Leaderboard":
    """Returns the leaderboard that `regraft compare` with the same arguments shows.

    Args:
        arguments: runs, sweeps, folders of them and parts of their names, all runs without one; `metric=`,
            `output_dir=`, and `output=FILE` (.html, .csv or .md) to have it written, too.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: an unknown key, metric or format.
    """
    from regraft.cli.commands.compare import compare_once

    return compare_once(arguments)


def export(overrides: str | Sequence[str]) -> "Path":
    """Writes a trained model as a file, just as `regraft export` with the same overrides does; returns where.

    Args:
        overrides: `run=` (see `resume`) or `ckpt_path=<file>`, and `format=safetensors|onnx|torch_export|hf`.

    Raises:
        FileNotFoundError: there is no such run, or it has no best checkpoint.
        ValueError: the output exists, or something else is wrong; nothing is left of the file then.
    """
    with _callers_process_kept():
        from regraft.cli.commands.export import export_once

        return export_once(_listed(overrides))


def load(run: "str | Path", *, output_dir: str = "outputs", trust: Sequence[str] = ()) -> "Classifier":
    """Returns the model that a run has trained, ready to be asked; its data isn't needed.

    Args:
        run: a run's folder, `last`, `best`, a part of its name, or a checkpoint's file.
        output_dir: where runs are looked for.
        trust: further modules whose classes its config may name.

    Raises:
        FileNotFoundError: there is no such run, or it holds no checkpoint.
        ValueError: several runs are meant, or it is not a Regraft checkpoint.
    """
    from pathlib import Path

    with _callers_process_kept():
        from regraft.deployment.load import trained_model
        from regraft.runs.find import find_run

        is_file = Path(run).expanduser().is_file()
        return trained_model(run if is_file else find_run(str(run), output_dir).path, trust=trust)
