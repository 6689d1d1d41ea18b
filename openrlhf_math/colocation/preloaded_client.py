"""What Ray runs in place of Python for a worker: `python -I -S preloaded_client.py SOCKET SCRIPT ARGUMENTS`.

Asks `preloaded.py` for a fork that runs SCRIPT (or `-m MODULE`), and waits for its end. It imports only the standard
library, to start within milliseconds.
"""

import json
import os
import socket
import sys

YES, NO = b"y", b"n"
# For the imports of the other side, which take as long here. Ray gives a worker a minute to report, and starts another
# when it is over: on a machine so slow that one gets a fork at once.
SECONDS = 50.0
STANDARD = (0, 1, 2)
MOST = 1 << 24  # bytes of a request


def main(path: str, words: list[str]) -> int:
    client = asked(path, words)
    if client is None:
        os.execv(sys.executable, [sys.executable, *words])
    client.settimeout(None)
    try:
        status = int.from_bytes(client.recv(4) or b"\1", "little", signed=True)
    except KeyboardInterrupt:  # the end of this connection ends the fork
        return 130
    return status if status >= 0 else 128 - status  # as a shell gives the number of a signal


def asked(path: str, words: list[str]) -> "socket.socket | None":
    """The connection to a process that has forked; None if it cannot, or does not within SECONDS."""
    request = {"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}
    data = json.dumps(request).encode()
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(SECONDS)
    try:
        client.connect(path)
        socket.send_fds(client, [len(data).to_bytes(4, "little")], STANDARD)
        client.sendall(data)
        if client.recv(1) == YES:
            return client
    except OSError:
        pass
    client.close()
    return None


def received(client: socket.socket) -> "tuple[dict, list[int]]":
    """A request and its three descriptors. Raises OSError or ValueError if it is none."""
    head, descriptors, _, _ = socket.recv_fds(client, 4, len(STANDARD))
    size = int.from_bytes(head, "little")
    data = b""
    while len(data) < size <= MOST:
        part = client.recv(size - len(data))
        if not part:
            break
        data += part
    if len(data) != size or len(descriptors) != len(STANDARD):
        for descriptor in descriptors:
            os.close(descriptor)
        raise ValueError("no request")
    return json.loads(data), descriptors


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
