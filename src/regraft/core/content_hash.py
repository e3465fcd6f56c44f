"""Hashes of inputs, by their content alone, and of the code that stored results depend on."""

import hashlib
from functools import cache
from pathlib import Path

HASH_BYTES = 16


def content_hash(*parts: bytes | memoryview) -> bytes:
    """Returns the hash of the concatenated parts, HASH_BYTES long."""
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


@cache
def code_hash(*names: str) -> str:
    """Returns a hash of source files, given by their paths in the package, 32 hex digits."""
    return content_hash(*(Path(__file__).parents[1].joinpath(name).read_bytes() for name in names)).hex()
