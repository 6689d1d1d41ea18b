"""Requests and tokens a minute, and pauses an endpoint asks for."""

import asyncio
import time


class Pace:
    """Lets requests through evenly, no faster than the limits; `None` is no limit.

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
