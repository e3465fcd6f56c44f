"""Write a trained model as a file: regraft export run=RUN format=safetensors|onnx|torch_export|hf."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from regraft.cli.command import Command
from regraft.config import compose
from regraft.config.quoting import key_of, value_of
from regraft.config.trust import look_beside, named_in
from regraft.core.errors import ConfigError, MissingFileError
from regraft.core.startup import quick_imports
from regraft.deployment.export.options import FORMATS, ExportOptions, Format, exportable, require_valid, target_of
from regraft.deployment.export.output_path import make_folder
from regraft.runs.arguments import require_run, with_checkpoint

_DETAILS = """
run=RUN             a run's folder, last, best, or a part of its name; ckpt_path=FILE takes a checkpoint
format=safetensors  the weights, for model=checkpoint model.path=FILE
format=onnx         runs under ONNX Runtime without torch (pip install 'regraft[onnx]')
format=torch_export torch.export.load(FILE).module()(images), without Regraft
format=hf           a folder of timm's weights, config.json and a model card, for the Hugging Face hub; no upload
output=PATH         a file, or a folder to put it in; exports/ in the run's folder by default
preprocessing=true  the file takes images of any size, uint8 RGB (batch, height, width, 3); onnx and torch_export
quantize=int8       weights as 8-bit integers, of onnx; prints the accuracy lost
images=FOLDER       images to verify the file on; the run's own test or validation images by default
class_names=[...]   other names for the classes, in their order
overwrite=true      replaces an earlier export
trust=[...]         modules of yours that the checkpoint may name
output_dir=         where runs are looked for (outputs)

The file includes class names, input spec, temperature and version. It is kept only if its logits, before quantisation,
are the model's within 1e-4."""
# Not parsed by Hydra: a path may contain what its grammar reads differently.
_VERBATIM = ("output", "images")


def run(arguments: Sequence[str]) -> None:
    """Exports a model; see the command's help."""
    export_once(arguments)


def export_once(overrides: Sequence[str]) -> Path:
    """Exports a model and returns the path of the file or folder; see `regraft.export`."""
    options = parse(overrides)
    target = target_of(options)
    make_folder(target.parent)
    with quick_imports():
        from regraft.deployment.export.write import write_export
        from regraft.report import export_table

    export_table.show(write_export(options, target, named_in(overrides)))
    return target


def parse(arguments: Sequence[str]) -> ExportOptions:
    """Returns what the command line asks for.

    Raises:
        FileNotFoundError: there is no such run or folder, or the run has no best checkpoint.
        ValueError: something else is wrong with it.
    """
    COMMAND.require_keys(arguments)
    require_run(arguments)
    if value_of("format", arguments) is None:
        raise ConfigError("format", "it has no value yet", fix=f"Add format={'|'.join(FORMATS)}.")
    others = [argument for argument in arguments if key_of(argument) not in _VERBATIM]
    look_beside(named_in(others))
    composed = compose.compose_once("export", with_checkpoint(others), None)
    config = compose.plain(composed)
    require_valid(config)
    output, images = (value_of(key, arguments) for key in _VERBATIM)
    folder = None if images is None else Path(images).expanduser()
    if folder is not None and not folder.is_dir():
        raise MissingFileError("images", f"there is no folder {folder}")
    checkpoint, run = exportable(Path(config["ckpt_path"]))
    return ExportOptions(
        checkpoint=checkpoint,
        run=run,
        format=cast(Format, config["format"]),
        output=None if output is None else Path(output).expanduser().resolve(),
        preprocessing=config["preprocessing"],
        quantize=config["quantize"],
        images=folder,
        class_names=None if config["class_names"] is None else tuple(map(str, config["class_names"])),
        overwrite=config["overwrite"],
    )


COMMAND = Command(
    name="export",
    run=run,
    usage=(
        "regraft export run=RUN format=safetensors|onnx|torch_export|hf [output=PATH] [preprocessing=true] "
        "[quantize=int8]"
    ),
    details=_DETAILS,
    config_name="export",
    takes_run=True,
)
