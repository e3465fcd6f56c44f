"""Reads a run's folder for its report; missing or damaged parts are left out."""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from regraft.config.quoting import key_of
from regraft.core.atomic import read_json
from regraft.core.errors import listed
from regraft.report.run.figures import Figures, figures_of
from regraft.report.tables import heads as heads_table
from regraft.report.tables.runs import state_text
from regraft.runs import outputs as outputs_files
from regraft.runs import predictions as predictions_files
from regraft.runs import provenance
from regraft.runs import state as run_state
from regraft.runs.calibration import CALIBRATION, temperature_of
from regraft.runs.folder import SKIPPED, Run, find_checkpoint
from regraft.runs.metrics_csv import rows_of
from regraft.runs.predictions import Predictions
from regraft.runs.thresholds import THRESHOLDS
from regraft.tasks import TASKS, Task

MetricsRow = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Record:
    """The data of a run's report.

    Attributes:
        has_ended: whether the run has finished, possibly by a limit.
        config: the resolved config; empty if it can't be read.
        choices: Hydra's choice in each config group; empty if it isn't known.
        typed: the keys given on the command line.
        results: of the finished run; empty if it hasn't finished.
        epochs: the logged metrics of each epoch.
        predictions: of the final test or validation, at the run's temperature; None if they weren't stored.
        calibration: a sentence on the temperature, or on why it isn't applied; empty if none was fitted.
        thresholds: a sentence on the thresholds that were fitted since; empty if none were.
        class_names: by class index; numbers if the names aren't known.
        figures: of several labels or numbers, in the place of predictions; None of classes.
    """

    run: Run
    state: str
    has_ended: bool
    config: Mapping[str, Any]
    choices: Mapping[str, str]
    typed: tuple[str, ...]
    results: Mapping[str, Any]
    epochs: list[MetricsRow]
    predictions: Predictions | None
    calibration: str
    thresholds: str
    class_names: tuple[str, ...]
    commands: list[str]
    skipped: Mapping[str, str]
    figures: Figures | None = None

    @property
    def task(self) -> Task:
        """The run's task."""
        return TASKS["classification"] if self.figures is None else self.figures.task

    @property
    def noun(self) -> str:
        """What an input is called."""
        found = self.results.get("noun")
        return found if isinstance(found, str) else "image"

    @property
    def nouns(self) -> str:
        """What several inputs are called."""
        return f"{self.noun}s"

    @property
    def reproducing(self) -> str:
        """The command that trains the run again."""
        return f"regraft reproduce run={shlex.quote(str(self.run.path))}"


def read_record(run: Run, *, is_ending: bool = False) -> Record:
    """Returns the record of a run; `is_ending` if the run's process calls this before it marks the run as finished."""
    predictions, sentence = _predictions(run)
    results = {
        name: value for name, value in map(_sound, read_json(run.path / "results.json").items()) if value is not None
    }
    names = _class_names(run, results, predictions)
    return Record(
        run=run,
        state="finished" if is_ending else state_text(run_state.read(run)),
        has_ended=is_ending or run_state.read(run).is_finished,
        config=run.readable_config,
        choices=run.choices,
        typed=_typed(run),
        results=results,
        epochs=_epochs(run),
        predictions=predictions,
        calibration=sentence,
        thresholds=_thresholds(run),
        class_names=names,
        figures=None if predictions is not None else figures_of(outputs_files.read(run.path), names, results),
        commands=[_command(session) for session in provenance.sessions(run)],
        skipped=read_json(run.path / SKIPPED),
    )


def _typed(run: Run) -> tuple[str, ...]:
    try:
        return tuple(key for key in map(key_of, map(str, run.overrides)) if key is not None)
    except (OSError, ValueError, TypeError):
        return ()


def _predictions(run: Run) -> tuple[Predictions | None, str]:
    """Returns a run's predictions at its temperature, and a sentence on that."""
    is_fitted = (run.path / CALIBRATION).is_file()
    predictions = predictions_files.read(run.path, with_probabilities=is_fitted)
    if predictions is None or predictions.split not in ("test", "val"):
        return None, ""
    if not is_fitted:
        return predictions, ""
    try:
        # The best checkpoint was tested; see `training.results.final_metrics`.
        temperature = temperature_of(run, find_checkpoint(run.path, prefer="best"))
    except (OSError, ValueError) as error:
        return predictions, f"Confidences are without a temperature: {error}"
    if temperature == 1:
        return predictions, "Confidences are without a temperature: it was fitted for other weights."
    if predictions.probabilities is None:
        return predictions, "Confidences are without a temperature: the probabilities of all classes weren't stored."
    from regraft.evaluation import temperature as calibration  # it imports scipy.optimize, which takes half a second

    found = calibration.tempered(predictions.probabilities, temperature)
    # The most probable class stays the same.
    confidences = found[np.arange(len(found)), predictions.predicted].astype(np.float32)
    tempered = replace(predictions, confidences=confidences, probabilities=None)
    return tempered, f"Confidences are at the run's fitted temperature, {temperature:.4g}."


def _thresholds(run: Run) -> str:
    kept = read_json(run.path / THRESHOLDS)
    values = kept.get("values")
    if not isinstance(values, dict) or not all(map(_is_number, values.values())):
        return ""
    shown = listed(f"{name} {value:.4g}" for name, value in values.items())
    return (
        f"Since then thresholds were fitted for {kept.get('metric')}: {shown}. Predictions, exports and the server use "
        "them; the figures here are without them."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, int) for each in value)


_VALUES: Mapping[str, Callable[[Any], bool]] = {
    "metrics": _is_number,
    "cross_validation": _is_number,
    "seconds_of": _is_number,
    "class_counts": _is_counts,
    "num_images": lambda value: type(value) is int,
}
"""Checks of the values of mappings in results.json."""


def _sound(item: tuple[str, Any]) -> tuple[str, Any]:
    """Returns the valid part of a result, None if there is none."""
    name, value = item
    if name in _VALUES:
        is_sound = _VALUES[name]
        return name, {k: v for k, v in value.items() if is_sound(v)} if isinstance(value, dict) else None
    if name == "stages":
        return name, value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None
    if name in ("closed_form", "initial_head"):
        return name, value if isinstance(value, list) and all(map(_is_pick, value)) else None
    if name == "heads":
        return name, value if _are_heads(value) else None
    if name == "seconds" or name.startswith("num_"):
        return name, value if _is_number(value) else None
    return name, value


def _is_pick(value: Any) -> bool:
    keys = {"share": _is_number, "alpha": _is_number, "solver": _is_text, "stages": _are_names}
    return isinstance(value, dict) and all(is_sound(value.get(key)) for key, is_sound in keys.items())


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _are_heads(value: Any) -> bool:
    try:
        found = [heads_table.cells(row, {"heads": value}) for row in value["rows"]]
        return bool(found) and all(isinstance(note, str) for note in value["notes"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _epochs(run: Run) -> list[MetricsRow]:
    """Returns a row for each epoch, also where validations in its middle have rows of their own."""
    epochs: dict[int, dict[str, float]] = {}
    for row in rows_of(run):
        if "epoch" in row:
            epochs.setdefault(int(row["epoch"]), {}).update(row)
    return [epochs[epoch] for epoch in sorted(epochs)]


def _class_names(run: Run, results: Mapping[str, Any], predictions: Predictions | None) -> tuple[str, ...]:
    try:
        with safe_open(run.tensors, "numpy") as file:
            return tuple(map(str, json.loads((file.metadata() or {})["class_names"])))
    except (OSError, SafetensorError, KeyError, ValueError):
        pass
    counts: list[int] = next(iter(results.get("class_counts", {}).values()), [])
    highest = 0 if predictions is None else 1 + max(predictions.targets.max(), predictions.predicted.max())
    return tuple(map(str, range(max(len(counts), int(highest)))))


def _command(session: Mapping[str, Any]) -> str:
    words = [str(word) for word in session.get("command", [])]
    # `python -m regraft` and the path of the installed script are the same command.
    for index, word in enumerate(words):
        if word.replace("\\", "/").rpartition("/")[2] in ("regraft", "regraft.exe"):
            return shlex.join(["regraft", *words[index + 1 :]])
    overrides = shlex.join(map(str, session.get("overrides", [])))
    return f"regraft.train({session.get('overrides', [])!r})" if overrides else "regraft.train([])"
