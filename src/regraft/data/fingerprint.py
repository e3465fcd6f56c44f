"""Content hashes of images and of a whole data set. Where images lie, and when they came there, doesn't count."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regraft.data.content_hash import DIGEST_BYTES, digest_of
from regraft.data.sources.base import ArrayImages, FileImages, Images, Splits

_NUM_THREADS = 8
_CHUNK = 64
_WORTH_THREADS = 2**16  # bytes a file


def fingerprint(splits: Splits, file_digests: Mapping[FileImages, np.ndarray]) -> str:
    """Returns 32 hex digits over every image's bytes (of files: the files' bytes), every label and the class names.

    Equal for equal pixels, labels and class names in equal order.

    Args:
        splits: the data set.
        file_digests: of each split of files, `image_digests` of all its images.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    digest.update(json.dumps(splits.class_names).encode())
    for name, images in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        if images is not None:
            digest.update(f"{name}:{len(images)}".encode())
            digest.update(images.labels.numpy().data)
            for content in _contents(images, file_digests):
                digest.update(content)
    return digest.hexdigest()


def image_digests(images: Images, indices: Tensor) -> np.ndarray:
    """Returns the hash of each image's content, (num_indices, DIGEST_BYTES), uint8.

    Of an array its shape and pixels; of a file its bytes, read whole, about as fast as the disk gives them, unless this
    process has read them already.

    Raises:
        OSError: a file can't be read.
    """
    if isinstance(images, ArrayImages):
        pixels = images.pixels.numpy()
        shape = str(pixels.shape[1:]).encode()
        whole = b"".join(digest_of(shape, pixels[index].data) for index in indices.tolist())
    elif images.digests is not None:
        digests = images.digests[indices.numpy()]
        is_lacking = torch.from_numpy(~digests.any(1))
        if is_lacking.any():
            unread = replace(images, digests=None)
            digests[is_lacking.numpy()] = image_digests(unread, indices[is_lacking])
        return digests
    else:
        first, *rest = indices.split(_CHUNK) if len(indices) else [indices]
        num_bytes = sum(images.path(index).stat().st_size for index in first.tolist())
        # Reading and hashing release the interpreter lock, but to take it again costs more than a small file.
        num_threads = _NUM_THREADS if num_bytes > _WORTH_THREADS * len(first) else 1
        with ThreadPoolExecutor(num_threads) as pool:
            whole = b"".join(pool.map(partial(_file_digests, images), [first, *rest]))
    return np.frombuffer(whole, np.uint8).reshape(-1, DIGEST_BYTES)


def _contents(images: Images, file_digests: Mapping[FileImages, np.ndarray]) -> Iterator[bytes | memoryview]:
    """Yields what stands for the pixels: an array's shape and bytes, or the digest of each file."""
    if isinstance(images, ArrayImages):
        yield str(tuple(images.pixels.shape)).encode()
        yield images.pixels.numpy().data
    else:
        yield file_digests[images].data


def _file_digests(images: FileImages, indices: Tensor) -> bytes:
    """Returns the digests of some files, end to end."""
    return b"".join(map(_file_digest, map(images.path, indices.tolist())))


def _file_digest(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        return digest_of(file.read())
