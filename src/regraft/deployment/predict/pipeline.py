"""Predicts inputs batch by batch, in constant memory; threads read the next ones while the model computes."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.memory import is_out_of_memory
from regraft.core.startup import freed_memory_returned, keep_freed_memory
from regraft.deployment.network import TrainedNetwork
from regraft.deployment.predict.results import Prediction, to_outputs, to_predictions
from regraft.deployment.reader import NamedInput
from regraft.features.lookup import FeatureLookup

_MAX_THREADS = 8

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class PreparedInput(NamedTuple):
    """The views of an input, or its stored features, or an error.

    Attributes:
        views: (num_views, ...), from `Reader.views`.
        content_hash: of the input, if the features of the views are to be stored.
    """

    name: str | None
    views: Tensor | None = None
    error: str | None = None
    content_hash: bytes | None = None
    features: Tensor | None = None


def predict_batches(
    model: TrainedNetwork,
    inputs: Iterable[NamedInput],
    *,
    top_k: int,
    tta: str,
    batch_size: int,
    lookup: FeatureLookup | None = None,
) -> Iterator[list[Prediction]]:
    """Yields the predictions of inputs, in their order, some at a time.

    For an input that can't be read, the prediction's error says why. Inputs share a batch only with those whose views
    have the same shape.

    Args:
        lookup: stored features of the model's frozen stages, if all images are files and `tta` is none.
    """
    assert lookup is None or tta == "none", "stored features are those of evaluation's view"
    reader = model.reader

    def prepare(named: NamedInput) -> PreparedInput:
        name, item = named
        try:
            hashed = None
            if lookup is not None:
                hashed = reader.content_hash(item)
                assert hashed is not None, "images that are looked up are files"
                features = lookup.find(hashed)
                if features is not None:
                    return PreparedInput(name, features=features)
            views = reader.views(item, tta)
            if hashed is not None and reader.content_hash(item) != hashed:
                hashed = None  # the file has changed in between, so the features may be those of either content
            return PreparedInput(name, views, content_hash=hashed)
        except ValueError as error:
            return PreparedInput(name, error=str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return PreparedInput(name, error="it takes more memory than there is")

    num_ahead, num_inputs = reader.num_at_once(batch_size, tta)
    with warnings.catch_warnings():
        # Pillow's warnings, of a large image or odd EXIF data, are reported elsewhere or harmless. The filter is set
        # here, as threads share the filters.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        prepared = _ahead(prepare, inputs, num_ahead)
        while some := list(islice(prepared, num_ahead)):
            yield _predict_some(model, some, top_k, lookup, num_inputs)


def predict_inputs(model: TrainedNetwork, inputs: object, *, top_k: int, tta: str, batch_size: int) -> list[Prediction]:
    """Returns the predictions of inputs, in their order; `Classifier.predict` describes the arguments."""
    require_options(top_k, batch_size)
    model.reader.require_tta(tta)
    rest = iter(model.reader.named(inputs))
    first = list(islice(rest, batch_size + 1))
    batches = predict_batches(model, chain(first, rest), top_k=top_k, tta=tta, batch_size=batch_size)
    with freed_memory_returned():
        # Giving memory back takes longer than to predict a photo.
        if len(first) > batch_size and model.device.type == "cpu":
            keep_freed_memory()
        return [prediction for batch in batches for prediction in batch]


def require_options(top_k: object, batch_size: object) -> None:
    """Raises an error if an option of a prediction has a value that isn't allowed."""
    for key, value in (("top_k", top_k), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(key, got=value, allowed="1, 2, 3, ...")


def _predict_some(
    model: TrainedNetwork, some: list[PreparedInput], top_k: int, lookup: FeatureLookup | None, num_inputs: int
) -> list[Prediction]:
    """Returns the predictions of inputs, computed in batches of at most `num_inputs`."""
    found: dict[int, Prediction] = {}
    for positions in _alike([(index, each) for index, each in enumerate(some) if each.error is None]):
        for start in range(0, len(positions), num_inputs):
            chosen = positions[start : start + num_inputs]
            batch = [some[index] for index in chosen]
            outputs = _probabilities(model, lookup, batch, num_inputs).numpy()[: len(batch)]
            names = [each.name for each in batch]
            found |= zip(chosen, _predictions_of(model, names, outputs, top_k), strict=True)
    return [found.get(index) or Prediction(each.name, error=each.error) for index, each in enumerate(some)]


def _alike(inputs: list[tuple[int, PreparedInput]]) -> list[list[int]]:
    """Returns the positions of inputs, those of one shape together; those with stored features are with the first."""
    groups: dict[Any, list[int]] = {}
    stored = next((each.views.shape for _, each in inputs if each.views is not None), None)
    for index, each in inputs:
        groups.setdefault(stored if each.views is None else each.views.shape, []).append(index)
    return list(groups.values())


def _predictions_of(
    model: TrainedNetwork, names: list[str | None], outputs: np.ndarray, top_k: int
) -> list[Prediction]:
    if model.task.has_classes:
        return to_predictions(names, outputs, model.class_names, top_k, model.thresholds)
    return to_outputs(names, outputs, model.class_names, model.limits)


def _probabilities(
    model: TrainedNetwork, lookup: FeatureLookup | None, batch: list[PreparedInput], num_inputs: int
) -> Tensor:
    """Returns probabilities, (num_inputs, num_classes), of inputs whose views have one shape."""
    missing = num_inputs - len(batch) if model.reader.fills_batches else 0
    inputs = [*batch, *[batch[0]._replace(content_hash=None)] * missing]
    try:
        return _by_views(model, inputs) if lookup is None else _by_features(model, lookup, inputs)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        num_views = sum(1 if each.views is None else len(each.views) for each in inputs)
        fix = f"batch_size={num_views // 2}" if len(inputs) > 1 else model.reader.in_memory
        raise ConfigError(
            "batch_size", f"there is no memory for {num_views} views at once", fix=f"Use {fix}."
        ) from error


def _by_views(model: TrainedNetwork, inputs: list[PreparedInput]) -> Tensor:
    """Averages the probabilities over the views of each input."""
    views = torch.stack([each.views for each in inputs if each.views is not None])
    return model.probabilities(views.flatten(0, 1)).unflatten(0, views.shape[:2]).mean(1)


def _by_features(model: TrainedNetwork, lookup: FeatureLookup, inputs: list[PreparedInput]) -> Tensor:
    """Computes the features that aren't stored, and stores them."""
    features = [each.features for each in inputs]
    missing = [index for index, each in enumerate(features) if each is None]
    if missing:
        views = torch.cat([each.views for each in inputs if each.views is not None])
        hashes = [inputs[index].content_hash for index in missing]
        computed = lookup.compute(model.reader.network_input(views.to(model.device)), hashes)
        for index, each in zip(missing, computed.cpu(), strict=True):
            features[index] = each
    return model.probabilities_from(torch.stack([each for each in features if each is not None]), lookup.depth)


def _ahead(function: Callable[[_Item], _Result], items: Iterable[_Item], num_ahead: int) -> Iterator[_Result]:
    """Yields a function's results for items, in their order, computed by threads at most `num_ahead` items ahead."""
    pending: deque[Future[_Result]] = deque()
    pool = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > num_ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
