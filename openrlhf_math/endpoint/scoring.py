"""Log-probabilities that a model behind a vLLM server gives to tokens that are there already."""

import json
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from yarl import URL

from openrlhf_math.endpoint.client import Client
from openrlhf_math.endpoint.reply import UNLIKELIEST, Failure, nonsense, plain, tokens_of
from openrlhf_math.endpoint.settings import EndpointSettings
from openrlhf_math.errors import UserError

T = TypeVar("T")

BYTES_A_TOKEN = 1024  # of a reply: an id, a log-probability, a rank, and a text that may be a line of blanks
BYTES_AROUND = 1 << 20
ABOVE = 1e-3  # nats above 0 that a rounded log-probability may have


class ScoringClient(Client):
    """Asks a vLLM server for `prompt_logprobs`, with the retries and limits of `Client`.

    settings: base_url up to and with /v1. flag: that names the server in messages.
    """

    def __init__(self, settings: EndpointSettings, flag: str) -> None:
        super().__init__(settings, max_tokens=1)
        self.flag = flag
        self._base = URL(settings.base_url.rstrip("/"))

    async def models(self) -> dict[str, int | None]:
        """The names under which the server has models, each with the tokens of its context, None if it does not say.

        Raises UserError if the server cannot be asked.
        """

        def read(text: str) -> tuple[dict, int]:
            try:
                found = {str(one["id"]): tokens_of(one.get("max_model_len")) for one in json.loads(text)["data"]}
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
                raise nonsense(text) from None
            return found, 0

        return await self._once(self._base / "models", None, read, BYTES_AROUND)

    async def text_of(self, model: str, ids: Sequence[int]) -> str:
        """The text of tokens, by the server's own tokenizer. Raises UserError as above."""

        def read(text: str) -> tuple[str, int]:
            try:
                found = json.loads(text)["prompt"]
            except (ValueError, RecursionError, KeyError, TypeError):
                raise nonsense(text) from None
            return found, 0

        root = self._base.parent if self._base.name == "v1" else self._base
        longest = BYTES_AROUND + BYTES_A_TOKEN * len(ids)
        return await self._once(root / "detokenize", {"model": model, "tokens": list(ids)}, read, longest)

    async def log_probs(self, model: str, ids: Sequence[int]) -> list[float]:
        """log p of each token but the first, given those before it, at temperature 1.

        Raises Failure after the last try, UserError if no request can be answered.
        """
        body = {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        body = {name: value for name, value in (body | self._http.extra_body).items() if value is not None}
        longest = BYTES_AROUND + BYTES_A_TOKEN * len(ids)
        return await self.fetch(self._base / "completions", body, lambda text: (read_log_probs(text, ids), 0), longest)

    async def _once(self, url: URL, body: dict | None, read: Callable[[str], tuple[T, int]], longest: int) -> T:
        try:
            return await self.fetch(url, body, read, longest)
        except Failure as failure:
            raise UserError(f"{self.flag} {self._base}: {url.path}: {failure}") from None


def read_log_probs(text: str, ids: Sequence[int]) -> list[float]:
    """Of a reply of `/v1/completions` with `prompt_logprobs`. ids: those sent. Raises FailedTry for another body."""
    try:
        rows = json.loads(text)["choices"][0].get("prompt_logprobs")
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        raise nonsense(text) from None
    if rows is None:
        raise nonsense("no prompt_logprobs in it; serve the teacher with `vllm serve`")
    try:
        found = [float(row[str(token)]["logprob"]) for row, token in zip(rows[1:], ids[1:], strict=True)]
    except (KeyError, TypeError, ValueError):
        raise nonsense(f"prompt_logprobs of other tokens than were sent: {plain(json.dumps(rows[:3]))}") from None
    bad = next((value for value in found if not UNLIKELIEST < value <= ABOVE or math.isnan(value)), None)
    if bad is not None:
        raise nonsense(f"{bad:g} as the logarithm of a probability")
    return found
