"""What is done in the trainer's own process takes milliseconds and raises nothing, for any answer."""

import random
import time

from openrlhf_math.rewards import RewardConfig
from openrlhf_math.rewards.outcome import begin

CONFIG = RewardConfig()
# Bits that patterns of the grader look for: repeated, they find one that backtracks; shuffled, one that breaks.
_BITS = (
    "a|a |ab |(|()|[|{|{}|{a|\\{|\\|\\ |\\frac|\\frac{|\\frac{1}{2}|\\text{|\\text{a}|\\sqrt{|\\boxed{|\\boxed{5}|"
    "{a \\choose |1|1,|1,000|1 |1/|1:|-|+|=|x=|5=|<|>|^|^\\circ|^{|_{1}|%|$|\\$|.|...|,|;| or | and |"
    "\\pm|\\approx|\\pmod{|A.|(A)|\n| |~|!|é|−|"
    "\u200b|½|²|√(|√()|√|∞|<answer>|</answer>|<think>|</think>|answer is |#### |**|`|'|a-|infinity|percent|million|"
    "\\overline{3}|0.|e5|\\times 10^|\\left(|\\,|{,}|\\!|\\begin{pmatrix}|&|\\\\|\ud800|\x00|٧|\\mid|\\in"
)
BITS = _BITS.split("|")
GOLDS = ("5", "x+y", "(1,2)", r"\text{yes}", "B", "y=2x", "50%")
SLOW_SECONDS = 2  # of this process: other load on the machine does not count. What hangs takes far longer


def check(response: str, gold: str) -> None:
    begun = time.process_time()
    grade = begin(response, gold, f"Which? (A) {response[:60]} (B) 5", CONFIG)
    assert "error" not in getattr(grade, "reason", ""), (response[:200], grade.reason)
    assert time.process_time() - begun < SLOW_SECONDS, response[:200]


def test_repetitions():
    for bit in BITS:
        for before in ("", "5 ", "x=", "{"):
            check(rf"\boxed{{{before}{bit * (1900 // len(bit))}}}", "x+y")
        check(bit * (1_000_000 // len(bit)), "5")


def test_mixtures():
    rng = random.Random(3)
    for _ in range(3000):
        content = "".join(rng.choices(BITS, k=rng.randint(1, 12)))
        check(rng.choice([rf"\boxed{{{content}}}", content, f"the answer is {content}"]), rng.choice(GOLDS))


def test_mixtures_as_golds():
    rng = random.Random(4)
    for _ in range(2000):
        check(r"\boxed{5}", "".join(rng.choices(BITS, k=rng.randint(1, 8))))
