r"""What an answer is worth: what mathematicians write, what a policy would try, and what is not an answer at all."""

import json
from pathlib import Path

import pytest

from openrlhf_math.rewards import RewardConfig, UnparsableGold, grade, parse_gold
from openrlhf_math.rewards.number import read_number

LABELLED = Path(__file__).parents[1] / "benchmarks" / "grading_labelled.jsonl"
CONFIG = RewardConfig(workers=1)
CHOICE = r"What is the area? (A) 10 (B) 12 (C) $\frac{25}{2}$"

# gold, response, outcome, problem
GAMES = [
    # several answers
    ("5", r"\boxed{5} no: \boxed{6}", "wrong", None),
    ("5", r"\boxed{6} no: \boxed{5}", "correct", None),
    ("5", r"\boxed{5} or \boxed{6}", "format", None),
    ("5", r"\boxed{5}\boxed{6}", "wrong", None),
    ("5", r"\boxed{5, 6}", "format", None),
    ("5", r"\boxed{5 \text{ or } 6}", "format", None),
    ("5", r"\boxed{\{4, 5, 6\}}", "format", None),
    ("5", r"\boxed{4 < x < 6}", "format", None),
    ("5", r"\boxed{5 \pm 1}", "format", None),
    ("5", r"\boxed{6 = 5}", "format", None),
    ("5", r"\boxed{x = 5 = 6}", "format", None),
    ("5", r"\boxed{1 2 3 4 5}", "format", None),
    ("B", r"\boxed{A, B}", "format", None),
    ("B", r"\boxed{ABCDE}", "format", None),
    ("12", r"\boxed{1,2}", "format", None),
    # only in the thinking part, or in tags that say nothing
    ("5", r"<think>\boxed{5}</think>", "wrong", None),
    ("5", r"<think>it is \boxed{5}", "wrong", None),
    ("5", "<answer></answer><answer></answer>", "wrong", None),
    ("5", r"<answer></answer> \boxed{6}", "wrong", None),
    ("5", r"\boxed{}", "wrong", None),
    ("5", r"\boxed{ } \boxed{~}", "wrong", None),
    # the question as its answer
    ("5", r"\boxed{2+3}", "format", None),
    ("5", r"\boxed{10/2}", "format", None),
    ("5", r"\boxed{\sqrt{25}}", "format", None),
    ("5", r"\boxed{7-2}", "format", None),
    ("5", r"\boxed{-(-5)}", "format", None),
    ("24", r"\boxed{4(6)}", "format", None),
    ("120", r"\boxed{5!}", "format", None),
    ("x^2+2x+1", r"\boxed{(x+1)^2}", "format", "Expand $(x+1)^2$."),
    ("x^2+2x+1", r"\boxed{(x+1)^2}", "correct", "Multiply $x+1$ by itself."),
    ("0.375", r"\boxed{\frac{3}{8}}", "format", r"Write $\frac38$ as a decimal."),
    ("0.375", r"\boxed{\frac{3}{8}}", "correct", "What is the probability?"),
    (r"\frac{3}{4}", r"\boxed{\frac{6}{8}}", "correct", None),
    # prompt echoes
    ("5", r"Put your final answer within \boxed{}.", "wrong", None),
    ("5", r"Put your final answer within \boxed{answer}.", "format", None),
    ("5", r"Please reason step by step, and put your final answer within \boxed{}. It is \boxed{5}.", "correct", None),
    # look-alikes
    ("-5", "\\boxed{\u22125}", "correct", None),
    ("72", "\\boxed{\uff17\uff12}", "correct", None),
    ("72", "\\boxed{7\u200b2}", "correct", None),
    ("72", "\\boxed{\u0667\u0662}", "format", None),  # Arabic digits: nothing in the prompt asked for them
    ("10", r"\boxed{1O}", "format", None),
    ("10", r"\boxed{lO}", "format", None),
    ("B", "\\boxed{\u0412}", "format", None),
    # words round a number
    ("17", r"\boxed{17 \text{ is wrong}}", "format", None),
    ("17", r"\boxed{\text{not } 17}", "format", None),
    ("5", r"\boxed{3 \text{ no wait } 5}", "format", None),
    (r"\text{Evelyn}", r"\boxed{\text{Evelyn or Briana}}", "format", None),
    (r"\text{Evelyn}", r"\boxed{\text{Lynneve}}", "format", None),
    # choices
    ("B", r"\boxed{12}", "correct", CHOICE),
    ("B", r"\boxed{\text{(B) }12}", "correct", CHOICE),
    (r"\frac{25}{2}", r"\boxed{C}", "correct", CHOICE),
    ("B", r"\boxed{10}", "format", CHOICE),
    ("B", r"\boxed{10, 12}", "format", CHOICE),
    ("B", r"\boxed{B}", "correct", "Which statement is true?"),  # the options were in a picture
    ("B", r"\boxed{C}", "format", "Which statement is true?"),
    # size
    ("5", r"\boxed{" + "5" * 5000 + "}", "wrong", None),
    ("5", "5" * 10_000_000 + r"\boxed{5}", "correct", None),
]

BAD_INPUT = [
    None,
    "",
    b"",
    b"\xff\xfe\\boxed{",
    "\\",
    "x" * 10_000_000,
    r"\boxed{1}" * 10_000,
    r"\boxed" + "{" * 100_000,
]
BAD_GOLDS = ["", "   ", "####", r"so \boxed{}", r"\frac{1}{", None, 5, ["5"], "x" * 5000]


@pytest.mark.parametrize("gold, response, outcome, problem", GAMES)
def test_games(gold, response, outcome, problem):
    assert grade(response, gold, problem=problem, config=CONFIG).outcome == outcome


def test_labelled_pairs():
    """No false positive, at most 0.5% false negatives. The benchmark lists them."""
    rows = [json.loads(line) for line in LABELLED.read_text(encoding="utf-8").splitlines()]
    given = [grade(row["response"], row["gold"], problem=row.get("problem"), config=CONFIG) for row in rows]
    positives = [row for row, one in zip(rows, given, strict=True) if one.outcome == "correct" and not row["correct"]]
    negatives = [row for row, one in zip(rows, given, strict=True) if one.outcome != "correct" and row["correct"]]
    assert positives == []
    assert len(negatives) <= 0.005 * sum(row["correct"] for row in rows), negatives


@pytest.mark.parametrize("response", BAD_INPUT, ids=range(len(BAD_INPUT)))
def test_missing_response(response):
    assert grade(response, "5", config=CONFIG).outcome in ("wrong", "format")


@pytest.mark.parametrize("gold", BAD_GOLDS, ids=range(len(BAD_GOLDS)))
def test_missing_gold(gold):
    with pytest.raises(UnparsableGold, match="the gold answer|the braces"):
        parse_gold(gold)
    given = grade(r"\boxed{5}", gold, config=CONFIG)
    assert (given.outcome, given.reward, bool(given.reason)) == ("ungraded", 0.0, True)


@pytest.mark.parametrize(
    "gold, answer",
    [
        ("She sold 48/2 = <<48/2=24>>24 clips.\n#### 72", "72"),
        ("... #### 1,200", "1,200"),
        (r"Thus \boxed{1} becomes \boxed{\frac{3}{4}}.", r"\frac{3}{4}"),
        (r"\dfrac 3 4", r"\frac{3}{4}"),
        (" 72 ", "72"),
    ],
)
def test_golds(gold, answer):
    assert parse_gold(gold).text == answer


@pytest.mark.parametrize("outcome, reward", [("correct", 2.0), ("format", 0.5), ("wrong", 0.0)])
def test_rewards_are_configured(outcome, reward):
    config = RewardConfig(correct_reward=2.0, format_reward=0.5, workers=1)
    response = {"correct": r"\boxed{5}", "format": r"\boxed{6}", "wrong": "6"}[outcome]
    given = grade(response, "5", config=config)
    assert (given.outcome, given.reward) == (outcome, reward)


def test_expressions_can_be_accepted():
    assert grade(r"\boxed{2+3}", "5", config=RewardConfig(accept_expressions=True, workers=1)).outcome == "correct"


def test_think_style_asks_for_reasoning():
    config = RewardConfig(style="think", workers=1)
    assert grade(r"\boxed{6}", "5", config=config).outcome == "wrong"
    assert grade(r"<think>hm</think>\boxed{6}", "5", config=config).outcome == "format"
    assert grade(r"<think>hm</think>\boxed{5}", "5", config=config).outcome == "correct"
    assert grade(r"\boxed{5}", "5", config=config).outcome == "wrong"  # thinking that nothing closed


@pytest.mark.parametrize(
    "settings",
    [
        {"style": "r1"},
        {"timeout_seconds": 0},
        {"timeout_seconds": float("inf")},
        {"memory_bytes": 1},
        {"workers": 0},
        {"format_reward": 2.0},
        {"correct_reward": float("nan")},
    ],
)
def test_invalid_settings(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        RewardConfig(**settings)


@pytest.mark.parametrize("text", ["2+3", "5x", "5m", "5 or 6", "1,2345", "1,23", "x", "", "1/0", "5^2", "1e999", "--5"])
def test_invalid_numbers(text):
    assert read_number(text) is None
