"""Regraft: new heads on pretrained backbones, composed by Hydra, run by Lightning.

The functions do what the commands of the same names do. The classes are what a training is made of, for scripts of your
own; they are imported when they are first used, because torch takes seconds.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from regraft.core.image_spec import ImageSpec
    from regraft.core.input_spec import InputSpec
    from regraft.core.pixel_format import PixelFormat
    from regraft.core.text_spec import TextSpec
    from regraft.core.types import Backbone
    from regraft.data.datamodule import DataModule
    from regraft.data.images.decoding import decode_image
    from regraft.data.images.samples import ArrayImages, FileImages
    from regraft.data.images.transforms.augment import Augment
    from regraft.data.sources.base import Source, Splits
    from regraft.deployment.classifier import Classifier
    from regraft.evaluation.compare.leaderboard import Leaderboard
    from regraft.models.backbones.efficientnet_lite import efficientnet_lite0
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
    from regraft.models.from_config import backbone
    from regraft.runs.folder import Run
    from regraft.training.callbacks.freezing import FreezingCallback
    from regraft.training.losses.classification import MSE, CrossEntropy, Focal
    from regraft.training.module import TransferModule

__version__ = "0.1.0"

_LAZY = {
    "regraft.core.image_spec": ("ImageSpec",),
    "regraft.core.input_spec": ("InputSpec",),
    "regraft.core.pixel_format": ("PixelFormat",),
    "regraft.core.text_spec": ("TextSpec",),
    "regraft.core.types": ("Backbone",),
    "regraft.data.datamodule": ("DataModule",),
    "regraft.data.images.transforms.augment": ("Augment",),
    "regraft.data.images.decoding": ("decode_image",),
    "regraft.data.images.samples": ("ArrayImages", "FileImages"),
    "regraft.data.sources.base": ("Source", "Splits"),
    "regraft.deployment.classifier": ("Classifier",),
    "regraft.evaluation.compare.leaderboard": ("Leaderboard",),
    "regraft.models.backbones.efficientnet_lite": ("efficientnet_lite0",),
    "regraft.models.freezing": (
        *("LPFT", "FreezingStrategy", "Gradual", "LastStages", "Layerwise"),
        *("LinearProbe", "NoFreezing", "TrainingPoint", "UpTo"),
    ),
    "regraft.models.from_config": ("backbone",),
    "regraft.runs.folder": ("Run",),
    "regraft.training.callbacks.freezing": ("FreezingCallback",),
    "regraft.training.losses.classification": ("MSE", "CrossEntropy", "Focal"),
    "regraft.training.module": ("TransferModule",),
}
_MODULE_OF = {name: module for module, names in _LAZY.items() for name in names}

__all__ = [
    "LPFT",
    "MSE",
    "ArrayImages",
    "Augment",
    "Backbone",
    "Classifier",
    "CrossEntropy",
    "DataModule",
    "FileImages",
]
__all__ += ["Focal", "FreezingCallback", "FreezingStrategy", "Gradual", "ImageSpec", "InputSpec", "LastStages"]
__all__ += ["Layerwise", "Leaderboard", "LinearProbe", "NoFreezing", "PixelFormat", "Run", "Source", "Splits"]
__all__ += ["TextSpec", "TrainingPoint", "TransferModule", "UpTo"]
__all__ += ["auto", "backbone", "compare", "decode_image", "efficientnet_lite0", "ensemble", "evaluate", "export"]
__all__ += ["load", "probe", "reproduce", "resume", "train"]

_Overrides = str | Sequence[str] | Mapping[str, Any]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'regraft' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


@contextmanager
def _called(overrides: Any, keys: Mapping[str, Any], *modules: str) -> Iterator[list[str]]:
    """Yields the overrides of a training's call; what is global in the caller's process is restored in the end.

    Args:
        modules: see `process_state_kept`.
    """
    from regraft.core.process_state import process_state_kept

    with process_state_kept(*modules):
        from regraft.cli.calls import call_of

        yield call_of(overrides, keys)


@contextmanager
def _called_with_run(run: Any, keys: Mapping[str, Any], *modules: str, **options: Any) -> Iterator[list[str]]:
    """Yields the overrides of a call that uses a run; see `_called`."""
    from regraft.core.process_state import process_state_kept

    with process_state_kept(*modules):
        from regraft.cli.calls import call_of_run

        with call_of_run(run, keys, **options) as overrides:
            yield overrides


def train(overrides: _Overrides = (), *, config_dir: str | None = None, **keys: Any) -> "Run":
    """Trains one run, just as `regraft train` with the same options does.

    Args:
        overrides: Hydra overrides, such as `["data=digits", "optimizer.lr=3e-4"]`, one text as on the command line, or
            a mapping as `keys`.
        config_dir: a folder of your own configs, added to Regraft's.
        keys: the same as keywords: `data="digits"`, `trainer={"max_epochs": 3}`, `**{"optimizer.lr": 3e-4}`. An object
            may take the place of a group: a dataset of (image, label), a LightningDataModule or the folder's Path as
            `data`, an `nn.Module` as `model`, `head` or `loss`, a strategy as `freezing`, a class or a function as
            `optimizer` or `scheduler`, and Lightning's objects as `callbacks` and `logger`.

    Returns:
        The run's handle: its folder, config, metrics and checkpoints.

    Raises:
        ValueError: a mistake in the options or the data; the message says what, what is allowed and the fix.
    """
    with _called(overrides, keys, "pytorch_lightning") as words:
        from regraft.cli.commands.train import train_once

        return train_once(words, config_dir)


def resume(run: "_Overrides | Run | Path", *, config_dir: str | None = None, **keys: Any) -> "Run":
    """Resumes a run in its own folder, just as `regraft resume` with the same options does.

    Args:
        run: a run, its folder, `last`, `best` or a part of its name; or overrides as in `train`, with `run=`.
        config_dir: a folder of your own configs, added to Regraft's.
        keys: what a resumed run may change, as in `train`; and the objects that the run was given, which another
            process doesn't have any more.

    Returns:
        The run's handle.
    """
    with _called_with_run(run, keys, "pytorch_lightning") as words:
        from regraft.cli.commands.resume import resume_once

        return resume_once(words, config_dir)


def reproduce(run: "_Overrides | Run | Path", *, config_dir: str | None = None, **keys: Any) -> "Run":
    """Trains a finished run again, beside it, and prints what each metric was and is.

    Args:
        run: see `resume`.
        config_dir: a folder of your own configs, added to Regraft's.
        keys: where its data lies now, if that has changed, and the objects that the run was given.

    Returns:
        The new run's handle.

    Raises:
        ValueError: the run's data has changed.
    """
    with _called_with_run(run, keys, "pytorch_lightning") as words:
        from regraft.cli.commands.reproduce import reproduce_once

        return reproduce_once(words, config_dir)


def probe(overrides: _Overrides = (), *, config_dir: str | None = None, **keys: Any) -> "Run":
    """Compares heads and fits the best one, just as `regraft probe` with the same options does.

    Args:
        overrides: as in `train`, such as `["data=digits", "grid.lr=[1e-3,1e-2]"]`.
        config_dir: a folder of your own configs, added to Regraft's.
        keys: as in `train`.

    Returns:
        The handle of the best head's run, whose `results` hold all of them as `heads`; its folder also has `grid.csv`.
    """
    with _called(overrides, keys, "pytorch_lightning") as words:
        from regraft.cli.commands.probe import probe_once

        return probe_once(words, config_dir)


def auto(overrides: _Overrides = (), *, config_dir: str | None = None, **keys: Any) -> "Run":
    """Finds the best classifier within a time, just as `regraft auto` with the same options does.

    Args:
        overrides: as in `train`, such as `["data=folder", "data.root=photos", "time=120"]`; the time counts from the
            call.
        config_dir: a folder of your own configs, added to Regraft's.
        keys: as in `train`.

    Returns:
        The handle of the best candidate's run, in the folder of the search.

    Raises:
        ValueError: a mistake in the options or the data, or too little time.
    """
    with _called(overrides, keys, "pytorch_lightning") as words:
        from regraft.cli.commands.auto import auto_once

        return auto_once(words, config_dir)


def evaluate(run: "_Overrides | Run | Path", *, config_dir: str | None = None, **keys: Any) -> dict[str, float]:
    """Returns the metrics that `regraft eval` with the same options prints.

    Args:
        run: see `resume`; in overrides, `ckpt_path=<run or file>` may stand for `run=`.
        config_dir: a folder of your own configs, added to Regraft's.
        keys: as in `train`; `data` is what is evaluated on.
    """
    with _called_with_run(run, keys, "pytorch_lightning", replaces_data=True) as words:
        from regraft.cli.commands.eval import evaluate_once

        return evaluate_once(words, config_dir)


def compare(runs: "str | Path | Run | Sequence[str | Path | Run]" = (), **keys: Any) -> "Leaderboard":
    """Returns the leaderboard that `regraft compare` with the same arguments shows.

    Args:
        runs: runs, sweeps, folders of them and parts of their names, all runs without one.
        keys: `metric`, `output_dir`, and `output` with a file's name (.html, .csv or .md) to have it written, too;
            among `runs`, they are texts such as `"metric=val/acc"`.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: an unknown key, metric or format.
    """
    from regraft.cli.commands.compare import compare_once

    return compare_once([*_named(runs), *(f"{key}={value}" for key, value in keys.items())])


def ensemble(runs: "str | Path | Run | Sequence[str | Path | Run]", **keys: Any) -> "Run":
    """Returns the run that is the mean of some runs, just as `regraft ensemble` does.

    Args:
        runs: a sweep of folds or seeds, or its runs: themselves, their folders, or parts of their names.
        keys: `output_dir` and `trust`.

    Raises:
        ValueError: there are fewer than two runs, or they aren't of one kind.
    """
    from regraft.core.process_state import process_state_kept

    with process_state_kept("pytorch_lightning"):
        from regraft.cli.commands.ensemble import ensemble_once

        return ensemble_once([*_named(runs), *(f"{key}={value}" for key, value in keys.items())])


def _named(runs: Any) -> list[str]:
    """Returns the words of a command line for one run or several."""
    listed = list(runs) if isinstance(runs, Sequence) and not isinstance(runs, str) else [runs]
    return [str(getattr(each, "path", each)) for each in listed]


def export(run: "_Overrides | Run | Path", **keys: Any) -> "Path":
    """Writes a trained model as a file, just as `regraft export` with the same options does; returns where.

    Args:
        run: see `resume`; in overrides, `ckpt_path=<file>` may stand for `run=`.
        keys: `format="safetensors"`, `"onnx"`, `"torch_export"` or `"hf"`, and the other options.

    Raises:
        FileNotFoundError: there is no such run, or it has no best checkpoint.
        ValueError: the output exists, or something else is wrong; nothing is left of the file then.
    """
    with _called_with_run(run, keys) as words:
        from regraft.cli.commands.export import export_once

        return export_once(words)


def load(
    run: "str | Path | Run",
    *,
    output_dir: "str | Path" = "outputs",
    trust: Sequence[str] = (),
    engine: str = "torch",
    **objects: Any,
) -> "Classifier":
    """Returns the model that a run has trained, ready to be asked; its data isn't needed.

    Args:
        run: a run, its folder, `last`, `best`, a part of its name, or a checkpoint's file.
        output_dir: where runs are looked for.
        trust: further modules whose classes its config may name.
        engine: `torch`; or `onnx`, for ONNX Runtime on the CPU, as `regraft predict` has it.
        objects: the `model` and `head` that the run was given as objects, which another process doesn't have any more.

    Raises:
        FileNotFoundError: there is no such run, or it holds no checkpoint.
        ValueError: several runs are meant, or it is not a Regraft checkpoint.
    """
    from pathlib import Path

    place = str(getattr(run, "path", run))
    is_file = Path(place).expanduser().is_file()
    meant = {} if is_file else {"run": place, "output_dir": str(output_dir)}
    with _called_with_run(meant, objects) as words:
        from regraft.core.errors import UnknownNameError
        from regraft.deployment.load import trained_model
        from regraft.runs.find import find_run

        if further := words[len(meant) :]:
            known = ["output_dir", "trust", "engine", "model", "head"]
            raise UnknownNameError("load", "key", further[0].partition("=")[0], known)
        path = place if is_file else find_run(place, str(output_dir)).path
        return trained_model(path, trust=trust, engine=engine)
