"""A server of `prompt_logprobs` as vLLM's, on loopback, over a tiny model of Transformers."""

import contextlib
import http.server
import json
import threading
from collections.abc import Callable

import torch


class ScoringServer:
    """Answers on `url` while the block runs. requests: bodies of completions that came, with bad ones.

    faults: taken one by one before a completion is answered: a status, or a function from the reply to another.
    """

    def __init__(self, model, tokenizer, names=("teacher",), context: int | None = 4096) -> None:
        self.model, self.tokenizer, self.names, self.context = model, tokenizer, names, context
        self.requests: list[dict] = []
        self.faults: list[int | Callable[[dict], dict]] = []
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.reply(200, {"data": [{"id": name, "max_model_len": served.context} for name in served.names]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/detokenize":
                    return self.reply(200, {"prompt": served.tokenizer.decode(body["tokens"])})
                served.requests.append(body | {"key": self.headers.get("Authorization")})
                fault = served.faults.pop(0) if served.faults else lambda reply: reply
                if isinstance(fault, int):
                    return self.reply(fault, {"error": {"message": "made up"}})
                return self.reply(200, fault(served.answer(body)))

            def reply(self, status: int, what: dict) -> None:
                text = json.dumps(what).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(text)

            def log_message(self, *what):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @torch.no_grad()
    def answer(self, body: dict) -> dict:
        ids, most = body["prompt"], body["prompt_logprobs"]
        log_p = self.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        rows: list[dict | None] = [None]
        for place, token in enumerate(ids[1:]):
            chosen = {token, *log_p[place].topk(most).indices.tolist()}
            texts = {one: self.tokenizer.decode([one]) for one in chosen}
            rows.append(
                {str(one): {"logprob": log_p[place, one].item(), "decoded_token": texts[one]} for one in chosen}
            )
        return {"choices": [{"text": "", "finish_reason": "length", "prompt_logprobs": rows}]}

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()
