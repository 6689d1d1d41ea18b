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

    Left alone they ask six times, for half a minute. They read the environment once, when they are imported, so the
    constants of those that are imported already are set, too. HF_HUB_OFFLINE of the user is respected, 0 as well as 1.
    Behind a proxy nothing is tried, since only the proxy could tell.
    """
    proxied = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
    if "HF_HUB_OFFLINE" in os.environ or proxied or _reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in ("huggingface_hub.constants", "datasets.config"):
        if module := sys.modules.get(name):
            vars(module)["HF_HUB_OFFLINE"] = True


def why_missing(name: str, error: BaseException, kind: str = "model") -> str | None:
    """Why a hub name could not be loaded, and the fix, if the hub is out of reach; None for any other error.

    error: of transformers or datasets, which raise it from one of the hub. kind: model or dataset.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause: BaseException | None = error
    while cause and not isinstance(cause, (LocalEntryNotFoundError, ConnectionError)):
        cause = cause.__cause__ or cause.__context__
    if cause is None or os.path.isdir(name):
        return None
    download = f"hf download {'' if kind == 'model' else f'--repo-type {kind} '}{name}"
    return (
        "it is not in the local cache, and the Hugging Face hub is out of reach (no network, or HF_HUB_OFFLINE is "
        f"set); download it where there is a network (`{download}`), or give its files"
    )


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
