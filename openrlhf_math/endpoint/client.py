"""A client of an OpenAI-compatible endpoint that handles its failures; limits of requests and tokens per minute."""

import asyncio
import datetime
import email.utils
import json
import logging
import random
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from openrlhf_math.endpoint.reply import Answer, FailedTry, Failure, nonsense, parse, plain, words_of
from openrlhf_math.endpoint.settings import EndpointFlags, EndpointSettings
from openrlhf_math.errors import UserError

# Bytes of a reply at the most: a token's text, escaped, in up to three fields; and what comes around it.
BYTES_A_TOKEN = 64
BYTES_A_LOGPROB = 256  # of one of the likeliest tokens: its text twice, the second time as a list of bytes
BYTES_AROUND = 1 << 20
MOST_TOKENS = 1 << 20  # whatever was asked for: no model writes more
T = TypeVar("T")
LONGEST_LINE = 8190  # bytes of a header
LONGEST_WAIT = 60.0  # seconds between two tries, unless the endpoint asks for more
LONGEST_PAUSE = 600.0  # the most an endpoint may ask for
# So many failures before the first reply, or attempts lost in a row after it, and the endpoint is given up.
IN_VAIN = 5
IN_VAIN_LATER = 20
JSON = {"Content-Type": "application/json"}
AGAIN = (408, 409, 425, 429)
# No repetition helps with these, nor with other codes from 300 to 499 but those of AGAIN. These are a flag's fault.
OF_A_FLAG = (401, 402, 403, 404, 405)
LEAVE_OUT = '{"max_tokens": null, "max_completion_tokens": 16384, "temperature": null, "top_p": null}'


class Client:
    """Asks for chat completions: with retries, at a pace, and with a limit on every wait.

    workers: requests under way at once, which callers observe. failed_tries: tries that failed, by kind.
    """

    def __init__(self, settings: EndpointSettings, max_tokens: int, again: str = "") -> None:
        """max_tokens: expected of a completion, until replies say what they take. again: said of a later failure, what
        becomes of the replies that came before."""
        self._http, self._again = settings, again
        self.workers = self._http.concurrency
        self.failed_tries: Counter[str] = Counter()
        self._pace = Pace(self._http.requests_per_minute, self._http.tokens_per_minute, max_tokens)
        self._answered, self._in_vain = False, 0
        self._model, self._warned = "", False
        self._refused: set[int] = set()  # hashes of messages
        self._url = URL(self._http.base_url.rstrip("/") + "/chat/completions")
        self._proxy = _proxy(self._http.base_url)

    async def __aenter__(self) -> Self:
        key = self._http.api_key
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=aiohttp.ClientTimeout(total=self._http.request_timeout),
            connector=aiohttp.TCPConnector(limit=self.workers),
            # Not unpacked: a few compressed bytes can be more than memory holds.
            auto_decompress=False,
            skip_auto_headers={"Accept-Encoding"},
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def ask(self, body: dict) -> Answer:
        """Ask until there is a reply. Raises Failure after the last try, UserError if no request can be answered.

        body: of the request; `extra_body` is merged into it, and what is None is left out.
        """
        body = {name: value for name, value in (body | self._http.extra_body).items() if value is not None}
        return await self.fetch(self._url, body, self._answer, _longest(body))

    def _answer(self, text: str) -> tuple[Answer, int]:
        reply, tokens = parse(text)
        self._note_model(reply.model)
        # After parsing: JSON can spell the key's signs in other ways.
        return replace(reply, content=self._hide(reply.content), reasoning=self._hide(reply.reasoning)), tokens

    def _note_model(self, name: str) -> None:
        """Say once if replies come from another model than before: a figure over both would be of neither."""
        if name and self._model and name != self._model and not self._warned:
            logging.warning(
                "the endpoint now answers as %s, before as %s: is it still the same model?", name, self._model
            )
            self._warned = True
        self._model = self._model or name

    async def fetch(self, url: URL, body: dict | None, read: Callable[[str], tuple[T, int]], longest: int) -> T:
        """What `read` makes of a reply, with its tokens; asked as `ask` does, with GET if there is no body.

        read: raises FailedTry for a text that is not a reply. longest: bytes of a reply at the most.
        """
        for number in range(1, self._http.tries + 1):
            try:
                answer = await self._try(url, body, read, longest)
            except FailedTry as fault:
                self._count(fault, self._is_lost(fault, number, body))
                if fault.final:
                    fix = f"; {self._fix(fault)}" if fault.status in OF_A_FLAG else ""
                    setup = bool(fix) and not self._answered
                    raise Failure(f"{fault}{fix}", final=True, setup=setup) from None
                if number == self._http.tries:
                    raise Failure(f"{fault}, {number} tries") from None
                if fault.status == 429:
                    self._pace.pause(fault.retry_after)
                if fault.retry_after >= LONGEST_WAIT:
                    logging.warning("the endpoint asks to wait %.0f s (%s)", fault.retry_after, fault.kind)
                await asyncio.sleep(max(fault.retry_after, backoff(number)))
            else:
                self._answered, self._in_vain = True, 0
                return answer
        raise AssertionError("there is at least one try")

    async def _try(self, url: URL, asked: dict | None, read: Callable[[str], tuple[T, int]], longest: int) -> T:
        charged = await self._pace.turn()
        reply, tokens = None, 0
        try:
            sent: dict[str, Any] = {} if asked is None else {"data": json.dumps(asked).encode(), "headers": JSON}
            async with self._session.request(
                "GET" if asked is None else "POST", url, proxy=self._proxy, allow_redirects=False, **sent
            ) as response:
                body = await self._read(response, longest)
                if response.status != 200:
                    words = response.headers.get("Location", "") or words_of(body)
                    raise _refused(response.status, response.headers.get("Retry-After"), self._hide(words))
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise nonsense(
                        f"a compressed body, {response.headers['Content-Encoding']}, which was not asked for"
                    )
            try:
                reply, tokens = read(body.decode())
            except UnicodeDecodeError as error:
                raise nonsense(f"a body that is not valid UTF-8 at byte {error.start}") from None
            except FailedTry as fault:
                raise replace(fault, words=self._hide(fault.words)) from None
            return reply
        except TimeoutError:
            raise FailedTry(f"no reply within {self._http.request_timeout:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise FailedTry("no connection", self._hide(plain(str(error))), setup=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise FailedTry("connection broken off", self._hide(plain(f"{type(error).__name__}: {error}"))) from None
        finally:
            self._pace.spent(charged, tokens, replied=reply is not None)

    def _is_lost(self, fault: FailedTry, number: int, body: dict | None) -> bool:
        """Whether a failure costs a request. What is refused for its messages counts once: it is one prompt that is too
        long, and many attempts at it."""
        if not fault.final or fault.status in OF_A_FLAG:
            return fault.final or number == self._http.tries
        name = hash(json.dumps((body or {}).get("messages")))
        lost = name not in self._refused
        self._refused.add(name)
        return lost

    def _count(self, fault: FailedTry, lost: bool) -> None:
        """Count a failure. Raises UserError if by now it is the endpoint, not the attempt."""
        self.failed_tries[fault.kind] += 1
        if lost or (fault.setup and not fault.final and not self._answered):
            self._in_vain += 1
        limit = max(IN_VAIN_LATER, 2 * self.workers) if self._answered else IN_VAIN
        if self._in_vain >= limit:
            again = f"; {self._again}" if self._answered and self._again else ""
            raise UserError(f"{self._http.flags.base_url} {self._http.base_url}: {fault}; {self._fix(fault)}{again}")

    def _fix(self, fault: FailedTry) -> str:
        flags, key = self._http.flags, f"${self._http.api_key_env}"
        address = f"fix {flags.base_url} (it ends in /v1)"
        match fault.status:
            case 401 | 403:
                return f"it refuses the key: set {key}, or name another variable with {flags.api_key_env}"
            case 402:
                return f"the account is empty: pay, or give another key in {key}"
            case 404:
                return f"there is no such address or model: {address} or {flags.model}"
            case 405:
                return f"that is not {flags.kind}: {address}"
            case 429:
                lower = _either(flags.concurrency, flags.requests_per_minute)
                return f"it answers nothing at this rate: lower {lower}"
        if fault.final:
            return _refusal(flags) if fault.status >= 400 else f"it has moved: give the new address as {flags.base_url}"
        if fault.setup:
            return f"start the endpoint, or {address}"
        return f"it answers nothing: look at its log, or raise {_either(flags.request_timeout, flags.tries)}"

    async def _read(self, response: aiohttp.ClientResponse, longest: int) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > longest:
                response.close()  # what still comes is not read
                raise nonsense(f"a body of more than {longest:,} bytes")
        return bytes(body)

    def _hide(self, text: str) -> str:
        """The text without the key, should the endpoint have echoed it."""
        key = self._http.api_key
        return text.replace(key, "[the key]") if len(key) >= 8 else text


def _either(*flags: str) -> str:
    return " or ".join(filter(None, flags))


def _refusal(flags: EndpointFlags) -> str:
    """What to look at when a request is refused."""
    found = "it refuses the request: look at its words"
    if asked := " and ".join(filter(None, (flags.max_tokens, flags.no_seed))):
        found += f", at {asked}"
    if flags.extra_body:
        found += f", and at {flags.extra_body}, which can leave a field out: '{LEAVE_OUT}'"
    return found


def _longest(asked: dict) -> int:
    """Bytes of the reply to a request at the most."""
    limits = (asked.get("max_tokens"), asked.get("max_completion_tokens"))
    tokens = max((one for one in limits if isinstance(one, int)), default=1 << 17)
    likeliest = asked.get("top_logprobs") if asked.get("logprobs") else None
    each = BYTES_A_LOGPROB * (1 + likeliest) if isinstance(likeliest, int) else 0
    return BYTES_AROUND + (BYTES_A_TOKEN + each) * min(tokens, MOST_TOKENS)


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
            date = email.utils.parsedate_to_datetime(header)
            date = date if date.tzinfo else date.replace(tzinfo=datetime.UTC)  # `-0000` is UTC, too
            seconds = date.timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_PAUSE) if seconds == seconds else 0.0


def _refused(status: int, retry_after: str | None, words: str) -> FailedTry:
    final = 300 <= status < 500 and status not in AGAIN
    return FailedTry(f"HTTP {status}", words, status, seconds_asked(retry_after), setup=final, final=final)


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address. aiohttp would look it up in a thread at every request."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return None if urllib.request.proxy_bypass(parts.netloc) else proxy


class Pace:
    """Lets requests through evenly, no faster than the limits; `None` means no limit.

    A request's tokens are known only when its reply is there: it is charged what replies took on average so far
    (at first `expected`), and the difference when it is done.
    """

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None, expected: float) -> None:
        self._request_seconds = 60 / requests_per_minute if requests_per_minute else 0.0
        self._token_seconds = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._expected, self._replies = expected, 0
        self._free_at = self._paused_until = 0.0

    async def turn(self) -> float:
        """Wait until a request may go. Returns the tokens it is charged, for `spent`."""
        now, charged = time.monotonic(), self._expected
        goes_at = max(now, self._free_at)
        self._free_at = goes_at + max(self._request_seconds, charged * self._token_seconds)
        if goes_at > now:
            await asyncio.sleep(goes_at - now)
        while (pause := self._paused_until - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        return charged

    def spent(self, charged: float, tokens: float, replied: bool) -> None:
        """A request is over: correct its charge. Only replies tell what the next will take."""
        if replied:
            self._replies += 1
            self._expected += (tokens - self._expected) / self._replies
        self._free_at += (tokens - charged) * self._token_seconds

    def pause(self, seconds: float) -> None:
        """Let no request through for a while."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
