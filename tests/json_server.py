"""A server of JSON on loopback, whose replies a test makes up."""

import contextlib
import http.server
import json
import sys
import threading
from collections.abc import Callable, Mapping

# From the path, the body (None of a GET) and the headers of a request to the status of the reply and its JSON.
Reply = Callable[[str, dict | None, Mapping[str, str]], tuple[int, dict]]


class JsonServer:
    """Replies on `url` while the block runs."""

    def __init__(self, reply: Reply) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send(None)

            def do_POST(self):
                self.send(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def send(self, body: dict | None) -> None:
                status, what = reply(self.path, body, self.headers)
                text = json.dumps(what).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                with contextlib.suppress(OSError):  # the client was killed
                    self.wfile.write(text)

            def log_message(self, *what):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        told = self._server.handle_error
        self._server.handle_error = lambda *of: None if isinstance(sys.exception(), ConnectionError) else told(*of)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()
