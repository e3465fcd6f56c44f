"""`regraft export`: a trained model as a file that others read, kept only if it says what the model says."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft import __version__
from regraft.cli.commands.export import HELP, Asked, asked, place_of
from regraft.config.trust import named_in
from regraft.core.startup import quick_imports
from regraft.deployment.export.output_path import make_folder

if TYPE_CHECKING:
    from regraft.deployment.classifier import Classifier
    from regraft.deployment.export.metadata import Description
    from regraft.deployment.export.parity import Answers
    from regraft.deployment.export.program import Runner
    from regraft.deployment.export.sample_images import Pictures
    from regraft.runs.checkpoint import Checkpoint

_NUM_CHECKED = 32
_NUM_MEASURED = 1_000


def export(arguments: Sequence[str]) -> None:
    """Exports what the command line asks for.

    Args:
        arguments: see the verb's help.
    """
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return
    export_once(arguments)


def export_once(overrides: Sequence[str]) -> Path:
    """Exports a model and returns where it lies; see `regraft.export`."""
    what = asked(overrides)
    target = place_of(what)
    make_folder(target.parent)
    with quick_imports():
        import torch

        from regraft.cli.commands.export_pictures import pictures_of
        from regraft.deployment.export.metadata import require_distinct
        from regraft.deployment.export.onnx import require_onnx
        from regraft.deployment.load import model_of
        from regraft.report import export_table
        from regraft.runs.checkpoint import read

    if what.format == "onnx":
        require_onnx()
    checkpoint = read(what.checkpoint, named_in(overrides))
    names = tuple(checkpoint.class_names) if what.class_names is None else what.class_names
    if len(names) != len(checkpoint.class_names):
        raise ValueError(f"class_names: got {len(names)}; the run has {len(checkpoint.class_names)} classes.")
    require_distinct(names)
    model = model_of(checkpoint, device=torch.device("cpu"))
    pictures = pictures_of(checkpoint, model, what.images)
    description = _description(checkpoint, model, names, what)
    answers, measured = _write(what, target, model, description, pictures)
    export_table.show(target, answers, measured, pictures)
    return target


def _description(checkpoint: "Checkpoint", model: "Classifier", names: tuple[str, ...], what: Asked) -> "Description":
    from regraft.deployment.export.metadata import Description

    run = what.run
    return Description(
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
    what: Asked, target: Path, model: "Classifier", description: "Description", pictures: "Pictures"
) -> tuple["Answers", "Answers | None"]:
    """Writes the file or folder, unless it differs from the model.

    Returns:
        What model and file said of some pictures; and of more of them model and quantised file, if it is one.
    """
    from regraft.core.atomic import write_atomically
    from regraft.deployment.export import hf_hub
    from regraft.deployment.export.output_path import require_free, whole_folder

    checked = pictures.spread(_NUM_CHECKED)
    if what.format == "hf":
        with whole_folder(target, overwrite=what.overwrite) as folder:
            hf_hub.write(model, description, folder)
            return _require_parity(model, hf_hub.runner(folder), checked), None
    content, run = _converted(what, model, description.metadata())
    answers, measured = _require_parity(model, run, checked, preprocessing=what.preprocessing), None
    if what.quantize is not None:
        from regraft.deployment.export import onnx
        from regraft.deployment.export.parity import compare

        content = onnx.quantised(content)
        more = pictures.spread(_NUM_MEASURED)
        measured = compare(model, onnx.runner(content), more, preprocessing=what.preprocessing)
    require_free(target, overwrite=what.overwrite)  # again: it took its time
    try:
        write_atomically(target, content)
    except OSError as error:
        raise OSError(f"output: can't write {target} ({error.strerror}). Fix: another output=.") from error
    return answers, measured


def _require_parity(
    model: "Classifier", run: "Runner", pictures: "Pictures", *, preprocessing: bool = False
) -> "Answers":
    from regraft.deployment.export.parity import compare, require_parity

    answers = compare(model, run, pictures, preprocessing=preprocessing)
    require_parity(answers)
    return answers


def _converted(what: Asked, model: "Classifier", metadata: dict[str, str]) -> tuple[bytes, "Runner"]:
    """Returns the file's content, in float32, and what runs it."""
    from regraft.deployment.export import onnx, safetensors, torch_export

    if what.format == "safetensors":
        content = safetensors.to_bytes(model.network, metadata)
        return content, safetensors.runner(content, model.network)
    module: Any = onnx if what.format == "onnx" else torch_export
    content = module.to_bytes(model, metadata, preprocessing=what.preprocessing)
    return content, module.runner(content)
