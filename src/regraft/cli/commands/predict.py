"""Classify images with a trained run: regraft predict run=RUN input=IMAGE|FOLDER|GLOB."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.cli.command import RUN_REFERENCE, Command
from regraft.config.quoting import key_of, value_of
from regraft.config.trust import named_in
from regraft.core.console import Console
from regraft.core.errors import ConfigError
from regraft.core.startup import keep_freed_memory, quick_imports
from regraft.core.text import say

if TYPE_CHECKING:
    from regraft.deployment.predict.inputs import Inputs
    from regraft.deployment.predict.results import PredictionSummary

_VERBATIM = ("input", "output")


def run(arguments: Sequence[str]) -> None:
    """Predicts images; see the command's help."""
    config = _config(arguments)

    from regraft.deployment.predict.inputs import find_inputs
    from regraft.deployment.predict.writers import require_output

    if config["output"] is not None:
        require_output(config["output"])
    _predict(config, find_inputs(config["input"]))


def _config(arguments: Sequence[str]) -> dict[str, Any]:
    COMMAND.require_keys(arguments)
    if value_of("input", arguments) is None:
        raise ConfigError(
            "input", "it has no value yet", fix="Add input=PHOTO, a folder, a glob, a list.txt, or - for stdin."
        )
    composed = COMMAND.composed(arguments, _VERBATIM)
    given = {key: composed[key] for key in ("ckpt_path", "top_k", "tta", "batch_size", "device")}
    given |= {
        "features": dict(composed.features),
        "names_top_k": value_of("top_k", arguments) is not None,
        "trust": named_in([each for each in arguments if key_of(each) not in _VERBATIM]),
    }
    return given | {key: value_of(key, arguments) for key in _VERBATIM}


def _predict(config: dict[str, Any], inputs: "Inputs") -> None:
    """Predicts each image, and prints or writes the predictions."""
    with quick_imports():
        from regraft.core.console import image_progress_bar
        from regraft.data.findings import counted
        from regraft.deployment.load import device_named
        from regraft.deployment.predict.features import model_and_features
        from regraft.deployment.predict.layouts import layout_of
        from regraft.deployment.predict.pipeline import predict_batches, require_options
        from regraft.deployment.predict.results import PredictionSummary
        from regraft.deployment.predict.writers import STDOUT
        from regraft.report import prediction_table

    options = {key: config[key] for key in ("top_k", "tta", "batch_size")}
    require_options(**options)
    output, top_k = config["output"], config["top_k"]
    model, lookup = model_and_features(
        config["ckpt_path"],
        trust=config["trust"],
        device=device_named(config["device"]),
        settings=config["features"],
        tta=config["tta"],
    )
    if config["names_top_k"] and not model.task.has_classes:
        raise ConfigError("top_k", f"the run's task is {model.task.name}, of which all outputs are given", got=top_k)
    if model.device.type == "cpu":
        keep_freed_memory()
    # Messages mustn't be mixed with predictions.
    console = Console(stderr=output == STDOUT)
    progress = image_progress_bar(is_shown=console.is_terminal, title="Predicting", console=console)
    summary = PredictionSummary()
    images = ((found.name, found.path) for found in inputs.images)
    with _writer(output, layout_of(model, top_k)) as write, progress(inputs.num) as count:
        try:
            for batch in predict_batches(model, images, lookup=lookup, **options):
                write(batch)
                summary.add(batch)
                count(len(batch))
        finally:  # what has been computed before an error or Ctrl-C is kept
            if lookup is not None:
                lookup.flush()
    if output != STDOUT:
        prediction_table.show(summary, is_kept=output is not None)
    if lookup is not None and lookup.num_found:
        console.print(f"Features of {counted(lookup.num_found, 'image')} were read from {lookup.location}.")
    prediction_table.show_rest(summary, inputs.notes, console)
    if output not in (None, STDOUT):
        say(f"Wrote {counted(summary.num, 'row')}: {Path(output).expanduser().resolve()}")
    _require_any(summary)


def _writer(output: str | None, layout: Any) -> AbstractContextManager[Callable[[Sequence[Any]], None]]:
    """Gives the function that writes predictions."""
    from regraft.deployment.predict.writers import STDOUT, write_lines, writing

    if output is None:
        return nullcontext(lambda predictions: None)
    if output == STDOUT:
        return nullcontext(partial(write_lines, sys.stdout.buffer, layout))
    return writing(Path(output).expanduser(), layout)


def _require_any(summary: "PredictionSummary") -> None:
    """Checks that at least one image could be predicted."""
    from regraft.data.findings import readable

    if not summary.num:
        raise ConfigError("input", "no path came on stdin", allowed="one path per line")
    if summary.num_bad == summary.num:
        first = summary.bad[0]
        what = "the image couldn't be" if summary.num == 1 else f"none of the {summary.num:,} images could be"
        raise ConfigError("input", f"{what} predicted. {readable(first.name or '')}: {first.error}")


COMMAND = Command(
    name="predict",
    run=run,
    usage=(
        "regraft predict run=RUN input=PHOTO|FOLDER|GLOB|LIST.txt|- [output=FILE.csv|.jsonl|.parquet|-] [top_k=N] "
        "[tta=none|flip|five_crop|ten_crop]"
    ),
    details=f"""
The data that the run was trained on isn't needed. The exit status is 1 only if no image could be predicted.
{RUN_REFERENCE}""",
    config_name="predict",
    takes_run=True,
)
