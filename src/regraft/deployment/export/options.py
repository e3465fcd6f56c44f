"""What `regraft export` writes, and where; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from regraft.config.quoting import for_shell
from regraft.core.errors import ConfigError, MissingFileError, UnknownNameError
from regraft.deployment.export.output_path import require_free
from regraft.runs import state as run_state
from regraft.runs.folder import Run, find_checkpoint, run_of
from regraft.runs.resuming import resume_command

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
        license: in the model card; None for that of the weights that training started from.
    """

    checkpoint: Path
    run: Run | None
    format: Format
    output: Path | None
    preprocessing: bool
    quantize: str | None
    images: Path | None
    class_names: tuple[str, ...] | None
    license: str | None
    overwrite: bool


def target_of(options: ExportOptions) -> Path:
    """Returns the path of the file or folder to write."""
    suffix = _SUFFIXES[options.format]
    name = "hf" if options.format == "hf" else "model"
    name += "-preprocessing" * options.preprocessing + (f"-{options.quantize}" if options.quantize else "")
    if options.output is not None:
        is_inside = options.format != "hf" and options.output.is_dir()
        path = options.output / f"{name}{suffix}" if is_inside else options.output
        if path.suffix != suffix and options.format != "hf":
            raise ConfigError("output", f"a file of format={options.format} ends in {suffix}", got=path.name)
    elif options.run is None:
        reason = f"it has no value, and {options.checkpoint} isn't in a run's folder"
        raise ConfigError("output", reason, fix="Use output=PATH.")
    else:
        path = options.run.path / "exports" / f"{name}{suffix}"
    require_free(path, overwrite=options.overwrite, is_folder=options.format == "hf")
    return path


def require_valid(config: Mapping[str, Any]) -> None:
    """Checks the values of `conf/export.yaml`."""
    if config["format"] not in FORMATS:
        raise UnknownNameError("format", "format", str(config["format"]), FORMATS)
    for key in ("preprocessing", "overwrite"):
        if not isinstance(config[key], bool):
            raise ConfigError(key, got=config[key], allowed="true, false")
    if config["quantize"] not in (None, "int8"):
        raise ConfigError("quantize", got=config["quantize"], allowed="int8, null")
    if config["quantize"] and config["format"] != "onnx":
        raise ConfigError("quantize", f"format={config['format']} has no 8-bit integers", fix="Use format=onnx.")
    if config["preprocessing"] and config["format"] not in _WITH_PREPROCESSING:
        fix = "Use format=onnx or format=torch_export."
        raise ConfigError("preprocessing", f"format={config['format']} holds weights only", fix=fix)
    if config["license"] is not None and config["format"] != "hf":
        raise ConfigError("license", f"format={config['format']} has no model card", fix="Use format=hf.")
    names = config["class_names"]
    # Names of digits are numbers here.
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str | int | float) for name in names)
    ):
        raise ConfigError("class_names", got=names, allowed="a list of names, [ant,bee]")


def exportable(path: Path) -> tuple[Path, Run | None]:
    """Returns the file to export, a finished run's best checkpoint or the given file, and its run, if it has one."""
    path = path.expanduser().resolve()
    run = run_of(path)
    if not path.is_dir() or run is None:
        return find_checkpoint(path, prefer="best"), run
    last = for_shell("ckpt_path", run.last_ckpt) if run.last_ckpt.is_file() else None
    if not run.is_finished:
        status = run_state.read(run).status
        so_far = f"; {last} exports what it has so far" if last else ""
        fix = f"Resume it: {resume_command(run)}{so_far}."
        raise ConfigError("run", f"{run.path} hasn't finished (it is {status})", fix=fix)
    if not run.best_ckpt.is_file():
        where = f"Export its last one with {last}." if last else "It kept no checkpoint."
        raise MissingFileError("run", f"{run.path} has no best checkpoint, checkpoints/best.ckpt", fix=where)
    return run.best_ckpt, run
