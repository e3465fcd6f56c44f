"""`regraft report`: a run's report, anew; and the quick one that a run writes at its end."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.arguments import handle_in, key_of, output_dir, value_of
from regraft.cli_words import USAGES
from regraft.composition import unknown
from regraft.handles import find_run
from regraft.runs import Run, find_checkpoint
from regraft.startup import quick_imports
from regraft.trust import look_beside, named_in

if TYPE_CHECKING:
    from regraft.data.datamodule import ImageDataModule
    from regraft.predictions.files import Predictions
    from regraft.report.run.pictures import Seen
    from regraft.report.run.writing import Look
    from regraft.trained import TrainedModel

log = logging.getLogger(__name__)

_KEYS = ("run", "output_dir", "data.root", "trust")
_SECONDS_AT_THE_END = 0.5
"""That a run spends at its end on reading pictures of mistakes; the rest is for `regraft report`."""
_MISSING = "pip install 'regraft[report]', then regraft report run=..."


def report(arguments: Sequence[str]) -> None:
    """Writes the report of a run, with everything that takes time; see the verb's help.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: something is wrong with the command.
    """
    for argument in arguments:
        if argument.startswith("-") or "=" not in argument:
            raise ValueError(f"report: got {argument!r}; allowed: {USAGES['report']}")
        if key_of(argument) not in _KEYS:
            raise ValueError(f"report: {unknown('key', str(key_of(argument)), _KEYS)}")
    run = find_run(handle_in(arguments), output_dir(arguments))
    trust = named_in(arguments)
    look_beside(trust)
    with quick_imports():
        from regraft.report.run.figures import write_figures
        from regraft.report.run.writing import write_report

    page, record, errors = write_report(run, _thorough(run, value_of("data.root", arguments), trust))
    print(f"Wrote {page}, and report.md beside it")
    try:
        for path in write_figures(record, errors, run.path):
            print(f"Wrote {path}")
    except ImportError:
        print(f"No PNGs, because matplotlib isn't installed: {_MISSING}")


def report_at_the_end(run: Run, data: "ImageDataModule") -> None:
    """Writes the report of a run that has just ended; whatever goes wrong is a warning, because the run went well."""
    try:
        from regraft.report.run.writing import write_report

        write_report(run, _quick(data), is_ending=True)
    except Exception as error:
        log.warning("There is no report.html: %s: %s. regraft report run=%s", type(error).__name__, error, run.path)


def _quick(data: "ImageDataModule") -> "Look":
    def look(predictions: "Predictions", places: list[int]) -> "tuple[dict[int, Seen], dict[str, str]]":
        seen, notes = _pictures(data, predictions, places, None, seconds=_SECONDS_AT_THE_END)
        return seen, notes | {"attention": "Where the model looked: regraft report run=... adds it."}

    return look


def _thorough(run: Run, root: str | None, trust: Sequence[str]) -> "Look":
    def look(predictions: "Predictions", places: list[int]) -> "tuple[Mapping[int, Seen], Mapping[str, str]]":
        from regraft import build
        from regraft.checkpoints.reading import read

        try:
            checkpoint = read(find_checkpoint(run.path, prefer="best", key="run"), trust)
            config: dict[str, Any] = checkpoint.config
            if root is not None:
                config = config | {"data": config["data"] | {"root": root}}
            data = build.datamodule(config, checkpoint.input_spec, checkpoint)
            model = build.model_of(checkpoint)
        except (OSError, ValueError) as error:
            return {}, {"gallery": f"The pictures can't be shown: {error}"}
        return _pictures(data, predictions, places, model)

    return look


def _pictures(
    data: "ImageDataModule",
    predictions: "Predictions",
    places: list[int],
    model: "TrainedModel | None",
    seconds: float | None = None,
) -> "tuple[dict[int, Seen], dict[str, str]]":
    """Returns the pictures at some places of the predictions, and why some, or where the model looked, are missing."""
    from regraft.data.showing import shown
    from regraft.report.run.pictures import Seen

    split = predictions.split
    if split not in data.sizes or not _is_same(data, predictions):
        return {}, {"gallery": f"The pictures can't be shown: the data's {split} split isn't what it was."}
    seen: dict[int, Seen] = {}
    notes: dict[str, str] = {}
    indices = [int(predictions.indices[place]) for place in places]
    for number, view, file in shown(data, split, indices, seconds):
        heat = None
        if model is not None and "attention" not in notes:
            heat, note = _attention(model, view, int(predictions.predicted[places[number]]))
            notes |= note
        pixels = view.expand(3, -1, -1) if view.shape[0] == 1 else view
        seen[places[number]] = Seen(pixels.permute(1, 2, 0).numpy(), file, heat)
    if len(seen) < len(places):
        why = "reading them takes longer; regraft report run=... does" if seconds else "they can't be read any more"
        notes["gallery"] = f"Of {len(places)} pictures {len(places) - len(seen)} are missing: {why}."
    return seen, notes


def _is_same(data: "ImageDataModule", predictions: "Predictions") -> bool:
    indices, labels = data.indices(predictions.split).tolist(), data.labels(predictions.split).tolist()
    found = dict(zip(indices, labels, strict=True))
    pairs = zip(predictions.indices.tolist(), predictions.targets.tolist(), strict=True)
    return all(found.get(index) == target for index, target in pairs)


def _attention(model: "TrainedModel", view: Any, class_index: int) -> tuple[Any, dict[str, str]]:
    from regraft.attention import attention

    try:
        return attention(model, view, class_index).numpy(), {}
    except ImportError:
        return None, {"attention": f"Where the model looked needs captum: {_MISSING}"}
    except (ValueError, RuntimeError, AssertionError) as error:
        return None, {"attention": f"Where the model looked can't be shown: {error}"}
