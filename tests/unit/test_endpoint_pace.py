"""Distillation: requests and tokens a minute."""

import asyncio
import time

from openrlhf_math.endpoint.client import Pace


def seconds_of(pace: Pace, requests: int, tokens: int = 0, replied: bool = True) -> float:
    async def run() -> float:
        begun = time.monotonic()
        for _ in range(requests):
            pace.spent(await pace.turn(), tokens, replied)
        return time.monotonic() - begun

    return asyncio.run(run())


def test_no_limits_means_no_waiting():
    assert seconds_of(Pace(None, None, expected=1000), 100, tokens=1000) < 0.5


def test_requests_per_minute():
    """600 a minute is one each 0.1 s; the first goes at once."""
    assert 0.28 < seconds_of(Pace(600, None, expected=1000), 4, tokens=1000) < 0.7  # the machine may be busy


def test_tokens_per_minute_count_actual_tokens():
    """60,000 a minute: 100 tokens a reply are 0.1 s, though 16,384 were expected of the first."""
    assert 0.28 < seconds_of(Pace(None, 60_000, expected=16_384), 4, tokens=100) < 0.7  # the machine may be busy


def test_running_request_is_charged_the_mean_so_far():
    pace = Pace(None, 60_000, expected=16_384)
    assert seconds_of(pace, 1, tokens=100) < 0.2

    async def two_at_once() -> float:
        begun = time.monotonic()
        await asyncio.gather(pace.turn(), pace.turn())
        return time.monotonic() - begun

    assert 0.18 < asyncio.run(two_at_once()) < 0.6  # the machine may be busy


def test_failed_request_costs_no_tokens():
    pace = Pace(None, 60_000, expected=500)
    assert seconds_of(pace, 5, replied=False) < 0.2
    assert asyncio.run(pace.turn()) == 500


def test_pause_applies_to_all_requests():
    pace = Pace(None, None, expected=0)

    async def run() -> float:
        begun = time.monotonic()
        waiting = [asyncio.ensure_future(pace.turn()) for _ in range(3)]
        pace.pause(0.2)
        await asyncio.gather(*waiting)
        return time.monotonic() - begun

    assert 0.18 < asyncio.run(run()) < 0.6  # the machine may be busy
