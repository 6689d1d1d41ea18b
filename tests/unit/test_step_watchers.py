"""What is shown of a step: a line for a person, gauges for Prometheus."""

import io
import math

import pytest
from recorded_runs import grpo_row

from openrlhf_math.grpo.metrics import GAUGES, gauge_values, phase_seconds, step_display


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({}, "step  7/80 reward 0.50 acc 25% len 79 cut 10% idle 10% grad 0.2 2.00 s\n"),
        ({"ungraded_rate": 0.0625},
         "step  7/80 reward 0.50 acc 25% len 79 cut 10% ungraded 6.2% idle 10% grad 0.2 2.00 s\n"),
    ],
)  # fmt: skip
def test_step_is_one_line_in_any_output(changed, line):
    stream, seen = io.StringIO(), []
    row = grpo_row(7, reward=0.5, accuracy=0.25, policy_loss=1e-8, grad_norm=0.2, **changed)
    with step_display(stream, lambda record, steps: seen.append((record["step"], steps))) as show:
        show(row, 80)
    assert line in stream.getvalue()
    assert seen == [(7, 80)]


def test_output_appears_before_the_first_step():
    stream = io.StringIO()
    with step_display(stream) as show:
        before = stream.getvalue()
        assert "starting engines" in before  # a log file has no bar that moves
        show.begin(4)
        assert "step 4" in stream.getvalue()[len(before) :]


def test_gauges_of_a_step():
    row = grpo_row(7, completion_length=50.0, **{"memory/peak_gib": 3.5})
    result = gauge_values(row, 80)
    assert set(result) == set(GAUGES) - {"phase_seconds"}
    assert result["tokens_per_second"] == 128 * 50 / 2.0
    assert (result["step"], result["steps"], result["memory_peak_gib"]) == (7, 80, 3.5)
    assert phase_seconds(row)["generation"] == 1.2 and phase_seconds(row)["step_total"] == 2.0


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_non_numbers_set_no_gauge(value):
    row = grpo_row(7, reward=value, **{"timing/step_total": value})
    result = gauge_values(row, 80)
    assert "reward" not in result and "step" in result
    assert "step_total" not in phase_seconds(row)


def test_line_of_a_step_fits_80_columns():
    from openrlhf_math.grpo.metrics import one_line

    row = grpo_row(
        999, reward=0.333333, accuracy=0.99, completion_length=16384.0, truncation_rate=0.99, zero_advantage_rate=0.99
    )
    row |= {"grad_norm": 1.23456e-3, "timing/step_total": 1234.5}
    assert len(one_line(row, 1000)) <= 80
    del row["accuracy"]
    assert " acc - " in one_line(row, 1000)
