"""Attempts into classes: the same answer is one class however it is written, and hostile answers cost little."""

import random
import time

import pytest

from openrlhf_math.rerank.classes import MOST_UNDECIDED, GraderSays, group
from openrlhf_math.rewards import GradingPool, RewardConfig


@pytest.fixture(scope="module")
def pool():
    pool = GradingPool(RewardConfig(workers=1, timeout_seconds=0.5))
    yield pool
    pool.close()


@pytest.fixture
def slow_pool(monkeypatch):
    monkeypatch.setattr("openrlhf_math.rewards.pool.MODULE", "slow_judge")
    pool = GradingPool(RewardConfig(workers=1, timeout_seconds=0.5))
    yield pool
    pool.close()


@pytest.mark.parametrize(
    "answers, classes",
    [
        ([], []),
        ([None, None], [None, None]),
        (["", "  ", "5"], [None, None, 0]),
        (["5", "5", "6", "5"], [0, 0, 1, 0]),
        ([r"\frac{1}{2}", "0.5", "1/2", "2", r"\dfrac12"], [0, 0, 0, 1, 0]),
        (["3, 5", r"\{5, 3\}", "(5,3)"], [0, 0, 1]),
        (["x=3", "3", r"\boxed{3}", "4"], [0, 0, 0, 1]),
        ([r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", "0.7"], [0, 0, 1]),
        (["10^4", "10000", "10{,}000"], [0, 0, 0]),
        ([r"\text{Yes}", "no", "yes"], [0, 1, 0]),
        ([r"2\cdot x", r"2 \cdot y", "2x"], [0, 1, 0]),
        (["{", "{", "}", "5"], [0, 0, 1, 2]),
        (["9" * 3000, "9" * 3000, "9" * 3001], [0, 0, 1]),
        # both count for 5, yet they are not each other
        ([r"5\text{ m}", r"5\text{ cm}"], [0, 1]),
        (["x=3", "y=3"], [0, 1]),
        # 50% counts for 50 and for 0.5, which are not each other
        (["50", "0.5", r"50\%"], [0, 1, 0]),
    ],
)
def test_classes(answers, classes, pool):
    assert group(answers, GraderSays(pool)) == classes


def test_a_letter_and_its_option_are_one_answer(pool):
    problem = "How many? (A) 10 (B) 12"
    assert group(["B", "12", "(b)", "10"], GraderSays(pool, problem)) == [0, 0, 0, 1]


def test_the_order_of_the_attempts_does_not_change_the_classes(pool):
    answers = ["50", "0.5", r"50\%", r"\frac12", "1/2", None, r"5\text{ m}", "5", r"5\text{ cm}", "x=5"]
    says = GraderSays(pool)

    def partition(order):
        classes = group([answers[i] for i in order], says)
        return {
            frozenset(i for i, c in zip(order, classes, strict=True) if c == name) for name in set(classes) - {None}
        }

    wanted = partition(range(len(answers)))
    for seed in range(20):
        order = random.Random(seed).sample(range(len(answers)), len(answers))
        assert partition(order) == wanted


def test_equal_texts_are_compared_once():
    asked = []

    def same(first, second):
        asked.append((first, second))
        return False

    assert group(["7", " 7 ", "$7$", "8", "8"] * 100, same) == [0, 0, 0, 1, 1] * 100
    assert asked == [("7", "8")]


def test_the_grader_is_given_a_text_that_was_written():
    asked = set()
    group([r"\cdot y + z", "1"], lambda *pair: asked.update(pair))
    assert asked == {r"\cdot y + z", "1"}


def test_answers_that_hang_the_grader_stay_apart_and_cost_a_few_deadlines(pool):
    hostile = [rf"9^{{9^{{9^{{{n}}}}}}} + x" for n in range(10, 22)]
    says = GraderSays(pool)
    begun = time.monotonic()
    classes = group([*hostile, "7", "7.0", "8"], says)
    assert classes[-3:] == [12, 12, 13]
    assert says.undecided <= MOST_UNDECIDED
    assert time.monotonic() - begun < 60


def test_many_different_values_cost_one_computation_each(pool):
    """64 attempts of the form a*sqrt(b)+c, each in two spellings, are 64 classes and 64 comparisons, not 8,128."""
    rng = random.Random(2)
    values = {(rng.randint(2, 99), rng.choice([2, 3, 5, 7]), rng.randint(1, 99)) for _ in range(70)}
    first = [rf"{a}\sqrt{{{b}}}+{c}" for a, b, c in values][:64]
    second = [rf"{c}+\sqrt{{{a * a * b}}}" for a, b, c in values][:64]
    says = GraderSays(pool)
    assert group([*first, *second], says) == [*range(64), *range(64)]
    assert says.compared == 64


def test_tuples_are_computed_once(pool):
    says = GraderSays(pool)
    assert group([f"({n},{n + 1})" for n in range(40)], says) == list(range(40))
    assert says.compared == 0


def test_one_answer_that_cannot_be_computed_costs_one_deadline(slow_pool):
    says = GraderSays(slow_pool)
    answers = [rf"\sqrt{{{n}}}+x" for n in range(2, 30)]
    begun = time.monotonic()
    assert group([*answers, "s_{pin}+x"], says)[-1] == len(answers)
    assert says.undecided == 1
    assert time.monotonic() - begun < 30
