"""Seeds derived from their purpose."""

import hashlib


def derived_seed(name: str) -> int:
    """A seed, 0 to 2^31 - 1, out of a text that names its use: the same in every run, another for another name."""
    digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[:4], "big") >> 1
