"""The inputs of a run's mistakes for its report: a few at its end, all of them by `regraft report`."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from regraft.runs.folder import Run, find_checkpoint

if TYPE_CHECKING:
    from regraft.data.datamodule import DataModule
    from regraft.deployment.classifier import Classifier
    from regraft.report.run.render import Shown
    from regraft.report.run.writing import Look
    from regraft.runs.predictions import Predictions

_SECONDS_AT_THE_END = 0.5
"""Time that a run spends at its end on reading inputs; `regraft report` reads the rest."""


def quick(data: "DataModule") -> "Look":
    """Returns a `Look` at as many mistakes as half a second allows, from the data that the run has just used."""

    def look(predictions: "Predictions", indices: list[int]) -> "tuple[dict[int, Shown], dict[str, str]]":
        seen, notes = _seen(data, predictions, indices, None, seconds=_SECONDS_AT_THE_END)
        return seen, notes | {"attention": _gallery(data).LATER}

    return look


def thorough(run: Run, root: str | None, trust: Sequence[str]) -> "Look":
    """Returns a `Look` at all mistakes, with what mattered in them.

    Args:
        root: the current folder of the run's data; None for the one in its config.
    """

    def look(predictions: "Predictions", indices: list[int]) -> "tuple[Mapping[int, Shown], Mapping[str, str]]":
        from regraft.data.from_config import build_unread_datamodule
        from regraft.deployment.load import model_of
        from regraft.runs.checkpoint import read

        nouns = "inputs"
        try:
            checkpoint = read(find_checkpoint(run.path, prefer="best", key="run"), trust)
            nouns = checkpoint.input_spec.nouns
            config: dict[str, Any] = checkpoint.config
            if root is not None:
                config = config | {"data": config["data"] | {"root": root}}
            data = build_unread_datamodule(config, checkpoint.input_spec, checkpoint)
            if not data.is_here:
                raise FileNotFoundError("the data would have to be downloaded. data.root=PATH looks elsewhere.")
            data.prepare_data()
            data.setup("fit")
            # Labels alone wouldn't show that an image file was replaced.
            if data.fingerprint != checkpoint.fingerprint:
                raise ValueError(f"the data has changed: its {nouns}, labels or classes differ.")
            model = model_of(checkpoint)
        except (OSError, ValueError) as error:
            return {}, {"gallery": f"The {nouns} can't be shown: {error}"}
        return _seen(data, predictions, indices, model)

    return look


def _seen(
    data: "DataModule",
    predictions: "Predictions",
    indices: list[int],
    model: "Classifier | None",
    seconds: float | None = None,
) -> "tuple[dict[int, Shown], dict[str, str]]":
    """Returns inputs of predictions by their index, and why inputs or what mattered in them are missing."""
    split, nouns = predictions.split, data.input_spec.nouns
    if split not in data.sizes:
        return {}, {"gallery": f"The {nouns} can't be shown: the data no longer has a {split} split."}
    notes: dict[str, str] = {}
    samples = [int(predictions.indices[index]) for index in indices]
    classes = [int(predictions.predicted[index]) for index in indices]
    found = _gallery(data).gallery(data, split, samples, classes, model, seconds, notes)
    seen = {indices[number]: shown for number, shown in found}
    if len(seen) < len(indices):
        why = "reading them takes longer; regraft report run=... does" if seconds else "they can no longer be read"
        notes["gallery"] = f"{len(indices) - len(seen)} of {len(indices)} {nouns} are missing: {why}."
    return seen, notes


def _gallery(data: "DataModule") -> Any:
    return import_module(f"regraft.report.run.{data.input_spec.kind}_gallery")
