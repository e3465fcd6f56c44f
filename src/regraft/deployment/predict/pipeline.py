"""Pictures through a trained model, a batch at a time: the next ones are decoded while it computes.

Only what the next batches need is in memory, however many pictures there are.
"""

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
from regraft.deployment.predict.results import Prediction, answers
from regraft.deployment.predict.tta import NUM_VIEWS, TTAS, Tta, least_side, views_of

_MAX_THREADS = 8

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class StoredFeatures(Protocol):
    """Features of pictures between runs; see `features.pictures`."""

    depth: int

    def find(self, digest: bytes) -> Tensor | None:
        """Returns a picture's row, if there is one."""

    def compute(self, images: Tensor, digests: list[bytes | None]) -> Tensor:
        """Returns the rows of normalised images, and keeps them."""


class Seen(NamedTuple):
    """A picture's views, or its stored features, or why there are neither.

    Attributes:
        name: of the picture.
        views: (num_views, num_channels, image_size, image_size), uint8.
        error: why it couldn't be seen.
        digest: of its file's content, where features are stored, and that is certain.
        row: its stored features.
    """

    name: str | None
    views: Tensor | None = None
    error: str | None = None
    digest: bytes | None = None
    row: Tensor | None = None


def predicted(
    model: TrainedNetwork,
    pictures: Iterable[tuple[str | None, Picture]],
    *,
    top_k: int,
    tta: Tta,
    batch_size: int,
    features: StoredFeatures | None = None,
) -> Iterator[list[Prediction]]:
    """Yields what a model says of pictures, in their order, a batch at a time.

    A picture that can't be read or decoded has a prediction that says why; the others are predicted all the same.

    Args:
        model: to ask.
        pictures: the name of each and the picture; taken as they are wanted.
        top_k: how many classes are named, at most.
        tta: the views whose probabilities are averaged, see `test_time.views_of`.
        batch_size: views that the network takes at once.
        features: of the model's frozen part, if all pictures are in files and `tta` is none.
    """
    assert features is None or tta == "none", "what is stored is evaluation's view"
    num_channels, side = model.input_spec.num_channels, least_side(model, tta)

    def see(named: tuple[str | None, Picture]) -> Seen:
        name, picture = named
        try:
            digest = None
            if features is not None:
                digest = _digest(picture)
                row = features.find(digest)
                if row is not None:
                    return Seen(name, row=row)
            with alone_if_large(picture, side):
                views = views_of(read_pixels(picture, num_channels, side), model, tta)
            if digest is not None and _digest(picture) != digest:
                digest = None  # it has changed in between: which of the two was seen can't be told
            return Seen(name, views, digest=digest)
        except ValueError as error:
            return Seen(name, error=str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return Seen(name, error="it takes more memory than there is")

    num_pictures = max(1, batch_size // NUM_VIEWS[tta])
    with warnings.catch_warnings():
        # What Pillow warns of, a large picture or odd EXIF, is told or harmless. Here, and not in each thread:
        # threads share the filters.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        seen = _ahead(see, pictures, num_pictures)
        while batch := list(islice(seen, num_pictures)):
            yield _answered(model, batch, top_k, features)


def _digest(picture: Picture) -> bytes:
    assert isinstance(picture, Path), "pictures that are looked up are in files"
    return content_digest(picture)


def predict_images(model: TrainedNetwork, images: object, *, top_k: int, tta: Tta, batch_size: int) -> list[Prediction]:
    """Returns what a model says of images, in their order; see `Classifier.predict`.

    Raises:
        FileNotFoundError: a single path names nothing.
        ValueError: an option's value, or what is no image.
    """
    require_options(top_k, tta, batch_size)
    named: Iterable[tuple[str | None, Picture]]
    if isinstance(images, str | os.PathLike) and os.fspath(images) != STDIN:
        named = ((found.name, found.path) for found in find_inputs(os.fsdecode(images)).pictures)
    else:
        named = [_named(image) for image in _several(images)]
    batches = predicted(model, named, top_k=top_k, tta=tta, batch_size=batch_size)
    return [prediction for batch in batches for prediction in batch]


def require_options(top_k: object, tta: object, batch_size: object) -> None:
    """Checks the options of a prediction.

    Raises:
        ValueError: one of them has a value that isn't allowed.
    """
    for key, value in (("top_k", top_k), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{key}: got {value!r}; allowed: 1, 2, 3, ...")
    if tta not in TTAS:
        raise ValueError(f"tta: got {tta!r}; allowed: {', '.join(TTAS)}.")


def _answered(
    model: TrainedNetwork, batch: list[Seen], top_k: int, features: StoredFeatures | None
) -> list[Prediction]:
    """Returns what the model says of a batch; the probabilities of a picture's views are averaged."""
    seen = [each for each in batch if each.error is None]
    told: Iterator[Prediction] = iter(())
    if seen:
        ask = partial(_by_views, model) if features is None else partial(_by_features, model, features)
        probabilities = _with_memory(ask, seen)
        told = iter(answers([each.name for each in seen], probabilities.numpy(), model.class_names, top_k))
    return [next(told) if each.error is None else Prediction(each.name, error=each.error) for each in batch]


def _by_views(model: TrainedNetwork, seen: list[Seen]) -> Tensor:
    """Returns the probabilities of pictures, (num_pictures, num_classes), averaged over the views of each."""
    views = torch.stack([each.views for each in seen if each.views is not None])
    return model.probabilities(views.flatten(0, 1)).unflatten(0, views.shape[:2]).mean(1)


def _by_features(model: TrainedNetwork, features: StoredFeatures, seen: list[Seen]) -> Tensor:
    """Returns the probabilities of pictures, (num_pictures, num_classes), by features that are there or computed."""
    rows = [each.row for each in seen]
    new = [place for place, row in enumerate(rows) if row is None]
    if new:
        views = torch.cat([each.views for each in seen if each.views is not None])
        digests = [each.digest for each in seen if each.row is None]
        computed = features.compute(normalise(views.to(model.device), model.input_spec), digests)
        for place, row in zip(new, computed.cpu(), strict=True):
            rows[place] = row
    return model.probabilities_above(torch.stack([row for row in rows if row is not None]), features.depth)


def _with_memory(probabilities: Callable[[list[Seen]], Tensor], seen: list[Seen]) -> Tensor:
    """Returns what a function gives of pictures.

    Raises:
        ValueError: there isn't enough memory for them at once.
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
    """Yields what a function gives of items, in their order, computed by threads, at most so many ahead."""
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
