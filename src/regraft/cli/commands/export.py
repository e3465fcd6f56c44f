"""What the command line of `regraft export` asks for, and where the file goes; no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from omegaconf import DictConfig, ListConfig

from regraft.cli.keys import keys_of, require_keys
from regraft.config import compose
from regraft.config.compose import unknown
from regraft.config.quoting import key_of, value_of
from regraft.config.trust import look_beside, named_in
from regraft.deployment.export.output_path import require_free
from regraft.runs import state as run_state
from regraft.runs.arguments import require_run, with_checkpoint
from regraft.runs.folder import Run, find_checkpoint, run_of

Format = Literal["safetensors", "onnx", "torch_export", "hf"]
FORMATS = ("safetensors", "onnx", "torch_export", "hf")
USAGE = (
    "regraft export run=RUN format=safetensors|onnx|torch_export|hf [output=PATH] [preprocessing=true] [quantize=int8]"
)
HELP = f"""usage: {USAGE}

run=RUN             a run's folder, last, best, or a part of its name; ckpt_path=FILE takes a checkpoint
format=safetensors  the weights, which model=checkpoint model.path=FILE takes
format=onnx         runs under ONNX Runtime without torch (pip install 'regraft[onnx]')
format=torch_export torch.export.load(FILE).module()(images), without Regraft
format=hf           a folder of timm's weights, config.json and a model card, for the Hugging Face hub; no upload
output=PATH         a file, or a folder to put it in; exports/ in the run's folder by default
preprocessing=true  the file takes pictures of any size, uint8 RGB (batch, height, width, 3); onnx and torch_export
quantize=int8       weights as 8-bit integers, of onnx; prints the accuracy lost
images=FOLDER       images to check the file on; the run's own test or validation images by default
class_names=[...]   other names for the classes, in their order
overwrite=true      replaces an earlier export
trust=[...]         modules of yours that the checkpoint may name
output_dir=         where runs are looked for (outputs)

Classes, preprocessing, temperature and version stand in the file. It is kept only if its logits are the model's within
1e-4, before quantisation."""
_SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch_export": ".pt2", "hf": ""}
_TAKE_PICTURES = ("onnx", "torch_export")
# Taken as they are: a path may hold what Hydra's grammar reads otherwise.
_VERBATIM = ("output", "images")


@dataclass(frozen=True)
class Asked:
    """What is asked for.

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


def asked(arguments: Sequence[str]) -> Asked:
    """Returns what the command line asks for.

    Raises:
        FileNotFoundError: there is no such run or folder, or the run has no best checkpoint.
        ValueError: something else is wrong with it.
    """
    require_keys("export", arguments, keys_of("export"), USAGE)
    require_run(arguments)
    if value_of("format", arguments) is None:
        raise ValueError(f"format: it has no value yet; add format={'|'.join(FORMATS)}.")
    others = [argument for argument in arguments if key_of(argument) not in _VERBATIM]
    look_beside(named_in(others))
    config = compose.compose_once("export", with_checkpoint(others), None)
    _require_options(config)
    output, images = (value_of(key, arguments) for key in _VERBATIM)
    folder = None if images is None else Path(images).expanduser()
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"images: there is no folder {folder}.")
    checkpoint, run = _checkpoint(Path(config.ckpt_path))
    return Asked(
        checkpoint=checkpoint,
        run=run,
        format=cast(Format, config.format),
        output=None if output is None else Path(output).expanduser().resolve(),
        preprocessing=config.preprocessing,
        quantize=config.quantize,
        images=folder,
        class_names=None if config.class_names is None else tuple(map(str, config.class_names)),
        overwrite=config.overwrite,
    )


def place_of(what: Asked) -> Path:
    """Returns where the file or folder goes.

    Raises:
        FileExistsError: that is taken.
        ValueError: it has the name of another format, or there is no run to keep it in.
    """
    suffix = _SUFFIXES[what.format]
    name = "-".join(
        ["hf" if what.format == "hf" else "model", *(["preprocessing"] if what.preprocessing else [])]
        + ([what.quantize] if what.quantize else [])
    )
    if what.output is not None:
        is_inside = what.format != "hf" and what.output.is_dir()
        path = what.output / f"{name}{suffix}" if is_inside else what.output
        if path.suffix != suffix and what.format != "hf":
            raise ValueError(f"output: got {path.name}; a file of format={what.format} ends in {suffix}.")
    elif what.run is None:
        raise ValueError(f"output: it has no value, and {what.checkpoint} lies in no run's folder. Fix: output=PATH.")
    else:
        path = what.run.path / "exports" / f"{name}{suffix}"
    require_free(path, overwrite=what.overwrite, is_folder=what.format == "hf")
    return path


def _require_options(config: DictConfig) -> None:
    if config.format not in FORMATS:
        raise ValueError(f"format: {unknown('format', str(config.format), FORMATS)}")
    for key in ("preprocessing", "overwrite"):
        if not isinstance(config[key], bool):
            raise ValueError(f"{key}: got {config[key]!r}; allowed: true, false.")
    if config.quantize not in (None, "int8"):
        raise ValueError(f"quantize: got {config.quantize!r}; allowed: int8, null.")
    if config.quantize and config.format != "onnx":
        raise ValueError(f"quantize: format={config.format} has no 8-bit integers. Fix: format=onnx.")
    if config.preprocessing and config.format not in _TAKE_PICTURES:
        raise ValueError(
            f"preprocessing: format={config.format} holds weights, no graph. Fix: format=onnx or format=torch_export."
        )
    if config.class_names is not None and not _is_names(config.class_names):
        raise ValueError(f"class_names: got {config.class_names!r}; allowed: a list of names, [ant,bee].")


def _is_names(value: object) -> bool:
    """Whether a value is a list of names; those of digits are numbers."""
    return isinstance(value, ListConfig) and all(isinstance(name, str | int | float) for name in value)


def _checkpoint(path: Path) -> tuple[Path, Run | None]:
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
