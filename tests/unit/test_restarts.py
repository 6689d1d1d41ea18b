"""Actors that die: how often they are started again, and questions to engines that are dead."""

import asyncio

import pytest

from openrlhf_math.colocation import async_engine
from openrlhf_math.colocation import engine_life as restarts
from openrlhf_math.colocation.async_engine import answers
from openrlhf_math.errors import UserError


def test_restarts_are_counted_within_a_window():
    """A server that lives for weeks outlives any number of deaths that are far apart."""
    starts = []
    for hour in range(100):
        starts = restarts.recent(starts, 3600.0 * hour)
    assert len(starts) == 1


def test_repeatedly_dying_actor_is_given_up():
    starts = []
    for second in range(1 + restarts.RESTARTS):
        starts = restarts.recent(starts, 1000.0 + second)
    with pytest.raises(UserError, match="3 times|4 times"):
        restarts.recent(starts, 1010.0)
    assert restarts.recent(starts, 1001.0 + restarts.WINDOW_SECONDS)


class Engine:
    errored = False


@pytest.mark.parametrize("dies", ["before", "meanwhile", "silent"])
def test_request_to_a_dead_engine_ends(monkeypatch, dies):
    monkeypatch.setattr(async_engine, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(async_engine, "ANSWER_SECONDS", 0.05 if dies == "silent" else 60)
    engine = Engine()

    async def run() -> bool:
        engine.errored = dies == "before"
        if dies == "meanwhile":
            asyncio.get_running_loop().call_later(0.05, lambda: setattr(engine, "errored", True))
        return await asyncio.wait_for(answers(engine, asyncio.sleep(3600)), 30)

    assert asyncio.run(run()) is False


def test_live_engine_answers():
    async def fails() -> None:
        raise ZeroDivisionError

    assert asyncio.run(answers(Engine(), asyncio.sleep(0))) is True
    with pytest.raises(ZeroDivisionError):
        asyncio.run(answers(Engine(), fails()))
