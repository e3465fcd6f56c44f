"""Write a trained model as a file: regraft export run=RUN format=safetensors|onnx|torch_export|hf."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from omegaconf import OmegaConf

from regraft.cli.command import RUN_REFERENCE, Command
from regraft.config import compose
from regraft.config.quoting import key_of, value_of
from regraft.config.trust import named_in
from regraft.core.console import steps_shown
from regraft.core.errors import ConfigError, MissingFileError
from regraft.core.remote import is_remote, output_at, require_local
from regraft.core.startup import quick_imports
from regraft.core.text import say
from regraft.deployment.export.options import FORMATS, ExportOptions, Format, exportable, require_valid, target_of
from regraft.deployment.export.output_path import make_folder

_VERBATIM = ("output", "images")


def run(arguments: Sequence[str]) -> None:
    """Exports a model; see the command's help."""
    output = value_of("output", arguments)
    if not is_remote(output):
        export_once(arguments)
        return
    others = [word for word in arguments if key_of(word) != "output"]
    with output_at(str(output), "output", replaces=parse(others).overwrite) as path:
        export_once([*others, f"output={path}"])
    say(f"Copied to {output}")


def export_once(overrides: Sequence[str]) -> Path:
    """Exports a model and returns the path of the file or folder; see `regraft.export`."""
    options = parse(overrides)
    target = target_of(options)
    make_folder(target.parent)
    with steps_shown() as tell:
        tell(f"Reading {options.checkpoint}")
        with quick_imports():
            from regraft.deployment.export.write import write_export
            from regraft.report.tables import export as export_table

        exported = write_export(options, target, named_in(overrides), tell)
    export_table.show(exported)
    return target


def parse(arguments: Sequence[str]) -> ExportOptions:
    """Returns the options on the command line."""
    composed = COMMAND.composed(arguments, _VERBATIM)
    if OmegaConf.is_missing(composed, "format"):
        raise ConfigError("format", "it has no value yet", fix=f"Add format={'|'.join(FORMATS)}.")
    config = compose.plain(composed)
    require_valid(config)
    output, images = (value_of(key, arguments) for key in _VERBATIM)
    require_local(output, "output")
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
        license=None if config["license"] is None else str(config["license"]),
        overwrite=config["overwrite"],
    )


COMMAND = Command(
    name="export",
    run=run,
    usage=(
        "regraft export run=RUN format=safetensors|onnx|torch_export|hf [output=PATH] [preprocessing=true] "
        "[quantize=int8]"
    ),
    details=f"""
A file includes class names, input spec, temperature and version. It is kept only if its logits, before quantisation,
are the model's within 1e-4. {RUN_REFERENCE}""",
    config_name="export",
    takes_run=True,
)
