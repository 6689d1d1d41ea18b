r"""Fingerprints: what they tell apart the grader tells apart, and many different answers of one kind cost no pairs."""

import itertools
import random
from collections import Counter

import pytest

from openrlhf_math.rerank.answer_clusters import GraderSays, group
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.rewards.fingerprint import fingerprint
from openrlhf_math.rewards.notation import tidy
from openrlhf_math.rewards.same import equivalent

NUMBERS = ["0", "1", "2", "3", r"\frac{4}{2}", r"\sqrt{4}", r"\frac{6}{2}", r"\sqrt{2}", "1+\\sqrt{2}"]
LETTERS = ["a", "b", "1a", "2a", "a^2", "a\\cdot a"]


def an_equation(rng: random.Random) -> str:
    a, b, c, factor = (rng.choice([-3, -2, -1, 1, 2, 3]) for _ in range(4))
    left, right = f"{a * factor}x+({b * factor})y", str(c * factor)
    return rng.choice([f"{left}={right}", f"{right}={left}", rf"y=\frac{{{c}-({a})x}}{{{b}}}", f"x={c}", f"y={c}x"])


def a_region(rng: random.Random) -> str:
    a, b = rng.randint(0, 2), rng.randint(1, 3)
    return rng.choice([
        f"[{a},{a + b})", f"]{a},{a + b}]", f"{a}<x<{a + b}", f"x>{a}", rf"x\ge {a}", rf"[{a},\infty)", f"|x|<{b}",
        rf"x<{a}\text{{ or }}x>{a + b}", rf"(-\infty,{a})\cup({a + b},\infty)", rf"x\ne {a}", f"-{b}<x<{b}",
        rf"\mathbb{{R}}\setminus\{{{a}\}}", rf"\{{{a},{b}\}}", f"{a},{b}", rf"\{{{a},{a}\}}",
    ])  # fmt: skip


def some_items(rng: random.Random) -> str:
    pool = rng.choice([NUMBERS, NUMBERS, LETTERS + NUMBERS, [f"({a},{b})" for a in "12" for b in "12"]])
    items = ", ".join(rng.choices(pool, k=rng.randint(1, 3)))
    return rng.choice([rf"\{{{items}\}}", items, f"({items})"])


def some_names(rng: random.Random) -> str:
    return ", ".join(f"{rng.choice('xyz')}={rng.choice(NUMBERS[:6])}" for _ in range(rng.randint(1, 3)))


def test_distinct_problems_differ():
    rng = random.Random(4)
    texts = [tidy(make(rng)) for make in (an_equation, a_region, some_items, some_names) for _ in range(40)]
    texts = list(dict.fromkeys(texts))
    found = {text: fingerprint(text) for text in texts}
    kinds = {text: one.partition(" ")[0] for text, one in found.items()}
    told, equal = Counter(), 0
    for one, other in itertools.combinations(texts, 2):
        if not kinds[one] or kinds[one] != kinds[other]:
            continue
        if found[one] != found[other]:
            told[kinds[one]] += 1
            assert not equivalent(one, other) and not equivalent(other, one), (one, other)
        else:
            equal += equivalent(one, other)
    assert {"equation", "region", "items", "named", "value"} <= told.keys() and min(told.values()) > 5 and equal > 10


@pytest.mark.parametrize(
    "answers",
    [
        [f"y={n}x+{n + 1}" for n in range(80)],
        [f"x^2+y^2={n}y" for n in range(1, 81)],
        [rf"\{{{n},{n + 1},a\}}" for n in range(80)],
        [f"x>{n}" for n in range(80)],
        [f"[{n},{n + 5})" for n in range(80)],
        [f"({n},1),({n},2)" for n in range(80)],
        [f"x={n}, y={n + 1}" for n in range(80)],
    ],
    ids=["lines", "circles", "sets", "inequalities", "intervals", "points", "names"],
)
def test_many_different_answers_ask_for_no_pair(answers):
    pool = GradingPool(RewardConfig(workers=1))
    try:
        says = GraderSays(pool)
        assert group(answers, says) == list(range(len(answers)))
        assert says.compared == 0
    finally:
        pool.close()


def test_constant_may_have_another_name():
    problem = "Find the general solution of the equation."
    assert fingerprint("x^2+c", problem) == fingerprint("x^2+C", problem) == ""
    assert fingerprint("x^2+c") != fingerprint("x^2+C")
