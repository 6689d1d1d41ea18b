"""Seeds from what they are for."""

import hashlib


def derived_seed(*parts: object) -> int:
    """A seed, 0 to 2^31 - 1, that differs wherever a part does."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[:4], "big") >> 1
