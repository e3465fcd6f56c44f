"""The hash of an image's content. No torch: a check of files needs no more than this."""

import hashlib

DIGEST_BYTES = 16


def digest_of(*parts: bytes | memoryview) -> bytes:
    """Returns the hash of an image's content, DIGEST_BYTES long."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()
