"""Predicts images batch by batch, in constant memory; threads decode the next batch while the model computes."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.memory import is_out_of_memory
from regraft.data.images.transforms.mixing import normalise
from regraft.deployment.network import TrainedNetwork
from regraft.deployment.predict.decode import ImageLike, alone_if_large, hash_of_file, read_pixels, require_image
from regraft.deployment.predict.inputs import STDIN, find_inputs
from regraft.deployment.predict.results import Prediction, to_outputs, to_predictions
from regraft.deployment.predict.tta import NUM_VIEWS, TTAS, Tta, least_side, views_of
from regraft.features.lookup import FeatureLookup

_MAX_THREADS = 8

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class PreparedImage(NamedTuple):
    """The views of an image, or its stored features, or an error.

    Attributes:
        views: (num_views, num_channels, image_size, image_size), uint8.
        content_hash: of its file, if the features of the views are to be stored.
    """

    name: str | None
    views: Tensor | None = None
    error: str | None = None
    content_hash: bytes | None = None
    features: Tensor | None = None


def predict_batches(
    model: TrainedNetwork,
    images: Iterable[tuple[str | None, ImageLike]],
    *,
    top_k: int,
    tta: Tta,
    batch_size: int,
    lookup: FeatureLookup | None = None,
) -> Iterator[list[Prediction]]:
    """Yields the predictions of images, in their order, a batch at a time.

    For an image that can't be read or decoded, the prediction's error says why.

    Args:
        lookup: stored features of the model's frozen stages, if all images are files and `tta` is none.
    """
    assert lookup is None or tta == "none", "stored features are those of evaluation's view"
    pixel_format, side = model.input_spec.pixel_format, least_side(model, tta)

    def prepare(named: tuple[str | None, ImageLike]) -> PreparedImage:
        name, image = named
        try:
            hashed = None
            if lookup is not None:
                assert isinstance(image, Path), "images that are looked up are files"
                hashed = hash_of_file(image)
                features = lookup.find(hashed)
                if features is not None:
                    return PreparedImage(name, features=features)
            with alone_if_large(image, side):
                views = views_of(read_pixels(image, pixel_format, side), model, tta)
            if isinstance(image, Path) and hashed is not None and hash_of_file(image) != hashed:
                hashed = None  # the file has changed in between, so the features may be those of either content
            return PreparedImage(name, views, content_hash=hashed)
        except ValueError as error:
            return PreparedImage(name, error=str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return PreparedImage(name, error="it takes more memory than there is")

    num_images = max(1, batch_size // NUM_VIEWS[tta])
    with warnings.catch_warnings():
        # Pillow's warnings, of a large image or odd EXIF data, are reported elsewhere or harmless. The filter is set
        # here, as threads share the filters.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        prepared = _ahead(prepare, images, num_images)
        while batch := list(islice(prepared, num_images)):
            yield _predict_batch(model, batch, top_k, lookup)


def predict_images(model: TrainedNetwork, images: object, *, top_k: int, tta: Tta, batch_size: int) -> list[Prediction]:
    """Returns the predictions of images, in their order; `Classifier.predict` describes the arguments."""
    require_options(top_k, tta, batch_size)
    named: Iterable[tuple[str | None, ImageLike]]
    if isinstance(images, str | os.PathLike) and os.fspath(images) != STDIN:
        named = ((found.name, found.path) for found in find_inputs(os.fsdecode(images)).images)
    else:
        named = [_named(image) for image in _several(images)]
    batches = predict_batches(model, named, top_k=top_k, tta=tta, batch_size=batch_size)
    return [prediction for batch in batches for prediction in batch]


def require_options(top_k: object, tta: object, batch_size: object) -> None:
    """Raises an error if an option of a prediction has a value that isn't allowed."""
    for key, value in (("top_k", top_k), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(key, got=value, allowed="1, 2, 3, ...")
    if tta not in TTAS:
        raise ConfigError("tta", got=tta, allowed=TTAS)


def _predict_batch(
    model: TrainedNetwork, batch: list[PreparedImage], top_k: int, lookup: FeatureLookup | None
) -> list[Prediction]:
    readable = [each for each in batch if each.error is None]
    predictions: Iterator[Prediction] = iter(())
    if readable:
        names, probabilities = [each.name for each in readable], _probabilities(model, lookup, readable)
        predictions = iter(_predictions_of(model, names, probabilities.numpy(), top_k))
    return [next(predictions) if each.error is None else Prediction(each.name, error=each.error) for each in batch]


def _predictions_of(
    model: TrainedNetwork, names: list[str | None], outputs: np.ndarray, top_k: int
) -> list[Prediction]:
    if model.task.has_classes:
        return to_predictions(names, outputs, model.class_names, top_k, model.thresholds)
    return to_outputs(names, outputs, model.class_names, model.limits)


def _probabilities(model: TrainedNetwork, lookup: FeatureLookup | None, images: list[PreparedImage]) -> Tensor:
    """Returns probabilities, (num_images, num_classes)."""
    try:
        return _by_views(model, images) if lookup is None else _by_features(model, lookup, images)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        num_views = sum(1 if each.views is None else len(each.views) for each in images)
        fix = f"batch_size={num_views // 2}" if len(images) > 1 else "tta=none, or a machine with more memory"
        raise ConfigError(
            "batch_size", f"there is no memory for {num_views} views at once", fix=f"Use {fix}."
        ) from error


def _by_views(model: TrainedNetwork, images: list[PreparedImage]) -> Tensor:
    """Averages the probabilities over the views of each image."""
    views = torch.stack([each.views for each in images if each.views is not None])
    return model.probabilities(views.flatten(0, 1)).unflatten(0, views.shape[:2]).mean(1)


def _by_features(model: TrainedNetwork, lookup: FeatureLookup, images: list[PreparedImage]) -> Tensor:
    """Computes the features that aren't stored, and stores them."""
    features = [each.features for each in images]
    missing = [index for index, each in enumerate(features) if each is None]
    if missing:
        views = torch.cat([each.views for each in images if each.views is not None])
        hashes = [images[index].content_hash for index in missing]
        computed = lookup.compute(normalise(views.to(model.device), model.input_spec), hashes)
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


def _several(images: object) -> list[object]:
    """Returns single images as a list of one."""
    is_batch = isinstance(images, np.ndarray | Tensor) and images.ndim == 4
    is_one = isinstance(images, str | bytes | os.PathLike | Image.Image | np.ndarray | Tensor)
    if is_batch or (not is_one and isinstance(images, Iterable)):
        return list(images)  # type: ignore[call-overload]
    return [images]


def _named(image: object) -> tuple[str | None, ImageLike]:
    found = require_image(image)
    return (str(found) if isinstance(found, Path) else None), found
