"""A chat endpoint on loopback whose replies a test makes up: a real server, for judges."""

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Mapping

# From the body and the headers of a request to the status of the reply and its content.
Answer = Callable[[dict, Mapping[str, str]], tuple[int, str]]


class ChatServer:
    """Answers on `url` while the block runs."""

    def __init__(self, answer: Answer) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                code, content = answer(body, self.headers)
                message = {"role": "assistant", "content": content}
                reply = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                with contextlib.suppress(OSError):  # the client was killed
                    self.wfile.write(reply)

            def log_message(self, *what):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()
