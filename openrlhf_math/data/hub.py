"""The Hugging Face hub, or its absence."""

import functools
import os
import socket
import sys
import threading
from urllib.parse import urlsplit

PATIENCE_SECONDS = 4.0


def give_up_soon_without_network() -> None:
    """Where the hub cannot be reached, let its libraries use what they have on disk, and say at once what they lack.

    Left alone they ask six times, for half a minute. Call it before they are imported: they read the environment once.
    Behind a proxy nothing is tried, since only the proxy could tell.
    """
    libraries = {"huggingface_hub", "datasets", "transformers"} & set(sys.modules)
    proxied = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
    if not libraries and not proxied and not _reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


@functools.cache  # each command asks for several names
def _reachable(url: str) -> bool:
    place, found = urlsplit(url), threading.Event()

    def knock() -> None:
        try:
            address = place.hostname, place.port or (80 if place.scheme == "http" else 443)
            socket.create_connection(address, timeout=PATIENCE_SECONDS).close()
            found.set()
        except OSError:
            pass

    # In a thread, since looking a name up has no time limit of its own.
    knocking = threading.Thread(target=knock, daemon=True)
    knocking.start()
    knocking.join(PATIENCE_SECONDS)
    return found.is_set()
