"""A server of `prompt_logprobs` as vLLM's, on loopback, over a tiny model of Transformers."""

from collections.abc import Callable, Mapping

import torch
from json_server import JsonServer


class ScoringServer(JsonServer):
    """Answers on `url` while the block runs. requests: bodies of completions that came, with bad ones.

    faults: taken one by one before a completion is answered: a status, or a function from the reply to another.
    """

    def __init__(self, model, tokenizer, names=("teacher",), context: int | None = 4096) -> None:
        self.model, self.tokenizer, self.names, self.context = model, tokenizer, names, context
        self.requests: list[dict] = []
        self.faults: list[int | Callable[[dict], dict]] = []
        super().__init__(self._reply)

    def _reply(self, path: str, body: dict | None, headers: Mapping[str, str]) -> tuple[int, dict]:
        if body is None:
            return 200, {"data": [{"id": name, "max_model_len": self.context} for name in self.names]}
        if path == "/detokenize":
            return 200, {"prompt": self.tokenizer.decode(body["tokens"])}
        self.requests.append(body | {"key": headers.get("Authorization")})
        fault = self.faults.pop(0) if self.faults else lambda reply: reply
        if isinstance(fault, int):
            return fault, {"error": {"message": "made up"}}
        return 200, fault(self.answer(body))

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
