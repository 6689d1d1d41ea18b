"""What is shown of a step: a line for a person, gauges for Prometheus."""

import io
import math

import pytest
from recorded_runs import grpo_row

from openrlhf_math.grpo.display import step_display
from openrlhf_math.grpo.gauges import GAUGES, phases, values


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({}, "step  7/80  reward 0.500  accuracy 0.250  length 79.3  truncated 0.10  idle 0.10  loss +1.0e-08  "
             "grad 0.200  2.00 s\n"),
        ({"undecided_rate": 0.0625}, "step  7/80  reward 0.500  accuracy 0.250  length 79.3  truncated 0.10  undecided "
                                     "0.062  idle 0.10  loss +1.0e-08  grad 0.200  2.00 s\n"),
    ],
)  # fmt: skip
def test_a_step_is_one_line_wherever_it_goes(changed, line):
    stream, seen = io.StringIO(), []
    row = grpo_row(7, reward=0.5, accuracy=0.25, policy_loss=1e-8, grad_norm=0.2, **changed)
    with step_display(stream, lambda record, steps: seen.append((record["step"], steps))) as show:
        show(row, 80)
    assert line in stream.getvalue()
    assert seen == [(7, 80)]


def test_the_gauges_of_a_step():
    row = grpo_row(7, completion_length=50.0, **{"memory/peak_gib": 3.5})
    told = values(row, 80)
    assert set(told) == set(GAUGES) - {"phase_seconds"}
    assert told["tokens_per_second"] == 128 * 50 / 2.0
    assert (told["step"], told["steps"], told["memory_peak_gib"]) == (7, 80, 3.5)
    assert phases(row)["generation"] == 1.2 and phases(row)["step_total"] == 2.0


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_is_no_number_sets_no_gauge(value):
    row = grpo_row(7, reward=value, **{"timing/step_total": value})
    told = values(row, 80)
    assert "reward" not in told and "step" in told
    assert "step_total" not in phases(row)
