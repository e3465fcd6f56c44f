"""Classify images with a trained run: regraft predict run=RUN input=IMAGE|FOLDER|GLOB."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from regraft.cli.command import Command
from regraft.config import compose
from regraft.config.quoting import key_of, value_of
from regraft.config.trust import look_beside, named_in
from regraft.core.startup import keep_freed_memory, quick_imports
from regraft.runs.arguments import require_run, with_checkpoint

if TYPE_CHECKING:
    from regraft.deployment.predict.inputs import Inputs
    from regraft.deployment.predict.results import PredictionSummary

_DETAILS = """
run=RUN        a run's folder, last, best, or a part of its name; ckpt_path=FILE takes a checkpoint
input=         a photo; a folder, whose images are found at any depth; a glob, whose files are all taken; a .txt file
               with a path a line, relative to its own folder; or - for such lines on stdin (`find -print0` works too)
output=        a file of rows, one for each picture, also for those that couldn't be predicted (column `error`); it
               is there once it is whole. - prints JSON lines on stdout as they come, and nothing else there
top_k=5        how many classes are named for each picture, the most probable first
tta=none       views whose probabilities are averaged: flip (2), five_crop (5), ten_crop (10)
batch_size=32  views that the network takes at once
device=auto    cpu, cuda, cuda:1, mps, ...
features.cache=auto  reads what the store of features has of a picture, and adds what it lacks, if the run's backbone is
               in it; on puts it there, off computes everything again. features.dir=PATH: another store than the run's
trust=[...]    modules of yours that the checkpoint may name
output_dir=    where runs are looked for (outputs)

The data that the run was trained on isn't needed. It ends with 1 only if no picture at all could be predicted."""
# Taken as they are: a file may be called what Hydra's grammar reads otherwise.
_VERBATIM = ("input", "output")


def run(arguments: Sequence[str]) -> None:
    """Predicts what the command line asks for.

    Args:
        arguments: see the command's help.

    Raises:
        FileNotFoundError: there is no such run, or no such picture.
        ValueError: something else is wrong with the command, or no picture could be predicted.
    """
    config = _composed(arguments)

    from regraft.deployment.predict.inputs import find_inputs
    from regraft.deployment.predict.writers import require_output

    if config["output"] is not None:
        require_output(config["output"])
    _predict(config, find_inputs(config["input"]))


def _composed(arguments: Sequence[str]) -> dict[str, Any]:
    """Returns the command's config.

    Raises:
        ValueError: a flag, a key that is unknown, given twice or lacking.
    """
    COMMAND.require_keys(arguments)
    if value_of("input", arguments) is None:
        raise ValueError("input: it has no value yet; add input=PHOTO, a folder, a glob, a list.txt, or - for stdin.")
    require_run(arguments)
    others = [argument for argument in arguments if key_of(argument) not in _VERBATIM]
    trust = named_in(others)
    look_beside(trust)
    composed = compose.compose_once("predict", with_checkpoint(others), None)
    given = {key: composed[key] for key in ("ckpt_path", "top_k", "tta", "batch_size", "device")}
    given["features"] = dict(composed.features)
    return given | {"trust": trust} | {key: value_of(key, arguments) for key in _VERBATIM}


def _predict(config: dict[str, Any], inputs: "Inputs") -> None:
    """Asks the model about each picture; shows the answers, and writes them where they are wanted."""
    with quick_imports():
        from regraft.core.console import image_progress_bar
        from regraft.data.findings import counted
        from regraft.deployment.load import device_named
        from regraft.deployment.predict.features import model_and_features
        from regraft.deployment.predict.pipeline import predict_batches, require_options
        from regraft.deployment.predict.results import PredictionSummary
        from regraft.deployment.predict.writers import STDOUT
        from regraft.report import prediction_table

    options = {key: config[key] for key in ("top_k", "tta", "batch_size")}
    require_options(**options)
    output, top_k = config["output"], config["top_k"]
    model, features = model_and_features(
        config["ckpt_path"],
        trust=config["trust"],
        device=device_named(config["device"]),
        settings=config["features"],
        tta=config["tta"],
    )
    if model.device.type == "cpu":
        keep_freed_memory()
    # What is shown besides the answers mustn't be mixed with them.
    said = Console(stderr=output == STDOUT)
    progress = image_progress_bar(is_shown=said.is_terminal, title="Predicting", console=said)
    tally = PredictionSummary()
    pictures = ((picture.name, picture.path) for picture in inputs.pictures)
    with _writer(output, min(top_k, len(model.class_names))) as write, progress(inputs.num) as count:
        try:
            for batch in predict_batches(model, pictures, features=features, **options):
                write(batch)
                tally.add(batch)
                count(len(batch))
        finally:  # what has been computed before an error or Ctrl-C is kept
            if features is not None:
                features.flush()
    if output != STDOUT:
        prediction_table.show(tally, is_kept=output is not None)
    if features is not None and features.num_found:
        said.print(f"Features of {counted(features.num_found, 'picture')} were read from {features.location}.")
    prediction_table.show_rest(tally, inputs.notes, said)
    if output not in (None, STDOUT):
        print(f"Wrote {counted(tally.num, 'row')}: {Path(output).expanduser().resolve()}")
    _require_any(tally)


def _writer(output: str | None, top_k: int) -> AbstractContextManager[Callable[[Sequence[Any]], None]]:
    """Returns what gives the function that writes predictions to where they are wanted."""
    from regraft.deployment.predict.writers import STDOUT, write_lines, writing

    if output is None:
        return nullcontext(lambda predictions: None)
    if output == STDOUT:
        return nullcontext(partial(write_lines, sys.stdout.buffer))
    return writing(Path(output).expanduser(), top_k)


def _require_any(tally: "PredictionSummary") -> None:
    """Refuses to end as if it had worked, when nothing has.

    Raises:
        ValueError: no picture was given, or none could be predicted.
    """
    from regraft.data.findings import readable

    if not tally.num:
        raise ValueError("input: no path came on stdin. Expected: a path a line.")
    if tally.num_bad == tally.num:
        first = tally.bad[0]
        what = "the picture couldn't be" if tally.num == 1 else f"none of the {tally.num:,} pictures could be"
        raise ValueError(f"input: {what} predicted. {readable(first.name or '')}: {first.error}.")


COMMAND = Command(
    name="predict",
    run=run,
    usage=(
        "regraft predict run=RUN input=PHOTO|FOLDER|GLOB|LIST.txt|- [output=FILE.csv|.jsonl|.parquet|-] [top_k=N] "
        "[tta=none|flip|five_crop|ten_crop]"
    ),
    details=_DETAILS,
    config_name="predict",
    takes_run=True,
)
