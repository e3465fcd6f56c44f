"""Predicts images batch by batch, in constant memory; threads decode the next batch while the model computes."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regraft.core.memory import is_out_of_memory
from regraft.data.images.transforms.mixing import normalise
from regraft.deployment.network import TrainedNetwork
from regraft.deployment.predict.decode import Picture, alone_if_large, content_digest, read_pixels, require_picture
from regraft.deployment.predict.inputs import STDIN, find_inputs
from regraft.deployment.predict.results import Prediction, to_predictions
from regraft.deployment.predict.tta import NUM_VIEWS, TTAS, Tta, least_side, views_of

_MAX_THREADS = 8

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class StoredFeatures(Protocol):
    """Stored features of image files, such as `features.lookup.PictureFeatures`."""

    depth: int

    def find(self, digest: bytes) -> Tensor | None:
        """Returns the features of an image, if they are stored."""

    def compute(self, images: Tensor, digests: list[bytes | None]) -> Tensor:
        """Returns the features of normalised images, and stores them."""


class PreparedImage(NamedTuple):
    """The views of an image, or its stored features, or an error.

    Attributes:
        name: of the image.
        views: (num_views, num_channels, image_size, image_size), uint8.
        error: why it can't be read.
        digest: of the file's content, if features are to be stored and the file hasn't changed meanwhile.
        row: its stored features.
    """

    name: str | None
    views: Tensor | None = None
    error: str | None = None
    digest: bytes | None = None
    row: Tensor | None = None


def predict_batches(
    model: TrainedNetwork,
    pictures: Iterable[tuple[str | None, Picture]],
    *,
    top_k: int,
    tta: Tta,
    batch_size: int,
    features: StoredFeatures | None = None,
) -> Iterator[list[Prediction]]:
    """Yields the predictions of images, in their order, a batch at a time.

    For an image that can't be read or decoded, the prediction's error says why.

    Args:
        model: the trained network.
        pictures: pairs of name and image, consumed lazily.
        top_k: number of classes in a prediction, at most.
        tta: the views whose probabilities are averaged, see `tta.views_of`.
        batch_size: views in a forward pass.
        features: of the model's frozen stages, if all images are files and `tta` is none.
    """
    assert features is None or tta == "none", "stored features are those of evaluation's view"
    num_channels, side = model.input_spec.num_channels, least_side(model, tta)

    def see(named: tuple[str | None, Picture]) -> PreparedImage:
        name, picture = named
        try:
            digest = None
            if features is not None:
                digest = _digest(picture)
                row = features.find(digest)
                if row is not None:
                    return PreparedImage(name, row=row)
            with alone_if_large(picture, side):
                views = views_of(read_pixels(picture, num_channels, side), model, tta)
            if digest is not None and _digest(picture) != digest:
                digest = None  # the file has changed in between, so the features may be those of either content
            return PreparedImage(name, views, digest=digest)
        except ValueError as error:
            return PreparedImage(name, error=str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return PreparedImage(name, error="it takes more memory than there is")

    num_pictures = max(1, batch_size // NUM_VIEWS[tta])
    with warnings.catch_warnings():
        # Pillow's warnings, of a large image or odd EXIF data, are reported elsewhere or harmless. The filter is set
        # here, as threads share the filters.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        seen = _ahead(see, pictures, num_pictures)
        while batch := list(islice(seen, num_pictures)):
            yield _predict_batch(model, batch, top_k, features)


def _digest(picture: Picture) -> bytes:
    assert isinstance(picture, Path), "pictures that are looked up are in files"
    return content_digest(picture)


def predict_images(model: TrainedNetwork, images: object, *, top_k: int, tta: Tta, batch_size: int) -> list[Prediction]:
    """Returns the predictions of images, in their order; `Classifier.predict` describes the arguments."""
    require_options(top_k, tta, batch_size)
    named: Iterable[tuple[str | None, Picture]]
    if isinstance(images, str | os.PathLike) and os.fspath(images) != STDIN:
        named = ((found.name, found.path) for found in find_inputs(os.fsdecode(images)).pictures)
    else:
        named = [_named(image) for image in _several(images)]
    batches = predict_batches(model, named, top_k=top_k, tta=tta, batch_size=batch_size)
    return [prediction for batch in batches for prediction in batch]


def require_options(top_k: object, tta: object, batch_size: object) -> None:
    """Raises an error if an option of a prediction has a value that isn't allowed."""
    for key, value in (("top_k", top_k), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{key}: got {value!r}; allowed: 1, 2, 3, ...")
    if tta not in TTAS:
        raise ValueError(f"tta: got {tta!r}; allowed: {', '.join(TTAS)}.")


def _predict_batch(
    model: TrainedNetwork, batch: list[PreparedImage], top_k: int, features: StoredFeatures | None
) -> list[Prediction]:
    """Returns the predictions of a batch, with the probabilities averaged over views."""
    seen = [each for each in batch if each.error is None]
    predictions: Iterator[Prediction] = iter(())
    if seen:
        compute = partial(_by_views, model) if features is None else partial(_by_features, model, features)
        probabilities = _with_memory(compute, seen)
        predictions = iter(
            to_predictions([each.name for each in seen], probabilities.numpy(), model.class_names, top_k)
        )
    return [next(predictions) if each.error is None else Prediction(each.name, error=each.error) for each in batch]


def _by_views(model: TrainedNetwork, seen: list[PreparedImage]) -> Tensor:
    """Returns probabilities, (num_images, num_classes), averaged over the views of each image."""
    views = torch.stack([each.views for each in seen if each.views is not None])
    return model.probabilities(views.flatten(0, 1)).unflatten(0, views.shape[:2]).mean(1)


def _by_features(model: TrainedNetwork, features: StoredFeatures, seen: list[PreparedImage]) -> Tensor:
    """Returns probabilities, (num_images, num_classes), from stored features; missing ones are computed and stored."""
    rows = [each.row for each in seen]
    new = [index for index, row in enumerate(rows) if row is None]
    if new:
        views = torch.cat([each.views for each in seen if each.views is not None])
        digests = [each.digest for each in seen if each.row is None]
        computed = features.compute(normalise(views.to(model.device), model.input_spec), digests)
        for index, row in zip(new, computed.cpu(), strict=True):
            rows[index] = row
    return model.probabilities_above(torch.stack([row for row in rows if row is not None]), features.depth)


def _with_memory(probabilities: Callable[[list[PreparedImage]], Tensor], seen: list[PreparedImage]) -> Tensor:
    """Returns the probabilities of images.

    Raises:
        ValueError: there isn't enough memory for all of them at once.
    """
    try:
        return probabilities(seen)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        num_views = sum(1 if each.views is None else len(each.views) for each in seen)
        fix = f"batch_size={num_views // 2}" if len(seen) > 1 else "tta=none, or a machine with more memory"
        raise ValueError(f"batch_size: there is no memory for {num_views} views at once. Fix: {fix}.") from error


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


def _named(image: object) -> tuple[str | None, Picture]:
    picture = require_picture(image)
    return (str(picture) if isinstance(picture, Path) else None), picture
