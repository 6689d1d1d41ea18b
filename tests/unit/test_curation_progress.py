"""The rate and the time left of each stage, on a clock that the test moves."""

import pytest

from openrlhf_math.curation.job import Workplace
from openrlhf_math.curation.pipeline import Stages, Workers
from openrlhf_math.runs.progress import LINE_SECONDS, Lines, Pace, duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_rate_and_time_left():
    clock = Clock()
    pace = Pace(clock)
    begun = pace("reading", 0, 1000)
    assert (begun.rate, begun.left, begun.ended) == (None, None, False)
    clock.now += 4
    moment = pace("reading", 200, 1000)
    assert (moment.seconds, moment.rate, moment.left) == (4, 50, 16)
    clock.now += 6
    moment = pace("reading", 1000, 1000)
    assert (moment.rate, moment.left, moment.ended) == (100, None, True)


def test_work_of_an_earlier_run_is_not_counted():
    clock = Clock()
    pace = Pace(clock)
    pace("reading", 900, 1000)
    clock.now += 2
    moment = pace("reading", 950, 1000)
    assert (moment.rate, moment.left) == (25, 2)


def test_each_stage_has_a_clock():
    clock = Clock()
    pace = Pace(clock)
    pace("reading", 0, 10)
    clock.now += 50
    pace("writing", 0, 10)
    clock.now += 5
    assert pace("writing", 5, 10).rate == 1
    assert pace("reading", 10, 10).seconds == 55


def test_without_a_total_there_is_a_rate_and_no_time_left():
    clock = Clock()
    pace = Pace(clock)
    pace("reading")
    clock.now += 1
    moment = pace("reading", 30)
    assert (moment.rate, moment.left, moment.ended) == (30, None, False)


def test_zero_elapsed_time_gives_no_rate():
    pace = Pace(Clock())
    pace("reading", 0, 10)
    assert pace("reading", 10, 10).rate is None


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.1, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (250, "4 min 10 s"),
        (3599, "59 min 59 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_lines_are_printed_at_start_end_and_intervals():
    clock, said = Clock(), []
    lines = Lines(said.append, clock)
    lines("reading", 0, 100)
    for done in range(1, 100):
        clock.now += LINE_SECONDS / 10
        lines("reading", done, 100)
    clock.now += LINE_SECONDS / 10
    lines("reading", 100, 100)
    lines("writing")
    assert len(said) == 1 + 9 + 1 + 1
    assert all("reading" in line for line in said[:-1]) and "writing" in said[-1]


def test_stage_counts_rows_and_not_tasks(tmp_path):
    workplace, calls = Workplace(tmp_path), []
    workplace.finish("read", 1, {"rows": 300})
    stages = Stages(workplace, Workers(0), lambda *what: calls.append(what))
    stages.run("read", "reading", lambda index: workplace.finish("read", index, {}), {0: 100, 1: 300, 2: 50})
    assert calls == [("reading", 300, 450), ("reading", 400, 450), ("reading", 450, 450)]
