"""The images of a run's mistakes for its report: a few at its end, all of them by `regraft report`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.runs.folder import Run, find_checkpoint

if TYPE_CHECKING:
    from regraft.data.datamodule import DataModule
    from regraft.deployment.classifier import Classifier
    from regraft.report.run.render import ShownImage
    from regraft.report.run.writing import Look
    from regraft.runs.predictions import Predictions

NEEDS_EXTRA = "pip install 'regraft[report]', then regraft report run=..."
_SECONDS_AT_THE_END = 0.5
"""Time that a run spends at its end on reading images; `regraft report` reads the rest."""


def quick(data: "DataModule") -> "Look":
    """Returns a `Look` at as many mistakes as half a second allows, from the data that the run has just used."""

    def look(predictions: "Predictions", indices: list[int]) -> "tuple[dict[int, ShownImage], dict[str, str]]":
        seen, notes = _images(data, predictions, indices, None, seconds=_SECONDS_AT_THE_END)
        return seen, notes | {"attention": "Where the model looked: regraft report run=... adds it."}

    return look


def thorough(run: Run, root: str | None, trust: Sequence[str]) -> "Look":
    """Returns a `Look` at all mistakes, with heat maps.

    Args:
        root: the current folder of the run's data; None for the one in its config.
    """

    def look(predictions: "Predictions", indices: list[int]) -> "tuple[Mapping[int, ShownImage], Mapping[str, str]]":
        from regraft.data.from_config import build_unread_datamodule
        from regraft.deployment.load import model_of
        from regraft.runs.checkpoint import read

        try:
            checkpoint = read(find_checkpoint(run.path, prefer="best", key="run"), trust)
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
                raise ValueError("the data has changed: its images, labels or classes differ.")
            model = model_of(checkpoint)
        except (OSError, ValueError) as error:
            return {}, {"gallery": f"The images can't be shown: {error}"}
        return _images(data, predictions, indices, model)

    return look


def _images(
    data: "DataModule",
    predictions: "Predictions",
    indices: list[int],
    model: "Classifier | None",
    seconds: float | None = None,
) -> "tuple[dict[int, ShownImage], dict[str, str]]":
    """Returns images of predictions by their index, and why images or heat maps are missing."""
    from regraft.data.images.showing import shown
    from regraft.report.run.render import ShownImage

    split = predictions.split
    if split not in data.sizes:
        return {}, {"gallery": f"The images can't be shown: the data no longer has a {split} split."}
    seen: dict[int, ShownImage] = {}
    notes: dict[str, str] = {}
    samples = [int(predictions.indices[index]) for index in indices]
    for number, view, file in shown(data, split, samples, seconds):
        heat = None
        if model is not None and "attention" not in notes:
            heat, note = _attention(model, view, int(predictions.predicted[indices[number]]))
            notes |= note
        pixels = view.expand(3, -1, -1) if view.shape[0] == 1 else view
        seen[indices[number]] = ShownImage(pixels.permute(1, 2, 0).numpy(), file, heat)
    if len(seen) < len(indices):
        why = "reading them takes longer; regraft report run=... does" if seconds else "they can no longer be read"
        notes["gallery"] = f"{len(indices) - len(seen)} of {len(indices)} images are missing: {why}."
    return seen, notes


def _attention(model: "Classifier", view: Any, class_index: int) -> tuple[Any, dict[str, str]]:
    from regraft.deployment.attribution import attention

    try:
        return attention(model, view, class_index).numpy(), {}
    except ImportError:
        return None, {"attention": f"Where the model looked needs captum: {NEEDS_EXTRA}"}
    except (ValueError, RuntimeError, AssertionError) as error:
        return None, {"attention": f"Where the model looked can't be shown: {error}"}
