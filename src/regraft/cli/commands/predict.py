"""Classify images or texts with a trained run: regraft predict run=RUN input=IMAGE|FOLDER|GLOB|TABLE."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import ListConfig

from regraft.cli.command import RUN_REFERENCE, Command
from regraft.cli.interrupts import saying_what_is_kept
from regraft.config.quoting import key_of, value_of
from regraft.config.trust import named_in
from regraft.core.console import Console
from regraft.core.errors import ConfigError
from regraft.core.remote import is_remote, output_at
from regraft.core.startup import keep_freed_memory, quick_imports
from regraft.core.text import say

if TYPE_CHECKING:
    from regraft.deployment.predict.results import PredictionSummary

_VERBATIM = ("input", "text", "output")


def run(arguments: Sequence[str]) -> None:
    """Predicts inputs; see the command's help."""
    config = _config(arguments)

    from regraft.deployment.predict.inputs import require_there
    from regraft.deployment.predict.writers import require_output

    if config["output"] is not None:
        require_output(config["output"])
    if config["input"] is not None:
        require_there(config["input"])
    _predict(config)


def _config(arguments: Sequence[str]) -> dict[str, Any]:
    COMMAND.require_keys(arguments)
    given = [key for key in ("input", "text") if value_of(key, arguments) is not None]
    if not given:
        fix = "Add input=PHOTO, a folder, a glob, a list.txt, or - for stdin; or texts: input=TABLE.csv, or text=TEXT."
        key = "text" if "text" in map(key_of, arguments) else "input"
        raise ConfigError(key, "it has no value yet", fix=fix)
    if len(given) > 1:
        raise ConfigError("text", "input has a value, too", fix="Give one of them.")
    composed = COMMAND.composed(arguments, _VERBATIM)
    options: dict[str, Any] = {
        key: composed[key] for key in ("ckpt_path", "top_k", "tta", "batch_size", "device", "engine")
    }
    options |= {
        "features": dict(composed.features),
        "names_top_k": value_of("top_k", arguments) is not None,
        "trust": named_in([each for each in arguments if key_of(each) not in _VERBATIM]),
    }
    return options | {"column": _columns(composed.column)} | {key: value_of(key, arguments) for key in _VERBATIM}


def _columns(given: Any) -> list[str] | None:
    """Returns the names in `column=`."""
    names = [given] if isinstance(given, str) else given
    if names is not None and not (isinstance(names, ListConfig) or isinstance(given, str)):
        raise ConfigError("column", got=given, allowed="the name of a column, or [several,of,them]")
    return None if names is None else list(map(str, names))


def _predict(config: dict[str, Any]) -> None:
    """Predicts each input, and prints or writes the predictions."""
    with quick_imports():
        from regraft.core.console import image_progress_bar, steps_shown
        from regraft.data.findings import counted
        from regraft.deployment.load import device_named
        from regraft.deployment.predict.features import model_and_features
        from regraft.deployment.predict.layouts import layout_of
        from regraft.deployment.predict.pipeline import predict_batches, require_options
        from regraft.deployment.predict.results import PredictionSummary
        from regraft.deployment.predict.writers import STDOUT
        from regraft.report.tables import predictions as prediction_table

    options = {key: config[key] for key in ("top_k", "tta", "batch_size")}
    require_options(options["top_k"], options["batch_size"])
    output, top_k = config["output"], config["top_k"]
    model, lookup = model_and_features(
        config["ckpt_path"],
        trust=config["trust"],
        device=device_named(config["device"]),
        engine=config["engine"],
        settings=config["features"],
        tta=config["tta"],
    )
    reader, noun = model.reader, model.input_spec.kind
    reader.require_tta(config["tta"])
    found = (
        reader.of_text(config["text"]) if config["input"] is None else reader.found(config["input"], config["column"])
    )
    if config["names_top_k"] and not model.task.has_classes:
        raise ConfigError("top_k", f"the run's task is {model.task.name}, of which all outputs are given", got=top_k)
    if config["engine"] == "onnx":  # after all mistakes, as the export takes long
        from regraft.deployment.onnx_engine import with_onnx

        with steps_shown() as tell:
            model = with_onnx(model, tell)
    if model.device.type == "cpu":
        keep_freed_memory()
    # Messages mustn't be mixed with predictions.
    console = Console(stderr=output == STDOUT)
    progress = image_progress_bar(
        is_shown=console.is_terminal, title="Predicting", console=console, nouns=model.input_spec.nouns
    )
    summary = PredictionSummary()
    kept = nullcontext() if lookup is None else saying_what_is_kept()
    with kept, _writer(output, layout_of(model, top_k)) as write, progress(found.num) as count:
        try:
            for batch in predict_batches(model, found.inputs, lookup=lookup, **options):
                write(batch)
                summary.add(batch)
                count(len(batch))
        finally:  # what has been computed before an error or Ctrl-C is kept
            if lookup is not None:
                lookup.flush()
    if model.engine is not None:
        console.print(f"Computed by {model.engine}", soft_wrap=True)
    if output != STDOUT:
        prediction_table.show(summary, noun, is_kept=output is not None)
    if lookup is not None and lookup.num_found:
        console.print(f"Features of {counted(lookup.num_found, noun)} were read from {lookup.location}.")
    prediction_table.show_rest(summary, noun, found.notes, console)
    if output not in (None, STDOUT):
        place = output if is_remote(output) else Path(output).expanduser().resolve()
        say(f"Wrote {counted(summary.num, 'row')}: {place}")
    _require_any(summary, config["input"], reader.column, noun)


@contextmanager
def _writer(output: str | None, layout: Any) -> Iterator[Callable[[Sequence[Any]], None]]:
    """Yields the function that writes predictions."""
    from regraft.deployment.predict.writers import STDOUT, write_lines, writing

    if output is None:
        yield lambda predictions: None
    elif output == STDOUT:
        yield partial(write_lines, sys.stdout.buffer, layout)
    else:
        with output_at(output, "output") as path, writing(path, layout) as write:
            yield write


def _require_any(summary: "PredictionSummary", given: str | None, column: str, noun: str) -> None:
    """Checks that at least one input could be predicted."""
    from regraft.data.findings import readable
    from regraft.deployment.predict.inputs import STDIN

    if not summary.num:
        where = "came on stdin" if given == STDIN else f"in {readable(given or '')}"
        raise ConfigError("input", f"no {column} {where}", allowed=f"one {column} per line")
    if summary.num_bad == summary.num:
        first = summary.bad[0]
        what = f"the {noun} couldn't be" if summary.num == 1 else f"none of the {summary.num:,} {noun}s could be"
        raise ConfigError("input", f"{what} predicted. {readable(first.name or '')}: {first.error}")


COMMAND = Command(
    name="predict",
    run=run,
    usage=(
        "regraft predict run=RUN input=PHOTO|FOLDER|SHARD.tar|GLOB|LIST.txt|- [output=FILE.csv|.jsonl|.parquet|-] "
        "[top_k=N] [tta=none|flip|five_crop|ten_crop]"
    ),
    details=f"""
The data that the run was trained on isn't needed. The exit status is 1 only if nothing could be predicted.
Texts: input=TABLE.csv|.tsv|.jsonl|.parquet [column=NAME], input=FILE with a text a line, input=FOLDER|GLOB
with a text in each file, or text="A text".
{RUN_REFERENCE}""",
    config_name="predict",
    takes_run=True,
)
