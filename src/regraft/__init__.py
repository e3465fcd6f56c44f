"""Regraft: new heads on pretrained backbones, composed by Hydra, run by Lightning."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from regraft.deployment.classifier import Classifier
    from regraft.evaluation.compare.leaderboard import Leaderboard
    from regraft.runs.folder import Run

__version__ = "0.1.0"
__all__ = ["compare", "evaluate", "export", "load", "probe", "reproduce", "resume", "train"]


def train(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> "Run":
    """Trains one run, just as `regraft train` with the same overrides does.

    Args:
        overrides: Hydra overrides, such as `["data=digits", "optimizer.lr=3e-4"]`.
        config_dir: a folder of your own configs, added to Regraft's.

    Returns:
        The run's handle: its folder, config, metrics and checkpoints.

    Raises:
        ValueError: a mistake in the overrides or the data; the message says what, what is allowed and the fix.
    """
    from regraft.cli.commands.train import train_once

    return train_once(overrides, config_dir)


def resume(overrides: Sequence[str], *, config_dir: str | None = None) -> "Run":
    """Goes on with a run in its own folder, just as `regraft resume` with the same overrides does.

    Args:
        overrides: `run=` (a run's folder, `last`, `best` or a part of its name), and what a resumed run may change.
        config_dir: a folder of your own configs, added to Regraft's.

    Returns:
        The run's handle.
    """
    from regraft.cli.commands.resume import resume_once

    return resume_once(overrides, config_dir)


def reproduce(overrides: Sequence[str], *, config_dir: str | None = None) -> "Run":
    """Trains a finished run again, beside it, and prints what each metric was and is.

    Args:
        overrides: `run=` (see `resume`), and where its data lies now, if that has changed.
        config_dir: a folder of your own configs, added to Regraft's.

    Returns:
        The new run's handle.

    Raises:
        ValueError: the run's data has changed.
    """
    from regraft.cli.commands.reproduce import reproduce_once

    return reproduce_once(overrides, config_dir)


def probe(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> "Run":
    """Fits a grid of linear heads and trains the best one, just as `regraft probe` with the same overrides does.

    Args:
        overrides: Hydra overrides, such as `["data=digits", "grid.lr=[1e-3,1e-2]"]`.
        config_dir: a folder of your own configs, added to Regraft's.

    Returns:
        The handle of the best head's run; its folder also holds `grid.csv`.
    """
    from regraft.cli.commands.probe import probe_once

    return probe_once(overrides, config_dir)


def evaluate(overrides: Sequence[str], *, config_dir: str | None = None) -> dict[str, float]:
    """Returns the metrics that `regraft eval` with the same overrides prints.

    Args:
        overrides: Hydra overrides; `run=` or `ckpt_path=<run or file>` is required.
        config_dir: a folder of your own configs, added to Regraft's.
    """
    from regraft.cli.commands.eval import evaluate_once

    return evaluate_once(overrides, config_dir)


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


def export(overrides: Sequence[str]) -> "Path":
    """Writes a trained model as a file, just as `regraft export` with the same overrides does; returns where.

    Args:
        overrides: `run=` (see `resume`) or `ckpt_path=<file>`, and `format=safetensors|onnx|torch_export|hf`.

    Raises:
        FileNotFoundError: there is no such run, or it has no best checkpoint.
        FileExistsError: the place is taken.
        ValueError: something else is wrong; nothing is left of the file then.
    """
    from regraft.cli.commands.export import export_once

    return export_once(overrides)


def load(run: "str | Path", *, output_dir: str = "outputs", trust: Sequence[str] = ()) -> "Classifier":
    """Returns the model that a run has trained, ready to be asked; its data isn't needed.

    Args:
        run: a run's folder, `last`, `best`, a part of its name, or a checkpoint's file.
        output_dir: where runs are looked for.
        trust: further modules whose classes its config may name.

    Raises:
        FileNotFoundError: there is no such run, or it holds no checkpoint.
        ValueError: several runs are meant, or the checkpoint is none of ours.
    """
    from pathlib import Path

    from regraft.deployment.load import trained_model
    from regraft.runs.find import find_run

    is_file = Path(run).expanduser().is_file()
    return trained_model(run if is_file else find_run(str(run), output_dir).path, trust=trust)
