"""Free TCP ports for processes that bind them later."""

import random
import socket

# Below the ephemeral ports of Linux (32768 and up), which any connection of Ray may take before the port is bound, and
# above the ports that Ray gives its workers (10002 to 19999).
FIRST, LAST = 20000, 32767
TRIES = 100


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on now. Raises OSError if the host cannot be listened on."""
    for port in random.Random().sample(range(FIRST, LAST + 1), TRIES):  # not of the run's seed: two runs would meet
        try:
            return bindable(host, port)
        except OSError:
            continue
    return bindable(host, 0)


def bindable(host: str, port: int) -> int:
    """The port, or any if it is 0. Raises OSError or OverflowError if it cannot be listened on."""
    with socket.create_server((host, port)) as listening:
        return listening.getsockname()[1]
