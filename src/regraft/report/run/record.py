"""What a run's folder says of it, gathered for its report; files only, whatever is missing or damaged left out."""

import json
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from regraft.evaluation import temperature as calibration
from regraft.report.run_table import state_text
from regraft.runs import predictions as predictions_files
from regraft.runs import provenance
from regraft.runs import state as run_state
from regraft.runs.calibration import CALIBRATION, temperature_of
from regraft.runs.folder import SKIPPED, Run, find_checkpoint
from regraft.runs.predictions import Predictions

MetricsRow = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Record:
    """What is known of a run.

    Attributes:
        run: the run.
        state: how it stands, as one reads it.
        config: the resolved config; empty if it can't be read.
        results: see `Run.results`; empty of a run that hasn't finished.
        epochs: what was logged in each epoch, by name; the final test isn't among it.
        predictions: of the final test, or validation, at the run's temperature; None if none were kept.
        calibration: a sentence on the temperature, or on why it isn't applied; empty if none was fitted.
        class_names: by class index; numbers stand in for names that aren't known.
        commands: what was typed, for each session.
        skipped: why each image that was left out was, by its path.
    """

    run: Run
    state: str
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    epochs: list[MetricsRow]
    predictions: Predictions | None
    calibration: str
    class_names: tuple[str, ...]
    commands: list[str]
    skipped: Mapping[str, str]

    @property
    def reproducing(self) -> str:
        """The command that trains the run again, from where it lies."""
        return f"regraft reproduce run={shlex.quote(str(self.run.path))}"


def read_record(run: Run, *, is_ending: bool = False) -> Record:
    """Returns what a run's folder says.

    Args:
        run: the run.
        is_ending: whether its own process asks, which says that it has finished only when all is written.
    """
    predictions, sentence = _predictions(run)
    results = {name: value for name, value in map(_sound, _json(run, "results.json").items()) if value is not None}
    return Record(
        run=run,
        state="finished" if is_ending else state_text(run_state.read(run)),
        config=_config(run),
        results=results,
        epochs=_epochs(run),
        predictions=predictions,
        calibration=sentence,
        class_names=_class_names(run, results, predictions),
        commands=[_command(session) for session in provenance.sessions(run)],
        skipped=_json(run, SKIPPED),
    )


def _predictions(run: Run) -> tuple[Predictions | None, str]:
    """Returns a run's predictions at its temperature, and a sentence on that."""
    is_fitted = (run.path / CALIBRATION).is_file()
    predictions = predictions_files.read(run.path, with_probabilities=is_fitted)
    if predictions is None or predictions.split not in ("test", "val"):
        return None, ""
    if not is_fitted:
        return predictions, ""
    try:
        # The weights that were tested; see `training.results.final_metrics`.
        temperature = temperature_of(run, find_checkpoint(run.path, prefer="best"))
    except (OSError, ValueError) as error:
        return predictions, f"Confidences are those without a temperature: {error}"
    if temperature == 1:
        return predictions, "Confidences are those without a temperature: it was fitted for other weights."
    if predictions.probabilities is None:
        return (
            predictions,
            "Confidences are those without the temperature: the probabilities of all classes weren't kept.",
        )
    found = calibration.tempered(predictions.probabilities, temperature)
    # Which class is the most probable stays.
    confidences = found[np.arange(len(found)), predictions.predicted].astype(np.float32)
    return (
        replace(predictions, confidences=confidences, probabilities=None),
        f"Confidences are those at the temperature that was fitted on the run, {temperature:.4g}.",
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, int) for each in value)


_VALUES: Mapping[str, Callable[[Any], bool]] = {
    "metrics": _is_number,
    "seconds_of": _is_number,
    "class_counts": _is_counts,
}
"""Of results: what the values of a mapping have to be to be shown."""


def _sound(item: tuple[str, Any]) -> tuple[str, Any]:
    """Returns a result as far as it can be shown, None if it can't be."""
    name, value = item
    if name in _VALUES:
        is_sound = _VALUES[name]
        return name, {k: v for k, v in value.items() if is_sound(v)} if isinstance(value, dict) else None
    if name == "stages":
        return name, value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None
    if name == "seconds" or name.startswith("num_"):
        return name, value if _is_number(value) else None
    return name, value


def _config(run: Run) -> Mapping[str, Any]:
    try:
        config = run.config
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _json(run: Run, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads((run.path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _epochs(run: Run) -> list[MetricsRow]:
    """Returns a row an epoch: what training and validation logged in it, put together."""
    try:
        # Unlimited, because a run's every step is below infinity.
        rows = run.history(before_step=math.inf)  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError):
        return []
    epochs: dict[int, dict[str, float]] = {}
    for row in rows:
        if not any(name.startswith("test/") for name in row):
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
    for place, word in enumerate(words):
        if word.replace("\\", "/").rpartition("/")[2] in ("regraft", "regraft.exe"):
            return shlex.join(["regraft", *words[place + 1 :]])
    overrides = shlex.join(map(str, session.get("overrides", [])))
    return f"regraft.train({session.get('overrides', [])!r})" if overrides else "regraft.train([])"
