"""The teacher behind an OpenAI-compatible endpoint, whatever state that is in."""

import asyncio
import email.utils
import json
import random
import time
from collections import Counter
from dataclasses import dataclass

import aiohttp

from openrlhf_math.distill.pace import Pace
from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.distill.teachers import Failure, Question, Reply
from openrlhf_math.errors import UserError

LONGEST_BODY = 64 << 20  # bytes; no trace is that long
LONGEST_WAIT = 60.0  # seconds between two tries, unless the endpoint asks for more
LONGEST_PAUSE = 600.0  # the most an endpoint may ask for
# So many failures before the first reply, or attempts lost in a row after it, and the endpoint is given up.
IN_VAIN = 5
IN_VAIN_LATER = 20
# What no repetition mends, with the flag to look at.
MENDS = {
    400: "it refuses the request: look at its words, and at --max-tokens, --no-seed and --extra-body",
    401: "it refuses the key: set ${key}, or name another variable with --api-key-env",
    402: "the account is empty: pay, or give another key in ${key}",
    403: "it refuses the key: set ${key}, or name another variable with --api-key-env",
    404: "there is no such address or model: mend --base-url (it ends in /v1) or --model",
    405: "that is no chat endpoint: mend --base-url (it ends in /v1)",
    422: "it refuses the request: look at its words, and at --max-tokens, --no-seed and --extra-body",
}


@dataclass
class Trouble(Exception):
    """One try that failed. kind: what it is counted as. words: what the endpoint said. status: HTTP's, if any.

    retry_after: seconds the endpoint asks to wait. setup: the kind of failure that a wrong flag makes.
    """

    kind: str
    words: str = ""
    status: int = 0
    retry_after: float = 0.0
    setup: bool = False

    def __str__(self) -> str:
        return f"{self.kind} ({self.words})" if self.words else self.kind


class Endpoint:
    """See `teachers.Teacher`."""

    def __init__(self, settings: DistillSettings) -> None:
        self._settings, self._http = settings, settings.endpoint
        self.lanes = self._http.concurrency
        self.troubles: Counter[str] = Counter()
        self._pace = Pace(self._http.requests_per_minute, self._http.tokens_per_minute, settings.max_tokens)
        self._answered, self._in_vain = False, 0

    async def __aenter__(self) -> "Endpoint":
        key = self._http.api_key
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=aiohttp.ClientTimeout(total=self._http.request_timeout),
            connector=aiohttp.TCPConnector(limit=self.lanes),
            trust_env=True,
        )
        return self

    async def __aexit__(self, *exception) -> None:
        await self._session.close()

    async def answer(self, question: Question) -> Reply:
        """Ask until there is a reply. Raises Failure after the last try, UserError if no attempt can be answered."""
        for number in range(1, self._http.tries + 1):
            try:
                reply = await self._try(question)
            except Trouble as trouble:
                self._count(trouble, lost=number == self._http.tries or trouble.status in MENDS)
                if trouble.status in MENDS:
                    raise Failure(str(trouble)) from None
                if number == self._http.tries:
                    raise Failure(f"{trouble}, {number} tries") from None
                if trouble.status == 429:
                    self._pace.pause(trouble.retry_after)
                await asyncio.sleep(max(trouble.retry_after, backoff(number)))
            else:
                self._answered, self._in_vain = True, 0
                return reply
        raise AssertionError("there is at least one try")

    async def _try(self, question: Question) -> Reply:
        charged = await self._pace.turn()
        reply, tokens = None, 0
        try:
            async with self._session.post(self._url(), json=self._body(question)) as response:
                body = await _read(response)
                if response.status != 200:
                    raise _refused(response.status, response.headers.get("Retry-After"), self._hide(_words(body)))
            reply, tokens = parse(self._hide(body.decode("utf-8", errors="replace")))
            return reply
        except asyncio.TimeoutError:
            raise Trouble(f"no reply within {self._http.request_timeout:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise Trouble("no connection", self._hide(_plain(str(error))), setup=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Trouble("connection broken off", self._hide(_plain(f"{type(error).__name__}: {error}"))) from None
        finally:
            self._pace.spent(charged, tokens, replied=reply is not None)

    def _count(self, trouble: Trouble, lost: bool) -> None:
        """Count a failure. Raises UserError if by now it is the endpoint, not the attempt."""
        self.troubles[trouble.kind] += 1
        if lost or (trouble.setup and not self._answered):
            self._in_vain += 1
        limit = max(IN_VAIN_LATER, 2 * self.lanes) if self._answered else IN_VAIN
        if self._in_vain >= limit:
            again = "; what it answered is kept, run the same command again" if self._answered else ""
            raise UserError(f"--base-url {self._http.base_url}: {trouble}; {self._mend(trouble)}{again}")

    def _mend(self, trouble: Trouble) -> str:
        if trouble.status in MENDS:
            return MENDS[trouble.status].replace("{key}", self._http.api_key_env)
        if trouble.status == 429:
            return "it answers nothing at this rate: lower --concurrency or --requests-per-minute"
        if trouble.setup:
            return "start the endpoint, or mend --base-url (it ends in /v1)"
        return "it answers nothing: look at its log, or raise --request-timeout or --tries"

    def _url(self) -> str:
        return self._http.base_url.rstrip("/") + "/chat/completions"

    def _body(self, question: Question) -> dict:
        body = {
            "model": self._settings.model,
            "messages": question.messages,
            "max_tokens": self._settings.max_tokens,
            "temperature": self._settings.temperature,
            "top_p": self._settings.top_p,
        }
        return body | ({} if question.seed is None else {"seed": question.seed}) | self._http.extra_body

    def _hide(self, text: str) -> str:
        """The text without the key, should the endpoint have echoed it."""
        key = self._http.api_key
        return text.replace(key, "[the key]") if len(key) >= 8 else text


def parse(body: str) -> tuple[Reply, int]:
    """A reply and the tokens it is charged, prompt and completion. Raises Trouble for a body that is no completion."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise _nonsense(body) from None
    try:
        choice = data["choices"][0]
        message = choice["message"]
        content = message.get("content") or ""
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
        finish_reason = choice.get("finish_reason") or ""
        usage = data.get("usage") or {}
        tokens, prompt = (_number(usage.get(name)) for name in ("completion_tokens", "prompt_tokens"))
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _nonsense(body) from None
    if not all(isinstance(text, str) for text in (content, reasoning, finish_reason)):
        raise _nonsense(body)
    return Reply(_unicode(content), _unicode(reasoning), _plain(finish_reason), tokens), (tokens or 0) + (prompt or 0)


def backoff(number: int) -> float:
    """Seconds to wait after failure `number`, counted from 1: doubling, with jitter so that many do not come back
    at once."""
    return min(2.0 ** min(number - 1, 10), LONGEST_WAIT) * random.uniform(0.5, 1)


def seconds_asked(header: str | None) -> float:
    """What a Retry-After header asks for, seconds or a date; 0 where there is none or nothing sensible."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), LONGEST_PAUSE) if seconds == seconds else 0.0


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise Trouble("nonsense instead of a completion", "a body without end")
    return bytes(body)


def _refused(status: int, retry_after: str | None, words: str) -> Trouble:
    return Trouble(f"HTTP {status}", words, status, seconds_asked(retry_after), setup=status in MENDS)


def _nonsense(body: str) -> Trouble:
    return Trouble("nonsense instead of a completion", _plain(body), setup=True)


def _words(body: bytes) -> str:
    """What an error body says: the message of OpenAI's form, else its beginning."""
    text = body[:10_000].decode("utf-8", errors="replace")
    try:
        data = json.loads(text)
        return _plain(str(data["error"]["message"] if isinstance(data["error"], dict) else data["error"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return _plain(text)


def _plain(text: str) -> str:
    """The beginning of somebody's text, on one line."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text[:400]).split())[:160]


def _unicode(text: str) -> str:
    """JSON can spell halves of surrogate pairs, which no UTF-8 file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(value) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
