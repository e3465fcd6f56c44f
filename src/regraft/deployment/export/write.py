"""Writes a trained model as a file or a folder, which is kept only if its logits are those of the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regraft import __version__
from regraft.core.atomic import write_atomically
from regraft.deployment.classifier import Classifier
from regraft.deployment.export import hf_hub, onnx, safetensors, torch_export
from regraft.deployment.export.metadata import ExportMetadata, require_distinct
from regraft.deployment.export.options import ExportOptions
from regraft.deployment.export.output_path import require_free, whole_folder
from regraft.deployment.export.program import Runner
from regraft.deployment.export.sample_images import SampleImages, pictures_of
from regraft.deployment.export.verify import OutputComparison, compare, require_equal
from regraft.deployment.load import model_of
from regraft.runs.checkpoint import Checkpoint, read

_NUM_CHECKED = 32
_NUM_MEASURED = 1_000


@dataclass(frozen=True)
class Exported:
    """What was written, and how near it is to the model.

    Attributes:
        target: the file or folder.
        answers: logits of the model and of the file in float32.
        measured: logits of the model and of the quantised file; None if it isn't quantised.
        pictures: that the logits are of, or that evenly spread ones were taken from.
    """

    target: Path
    answers: OutputComparison
    measured: OutputComparison | None
    pictures: SampleImages


def write_export(options: ExportOptions, target: Path, trust: list[str]) -> Exported:
    """Exports a model.

    Args:
        options: which model, and how.
        target: the file or folder to be; its folder exists.
        trust: further modules whose classes the checkpoint may name.

    Raises:
        FileExistsError: something else has come to the target in the meantime.
        ValueError: the class names don't fit, or the file's logits aren't the model's.
    """
    if options.format == "onnx":
        onnx.require_onnx()
    checkpoint = read(options.checkpoint, trust)
    names = tuple(checkpoint.class_names) if options.class_names is None else options.class_names
    if len(names) != len(checkpoint.class_names):
        raise ValueError(f"class_names: got {len(names)}; the run has {len(checkpoint.class_names)} classes.")
    require_distinct(names)
    model = model_of(checkpoint, device=torch.device("cpu"))
    pictures = pictures_of(checkpoint, model, options.images)
    description = _description(checkpoint, model, names, options)
    answers, measured = _write(options, target, model, description, pictures)
    return Exported(target, answers, measured, pictures)


def _description(
    checkpoint: Checkpoint, model: Classifier, names: tuple[str, ...], options: ExportOptions
) -> ExportMetadata:
    run = options.run
    return ExportMetadata(
        architecture=checkpoint.architecture,
        input_spec=model.input_spec,
        eval_view=model.eval_view,
        class_names=names,
        temperature=model.temperature,
        version=__version__,
        run=checkpoint.path.stem if run is None else f"{run.path.parent.name}/{run.path.name}",
        metrics=run.metrics if run is not None and run.has_results else {},
    )


def _write(
    options: ExportOptions, target: Path, model: Classifier, description: ExportMetadata, pictures: SampleImages
) -> tuple[OutputComparison, OutputComparison | None]:
    """Writes the file or folder, unless it differs from the model.

    Returns:
        What model and file said of some pictures; and of more of them model and quantised file, if it is one.
    """
    checked = pictures.spread(_NUM_CHECKED)
    if options.format == "hf":
        with whole_folder(target, overwrite=options.overwrite) as folder:
            hf_hub.write(model, description, folder)
            return _verified(model, hf_hub.runner(folder), checked), None
    content, run = _converted(options, model, description.metadata())
    answers, measured = _verified(model, run, checked, preprocessing=options.preprocessing), None
    if options.quantize is not None:
        content = onnx.quantised(content)
        more = pictures.spread(_NUM_MEASURED)
        measured = compare(model, onnx.runner(content), more, preprocessing=options.preprocessing)
    require_free(target, overwrite=options.overwrite)  # again: it took its time
    try:
        write_atomically(target, content)
    except OSError as error:
        raise OSError(f"output: can't write {target} ({error.strerror}). Fix: another output=.") from error
    return answers, measured


def _verified(
    model: Classifier, run: Runner, pictures: SampleImages, *, preprocessing: bool = False
) -> OutputComparison:
    answers = compare(model, run, pictures, preprocessing=preprocessing)
    require_equal(answers)
    return answers


def _converted(options: ExportOptions, model: Classifier, metadata: dict[str, str]) -> tuple[bytes, Runner]:
    """Returns the file's content, in float32, and what runs it."""
    if options.format == "safetensors":
        content = safetensors.to_bytes(model.network, metadata)
        return content, safetensors.runner(content, model.network)
    module: Any = onnx if options.format == "onnx" else torch_export
    content = module.to_bytes(model, metadata, preprocessing=options.preprocessing)
    return content, module.runner(content)
