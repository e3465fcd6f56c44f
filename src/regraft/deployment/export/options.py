"""What `regraft export` writes, and where; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from regraft.core.errors import unknown
from regraft.deployment.export.output_path import require_free
from regraft.runs import state as run_state
from regraft.runs.folder import Run, find_checkpoint, run_of

Format = Literal["safetensors", "onnx", "torch_export", "hf"]
FORMATS = ("safetensors", "onnx", "torch_export", "hf")
_SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch_export": ".pt2", "hf": ""}
_WITH_PREPROCESSING = ("onnx", "torch_export")


@dataclass(frozen=True)
class ExportOptions:
    """What `regraft export` writes.

    Attributes:
        run: of the checkpoint; None if it isn't in a run's folder.
        output: a file, or a folder to put it in; None for the run's folder.
        preprocessing: whether the file resizes, crops and normalises images itself.
        quantize: `int8` or None.
        images: a folder of images to verify the file on; None for the run's own.
        class_names: replace the run's; None to keep them.
    """

    checkpoint: Path
    run: Run | None
    format: Format
    output: Path | None
    preprocessing: bool
    quantize: str | None
    images: Path | None
    class_names: tuple[str, ...] | None
    overwrite: bool


def target_of(options: ExportOptions) -> Path:
    """Returns the path of the file or folder to write.

    Raises:
        FileExistsError: it exists already.
        ValueError: it has the name of another format, or there is no run to keep it in.
    """
    suffix = _SUFFIXES[options.format]
    name = "hf" if options.format == "hf" else "model"
    name += "-preprocessing" * options.preprocessing + (f"-{options.quantize}" if options.quantize else "")
    if options.output is not None:
        is_inside = options.format != "hf" and options.output.is_dir()
        path = options.output / f"{name}{suffix}" if is_inside else options.output
        if path.suffix != suffix and options.format != "hf":
            raise ValueError(f"output: got {path.name}; a file of format={options.format} ends in {suffix}.")
    elif options.run is None:
        raise ValueError(
            f"output: it has no value, and {options.checkpoint} isn't in a run's folder. Fix: output=PATH."
        )
    else:
        path = options.run.path / "exports" / f"{name}{suffix}"
    require_free(path, overwrite=options.overwrite, is_folder=options.format == "hf")
    return path


def require_valid(config: Mapping[str, Any]) -> None:
    """Checks the values of `conf/export.yaml`.

    Raises:
        ValueError: one isn't allowed, or doesn't fit the format.
    """
    if config["format"] not in FORMATS:
        raise ValueError(f"format: {unknown('format', str(config['format']), FORMATS)}")
    for key in ("preprocessing", "overwrite"):
        if not isinstance(config[key], bool):
            raise ValueError(f"{key}: got {config[key]!r}; allowed: true, false.")
    if config["quantize"] not in (None, "int8"):
        raise ValueError(f"quantize: got {config['quantize']!r}; allowed: int8, null.")
    if config["quantize"] and config["format"] != "onnx":
        raise ValueError(f"quantize: format={config['format']} has no 8-bit integers. Fix: format=onnx.")
    if config["preprocessing"] and config["format"] not in _WITH_PREPROCESSING:
        raise ValueError(
            f"preprocessing: format={config['format']} holds weights only. Fix: format=onnx or format=torch_export."
        )
    names = config["class_names"]
    # Names of digits are numbers here.
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str | int | float) for name in names)
    ):
        raise ValueError(f"class_names: got {names!r}; allowed: a list of names, [ant,bee].")


def exportable(path: Path) -> tuple[Path, Run | None]:
    """Returns the file to export, a finished run's best checkpoint or the given file, and its run, if it has one."""
    path = path.expanduser().resolve()
    run = run_of(path)
    if not path.is_dir() or run is None:
        return find_checkpoint(path, prefer="best"), run
    last = f"; ckpt_path={run.last_ckpt} exports what it has so far" if run.last_ckpt.is_file() else ""
    if not run.is_finished:
        status = run_state.read(run).status
        raise ValueError(f"run: {run.path} hasn't finished (it is {status}). Fix: regraft resume run={run.path}{last}.")
    if not run.best_ckpt.is_file():
        where = f"Fix: ckpt_path={run.last_ckpt} exports its last one." if last else "It kept no checkpoint."
        raise FileNotFoundError(f"run: {run.path} has no best checkpoint, checkpoints/best.ckpt. {where}")
    return run.best_ckpt, run
