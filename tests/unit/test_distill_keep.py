r"""Distillation: what a trace looks like, which are refused, which of the correct ones are kept."""

import pytest

from openrlhf_math.data.trace import trace
from openrlhf_math.distill.keep import Attempt, blemishes, find_rule, refusal
from openrlhf_math.errors import UserError

GOOD = "<think>\n2+2 is 4.\n</think>\n\nSo it is \\boxed{4}."


@pytest.mark.parametrize(
    ("content", "reasoning", "text"),
    [
        ("So \\boxed{4}.", "2+2", "<think>\n2+2\n</think>\n\nSo \\boxed{4}."),
        ("\n\nSo \\boxed{4}.\n", "\n2+2\n", "<think>\n2+2\n</think>\n\nSo \\boxed{4}."),
        ("<think>\n2+2\n</think>\n\nSo", "", "<think>\n2+2\n</think>\n\nSo"),
        ("2+2\n</think>\n\nSo", "", "<think>\n2+2\n</think>\n\nSo"),
        ("So \\boxed{4}.", "", "So \\boxed{4}."),
        ("", "2+2, wait", "<think>\n2+2, wait"),
        ("", "", ""),
    ],
    ids=["apart", "apart, blanks", "in tags", "opened by the template", "none", "cut off while thinking", "nothing"],
)
def test_reply_becomes_one_text(content, reasoning, text):
    assert trace(content, reasoning) == text


@pytest.mark.parametrize(
    ("text", "finish_reason", "style", "reason"),
    [
        (GOOD, "stop", "think", ""),
        (GOOD, "stop", "boxed", ""),
        (GOOD, "length", "think", "truncated"),
        (GOOD, "content_filter", "think", "ended by content_filter"),
        (GOOD, "", "think", "ended by an unknown cause"),
        ("", "stop", "think", "empty"),
        (" \n", "stop", "boxed", "empty"),
        ("<think>\nwait, \\boxed{4}", "stop", "think", "thinking not closed"),
        ("<think>\nwait, \\boxed{4}", "stop", "boxed", "thinking not closed"),
        ("So \\boxed{4}.", "stop", "think", "no thinking"),
        ("So \\boxed{4}.", "stop", "boxed", ""),
        ("<think>\nit is \\boxed{4}\n</think>\n\nSo it is 4.", "stop", "think", "no boxed answer"),
        ("<think>\n2+2\n</think>\n\n\\boxed{}", "stop", "think", "no boxed answer"),
        ("<think>\n2+2\n</think>\n\n\\boxed{4", "stop", "think", "no boxed answer"),
        ("<think>\n2+2\n</think>\n\n\\boxed{4}. Or is it \\boxed{5}?", "stop", "think", "two answers"),
        ("<think>\n2+2\n</think>\n\n\\boxed{4} and \\boxed{5}", "stop", "think", ""),
        ("<think>\n2+2\n</think>\n\n\\boxed{4}. So \\boxed{4}.", "stop", "think", ""),
        ("<think>\n2+2\n</think>\n<think>\n\n</think>\n\\boxed{4}", "stop", "think", "malformed"),
        ("Well. <think>\n2+2\n</think>\n\n\\boxed{4}", "stop", "think", "malformed"),
        ("<think>\n\n</think>\n\n\\boxed{4}", "stop", "think", "malformed"),
        ("<think>\n2+2\n</think>\n\n<answer> \\boxed{4}", "stop", "think", "malformed"),
    ],
)
def test_refusals(text, finish_reason, style, reason):
    assert refusal(text, finish_reason, style) == reason


def attempt(number: int, tokens: int | None, response: str = GOOD, problem: str = "What is 2+2?") -> Attempt:
    return Attempt(problem, number, response, tokens)


TWICE = GOOD + " Yes, \\boxed{4}."


@pytest.mark.parametrize(
    ("rule", "n", "attempts", "kept"),
    [
        ("verified", None, [attempt(0, 9), attempt(2, 7), attempt(3, 8)], [0, 2, 3]),
        ("verified", 2, [attempt(0, 9), attempt(2, 7), attempt(3, 8)], [0, 2]),
        ("all", None, [attempt(0, 9), attempt(2, 7), attempt(3, 8)], [0, 2, 3]),
        ("longest", None, [attempt(0, 9), attempt(2, 7), attempt(3, 9)], [0]),
        ("longest", 2, [attempt(0, 7), attempt(2, 8), attempt(3, 9)], [3, 2]),
        ("shortest", 2, [attempt(0, 9), attempt(2, 7), attempt(3, 8)], [2, 3]),
        ("best", None, [attempt(0, 9), attempt(2, 7), attempt(3, 8)], [2, 3]),
        ("shortest", None, [attempt(0, 9), attempt(2, 7), attempt(3, 8)], [2]),
        ("shortest", None, [attempt(1, 7), attempt(2, 7)], [1]),
        ("shortest", 1, [attempt(0, None, GOOD + "..."), attempt(1, 3, GOOD + ".."), attempt(2, None, GOOD)], [2]),
        ("best", 2, [attempt(0, 9), attempt(2, 7), attempt(3, 8)], [2, 3]),
        ("best", 2, [attempt(0, 9), attempt(1, 5, TWICE), attempt(2, 7)], [2, 0]),
        ("best", 3, [attempt(0, 9), attempt(1, 5, TWICE), attempt(2, 7)], [2, 0, 1]),
        ("best", 9, [attempt(0, 9)], [0]),
    ],
    ids=[
        "verified in order", "the first n", "all in order", "longest", "n longest", "n shortest", "two best",
        "shortest", "first of equals", "characters where tokens lack", "n best", "form before length",
        "form ranks, it does not refuse", "fewer than n",
    ],
)  # fmt: skip
def test_keep_rules(rule, n, attempts, kept):
    assert [one.number for one in find_rule(rule)(attempts, n)] == kept


@pytest.mark.parametrize(
    ("response", "problem", "count"),
    [
        (GOOD, "What is 2+2?", 0),
        (TWICE, "What is 2+2?", 1),
        (GOOD.replace("So it", "<answer>So it"), "What is 2+2?", 1),
        (GOOD.replace("is 4", "是 4"), "What is 2+2?", 1),
        (GOOD.replace("is 4", "是 4"), "2+2是多少?", 0),
        (GOOD.replace("is 4", "\\alpha α 𝔽 ℝ ∑ is 4"), "What is 2+2?", 0),
        (TWICE.replace("is 4", "есть 4"), "What is 2+2?", 2),
    ],
)
def test_data_defects(response, problem, count):
    assert blemishes(attempt(0, 1, response, problem)) == count


def last_only(attempts, n):
    return attempts[-1:]


def test_custom_rule():
    rule = find_rule(f"{__name__}.last_only")
    assert [one.number for one in rule([attempt(0, 1), attempt(1, 1)], 1)] == [1]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("aunt", "choose one of all, verified, shortest, longest, best"), ("nowhere.rule", "cannot be imported")],
)
def test_unknown_rule(name, sentence):
    with pytest.raises(UserError, match=sentence):
        find_rule(name)
