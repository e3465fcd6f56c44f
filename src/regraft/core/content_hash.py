"""Content hashes of inputs: the same for the same content, wherever it is stored and whenever it was written."""

import hashlib

HASH_BYTES = 16


def content_hash(*parts: bytes | memoryview) -> bytes:
    """Returns the hash of the concatenated parts, HASH_BYTES long."""
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()
