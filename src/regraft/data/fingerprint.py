"""A data set's content hash: equal for equal pixels, labels and class names in equal order, wherever they lie."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from regraft.data.images import ArrayImages, FileImages, Images, Splits

_NUM_THREADS = 8

_CHUNK = 64


def fingerprint(splits: Splits) -> str:
    """Returns 32 hex digits over every image's bytes (of files: the files' bytes), every label and the class names.

    Files are read whole, about as fast as the disk gives them. Names, folders and times don't count.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(splits.class_names).encode())
    for name, images in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        if images is not None:
            digest.update(f"{name}:{len(images)}".encode())
            digest.update(images.labels.numpy().data)
            for content in _contents(images):
                digest.update(content)
    return digest.hexdigest()


def _contents(images: Images) -> Iterator[bytes | memoryview]:
    """Yields what stands for the pixels: an array's shape and bytes, or the digest of each file."""
    if isinstance(images, ArrayImages):
        yield str(tuple(images.pixels.shape)).encode()
        yield images.pixels.numpy().data
        return
    # Hashing and reading both release the interpreter lock.
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        chunks = [range(start, min(start + _CHUNK, len(images))) for start in range(0, len(images), _CHUNK)]
        yield from pool.map(partial(_file_digests, images), chunks)


def _file_digests(images: FileImages, indices: range) -> bytes:
    """Returns the digests of some files, end to end."""
    return b"".join(hashlib.blake2b(images.path(index).read_bytes(), digest_size=16).digest() for index in indices)
