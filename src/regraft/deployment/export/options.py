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
_TAKE_PICTURES = ("onnx", "torch_export")


@dataclass(frozen=True)
class ExportOptions:
    """What `regraft export` writes.

    Attributes:
        checkpoint: the file to export.
        run: that it lies in; None for one that stands alone.
        format: of the file.
        output: a file, or a folder to put it in; None for the run's folder.
        preprocessing: whether the file takes pictures.
        quantize: `int8` or None.
        images: a folder of images to check it on; None for the run's own.
        class_names: in the place of the run's; None for those.
        overwrite: whether an earlier export may be replaced.
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
    """Returns the path of the file or folder to be.

    Raises:
        FileExistsError: that is taken.
        ValueError: it has the name of another format, or there is no run to keep it in.
    """
    suffix = _SUFFIXES[options.format]
    name = "-".join(
        ["hf" if options.format == "hf" else "model", *(["preprocessing"] if options.preprocessing else [])]
        + ([options.quantize] if options.quantize else [])
    )
    if options.output is not None:
        is_inside = options.format != "hf" and options.output.is_dir()
        path = options.output / f"{name}{suffix}" if is_inside else options.output
        if path.suffix != suffix and options.format != "hf":
            raise ValueError(f"output: got {path.name}; a file of format={options.format} ends in {suffix}.")
    elif options.run is None:
        raise ValueError(
            f"output: it has no value, and {options.checkpoint} lies in no run's folder. Fix: output=PATH."
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
    if config["preprocessing"] and config["format"] not in _TAKE_PICTURES:
        raise ValueError(
            f"preprocessing: format={config['format']} holds weights only. Fix: format=onnx or format=torch_export."
        )
    if config["class_names"] is not None and not _is_list_of_names(config["class_names"]):
        raise ValueError(f"class_names: got {config['class_names']!r}; allowed: a list of names, [ant,bee].")


def _is_list_of_names(value: object) -> bool:
    """Whether a value is a list of names; those of digits are numbers."""
    return isinstance(value, list) and all(isinstance(name, str | int | float) for name in value)


def exportable(path: Path) -> tuple[Path, Run | None]:
    """Returns the file to export: of a finished run its best checkpoint, or the one that is named."""
    path = path.expanduser().resolve()
    run = run_of(path)
    if not path.is_dir() or run is None:
        return find_checkpoint(path, prefer="best"), run
    last = f"; ckpt_path={run.last_ckpt} exports it as far as it got" if run.last_ckpt.is_file() else ""
    if not run.is_finished:
        word = run_state.read(run).status
        raise ValueError(f"run: {run.path} hasn't finished (it is {word}). Fix: regraft resume run={run.path}{last}.")
    if not run.best_ckpt.is_file():
        where = f"Fix: ckpt_path={run.last_ckpt} exports its last one." if last else "It kept none at all."
        raise FileNotFoundError(f"run: {run.path} has no best checkpoint, checkpoints/best.ckpt. {where}")
    return run.best_ckpt, run
