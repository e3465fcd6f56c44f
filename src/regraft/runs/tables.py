"""What a run has recorded, as tables: epochs, predictions and confusion matrix; and the run itself in a notebook."""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from regraft.core.errors import ConfigError
from regraft.core.table import Table
from regraft.runs import outputs as outputs_files
from regraft.runs import predictions as predictions_files
from regraft.runs.predictions import Predictions
from regraft.tasks import HEADLINES


def history(logged: Sequence[Mapping[str, Any]]) -> Table:
    """Returns a row for each epoch, with the metrics of training and validation, of the rows of metrics.csv."""
    epochs: dict[int, dict[str, Any]] = {}
    for row in logged:
        if "epoch" in row and not any(name.startswith("test/") for name in row):
            epochs.setdefault(row["epoch"], {}).update(row)
    rows = [epochs[epoch] for epoch in sorted(epochs)]
    names = ["epoch", "step", *sorted({name for row in rows for name in row} - {"epoch", "step"})]
    return Table({name: [row.get(name) for row in rows] for name in names}, index="epoch")


def predictions(folder: Path) -> Table:
    """Returns a row for each image of the final test, or validation.

    It holds the true and predicted class, and the probability; for several labels the probability of each, and for
    numbers the prediction of each, with the true value. `index` is the image's place in the data set's split.

    Raises:
        ConfigError: there are none.
    """
    outputs = outputs_files.read(folder)
    if outputs is not None:
        names = _class_names(folder / "model.safetensors") or list(map(str, range(outputs.targets.shape[1])))
        columns: dict[str, Any] = {"index": outputs.indices.tolist()}
        for place, name in enumerate(names):
            columns[f"true {name}"] = outputs.targets[:, place].tolist()
            columns[name] = outputs.outputs[:, place].tolist()
        return Table(columns, index="index")
    found, names = _predictions(folder)
    return Table(
        {
            "index": found.indices.tolist(),
            "true": [names[place] for place in found.targets.tolist()],
            "predicted": [names[place] for place in found.predicted.tolist()],
            "probability": found.confidences.tolist(),
            "correct": (found.targets == found.predicted).tolist(),
        },
        index="index",
    )


def confusion(folder: Path) -> Table:
    """Returns the confusion matrix: a row for each true class, with the number of images predicted as each class.

    Raises:
        ConfigError: there are no predictions.
    """
    found, names = _predictions(folder)
    counts = [[0] * len(names) for _ in names]
    for true, predicted in zip(found.targets.tolist(), found.predicted.tolist(), strict=True):
        counts[true][predicted] += 1
    columns = dict(zip(names, zip(*counts, strict=True), strict=True))
    return Table({"true class": names, **columns}, index="true class")  # a class may be called true


def _predictions(folder: Path) -> tuple[Predictions, list[str]]:
    if (outputs := outputs_files.read(folder)) is not None:
        raise ConfigError("run", "only classes have a confusion matrix", got=f"task={outputs.task}")
    found = predictions_files.read(folder)
    if found is None or found.targets.ndim != 1 or found.targets.dtype.kind != "i":
        fix = "A run that has ended stores them; regraft.evaluate measures it again."
        raise ConfigError("run", f"{folder} has no predictions of classes", fix=fix)
    names = _class_names(folder / "model.safetensors")
    number = 1 + max(len(names) - 1, int(found.targets.max()), int(found.predicted.max()))
    return found, [*names, *map(str, range(len(names), number))]


def _class_names(weights: Path) -> list[str]:
    try:
        with safe_open(weights, "numpy") as file:
            return list(map(str, json.loads((file.metadata() or {})["class_names"])))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return []


def summary(folder: Path, status: str, metrics: Mapping[str, Any]) -> str:
    """Returns a line on a run: its folder, state and headline metric, else its first one."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    name = next((name for name in (*HEADLINES, *numbers) if name in numbers), None)
    return f"Run({str(folder)!r}, {status}{'' if name is None else f', {name} {numbers[name]:.4f}'})"


def to_html(folder: Path, status: str, metrics: Mapping[str, Any]) -> str:
    """Returns a run for a notebook: its folder, state and metrics, and where its report is."""
    rows = [("folder", str(folder)), ("state", status)]
    rows += [(name, f"{value:.4f}" if isinstance(value, float) else str(value)) for name, value in metrics.items()]
    report = folder / "report.html"
    rows += [("report", str(report))] if report.is_file() else []
    cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"
