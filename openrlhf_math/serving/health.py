"""Whether the solver answers, said within a second, whatever the solver does."""

import asyncio
from collections.abc import Awaitable, Callable

from openrlhf_math.rerank.roles import Unavailable
from openrlhf_math.side_by_side import within

ANSWERS_WITHIN = 1.0  # seconds


class Health:
    """Of one solver. One check is under way at a time, whoever asks meanwhile."""

    def __init__(self, check: Callable[[], Awaitable[None]], seconds: float) -> None:
        """check: raises what is wrong. seconds: it may take; then the solver is taken for unavailable."""
        self._check, self._seconds = check, seconds
        self._known: Exception | None = Unavailable("the solver has not answered yet")
        self._checking: asyncio.Task | None = None

    async def say(self) -> None:
        """Raises what is wrong: what this check finds within ANSWERS_WITHIN seconds, else what was last known.

        A good answer of an earlier check says nothing about now, and is not repeated.
        """
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._learn())
        await asyncio.wait([self._checking], timeout=ANSWERS_WITHIN)
        if self._known is not None:
            raise self._known
        if not self._checking.done():
            raise Unavailable(f"the solver has not answered for {ANSWERS_WITHIN:g} s")

    async def _learn(self) -> None:
        try:
            await within(self._seconds, self._check())
        except TimeoutError:
            self._known = Unavailable(f"the solver has not answered for {self._seconds:.0f} s")
        except Exception as error:
            self._known = error
        else:
            self._known = None
