"""Golds that are whole solutions: what their last line says, what is behind ####, what is in a box."""

import pytest

from openrlhf_math.rewards import grade
from openrlhf_math.rewards.gold import UnparsableGold, parse_gold


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("5+50 = 55.\nSo it is 55.\n#### 55\nThe answer is: 55", "55"),
        ("He pays 5+50=55. The answer is: 55", "55"),
        ("The answer is: 55", "55"),
        ("so \\boxed{3}. The answer is: 4", "4"),
        ("Half of it.\nThe answer is: $\\frac{1}{2}$.", "\\frac{1}{2}"),
        ("The answer is \\boxed{7}", "7"),
        ("First the answer is 3, then we halve.\n#### 12", "12"),
    ],
)
def test_answer_of_a_solution(gold, answer):
    assert parse_gold(gold).text == answer
    assert grade(f"\\boxed{{{answer}}}", gold).reward == 1.0
    assert grade("\\boxed{1009}", gold).reward < 1.0


def test_solution_that_ends_before_its_answer_has_none():
    with pytest.raises(UnparsableGold):
        parse_gold("5 + 50 = 55. The answer is")
