"""Writes a trained model as a file or a folder, which is kept only if its logits are those of the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regraft import __version__
from regraft.core.atomic import write_atomically
from regraft.core.errors import ConfigError
from regraft.deployment.classifier import Classifier
from regraft.deployment.export import onnx, safetensors, torch_export
from regraft.deployment.export.metadata import ExportMetadata, require_distinct
from regraft.deployment.export.options import ExportOptions
from regraft.deployment.export.output_path import require_free, whole_folder
from regraft.deployment.export.samples import SampleInputs, sample_inputs
from regraft.deployment.export.verify import OutputComparison, compare, require_equal
from regraft.deployment.load import model_of
from regraft.models.weights import is_path
from regraft.runs.checkpoint import read
from regraft.runs.folder import Run
from regraft.runs.provenance import name_of_data
from regraft.tasks import Task

_NUM_VERIFIED = 32
_NUM_MEASURED = 1_000


Tell = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """What was written, and how close it is to the model.

    Attributes:
        comparison: with the file in float32.
        quantised: with the quantised file; None if it isn't quantised.
        samples: the comparisons used some of them, evenly spread.
        task: of the model.
    """

    target: Path
    comparison: OutputComparison
    quantised: OutputComparison | None
    samples: SampleInputs
    task: Task


def write_export(options: ExportOptions, target: Path, trust: list[str], tell: Tell = lambda step: None) -> Exported:
    """Exports a model to a file or folder, whose parent folder exists.

    Args:
        trust: further modules whose classes the checkpoint may name.
        tell: called with the name of each step that may take long.

    Raises:
        ConfigError: the target exists by now, the class names don't fit, or the logits differ from the model's.
    """
    if options.format == "onnx":
        onnx.require_onnx()
    checkpoint = read(options.checkpoint, trust)
    names = tuple(checkpoint.class_names) if options.class_names is None else options.class_names
    if len(names) != len(checkpoint.class_names):
        raise ConfigError("class_names", f"the run has {len(checkpoint.class_names)} classes", got=len(names))
    require_distinct(names)
    model = model_of(checkpoint, device=torch.device("cpu"))
    samples = sample_inputs(checkpoint, model.reader.samples(), options.images)
    run = options.run
    metadata = ExportMetadata(
        architecture=checkpoint.architecture,
        input_spec=model.input_spec,
        class_names=names,
        task=checkpoint.task.name,
        unit=checkpoint.unit,
        temperature=model.temperature,
        version=__version__,
        run=checkpoint.path.stem if run is None else f"{run.path.parent.name}/{run.path.name}",
        metrics=run.metrics if run is not None and run.has_results else {},
        data=_data_of(checkpoint.config, run),
        weights=_weights_of(checkpoint.config["model"]),
        license=options.license,
        thresholds=None if model.thresholds is None else tuple(model.thresholds.tolist()),
    )
    write = _write_folder if options.format == "hf" else _write_file
    return write(options, target, model, metadata, samples, tell)


def _data_of(config: Mapping[str, Any], run: Run | None) -> str:
    """Returns the name of a run's data set: that of its choice, the folder's, or the one that the hub has."""
    name = (run.choices.get("data") if run is not None else None) or name_of_data(config["data"])
    root, on_hub = config["data"].get("root"), config["data"].get("name")
    if name == "hf" and on_hub:
        return str(on_hub)
    return Path(root).name if name == "folder" and root else name


def _weights_of(node: Mapping[str, Any]) -> str | None:
    """Returns the name of the weights that a model started from, of a file without its folder; None for random ones."""
    weights = node.get("weights", node.get("path"))
    return weights if weights is None or not is_path(str(weights)) else Path(str(weights)).name


def _write_folder(
    options: ExportOptions, target: Path, model: Classifier, metadata: ExportMetadata, samples: SampleInputs, tell: Tell
) -> Exported:
    tell("Writing and comparing the folder for Hugging Face")
    with whole_folder(target, overwrite=options.overwrite) as folder:
        hub = model.reader.hub()
        hub.write(model, metadata, folder)
        comparison = compare(model, hub.runner(folder), samples.spread(_NUM_VERIFIED), preprocessing=False)
        require_equal(comparison)
    return Exported(target, comparison, None, samples, model.task)


def _write_file(
    options: ExportOptions, target: Path, model: Classifier, metadata: ExportMetadata, samples: SampleInputs, tell: Tell
) -> Exported:
    tell(f"Converting the model to {options.format}")
    preprocessing, fields = options.preprocessing, metadata.as_json()
    signature = model.reader.signature(preprocessing=preprocessing)
    if options.format == "safetensors":
        content = safetensors.to_bytes(model.network, fields)
        run = safetensors.runner(content, model.network)
    else:
        module: Any = onnx if options.format == "onnx" else torch_export
        content = module.to_bytes(model, fields, signature)
        run = module.runner(content, signature)
    tell("Comparing its logits with the model's")
    comparison, quantised = compare(model, run, samples.spread(_NUM_VERIFIED), preprocessing=preprocessing), None
    require_equal(comparison)
    if options.quantize is not None:
        tell("Quantising it, and comparing again")
        content = onnx.quantised(content)
        more = samples.spread(_NUM_MEASURED)
        quantised = compare(model, onnx.runner(content, signature), more, preprocessing=preprocessing)
    beside = model.reader.files()
    require_free(target, overwrite=options.overwrite)  # again, as the conversion takes a while
    _require_same_files(target.parent, beside, overwrite=options.overwrite)
    try:
        for name, kept in beside.items():
            write_atomically(target.parent / name, kept)
        write_atomically(target, content)
    except OSError as error:
        raise ConfigError("output", f"can't write {target} ({error.strerror})", fix="Use another output=.") from error
    return Exported(target, comparison, quantised, samples, model.task)


def _require_same_files(folder: Path, beside: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Checks that no file that is written beside an export replaces another one's."""
    for name, content in beside.items():
        path = folder / name
        if path.is_file() and not overwrite and path.read_bytes() != content:
            raise ConfigError(
                "output", f"{path} is that of another model", fix="Use another folder, or overwrite=true."
            )
