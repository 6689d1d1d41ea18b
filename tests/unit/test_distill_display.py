"""How a distillation shows its rate and the time that is left."""

from collections import Counter

import pytest

from openrlhf_math.cli import distill_display
from openrlhf_math.cli.distill_display import Display
from openrlhf_math.distill.collect import Verdict


class Teacher:
    failed_tries = Counter({"HTTP 500": 3})


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(distill_display, "time", clock)
    return clock


def test_rate_and_time_left_count_requests(clock):
    """Ten of the journal in no time, then two a second; 88 are left, and eight unexpected ones."""
    drawn = []
    shown = Display(100, Teacher(), lambda *picture: drawn.append(picture), seconds=30.0)
    shown.begin()
    clock.now += 500  # an engine starts
    for _ in range(10):
        shown.judged(Verdict("correct", 40), new=False)
    assert [ended for ended, *_ in drawn] == [1]
    for _ in range(4):
        clock.now += 0.5
        shown.judged(Verdict("wrong", 40), new=True)
    shown.more(8)
    shown.draw()
    ended, wanted, text = drawn[-1]
    assert (ended, wanted) == (14, 108)
    assert text == "10 correct, 2.0 replies/s, 80 tokens/s, 3 failed tries, 0:00:47 left"


def test_progress_lines_are_periodic(clock):
    drawn = []
    shown = Display(1000, Teacher(), lambda *picture: drawn.append(picture), seconds=30.0)
    shown.begin()
    for _ in range(100):
        clock.now += 1
        shown.judged(Verdict("correct", 40), new=True)
    assert [ended for ended, *_ in drawn] == [30, 60, 90]
