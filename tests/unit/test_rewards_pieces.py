r"""Functions in pieces: generated ones, equal or not by their values at rational points, and what people write."""

import random
from fractions import Fraction

import pytest

from openrlhf_math.rewards import RewardConfig, grade

CONFIG = RewardConfig(workers=1)
POINTS = [Fraction(number, 4) for number in range(-40, 41)]

# A function is (bound, closed on the left?, slope on the left, slope on the right).
Made = tuple[int, bool, int, int]


def value_at(function: Made, point: Fraction) -> Fraction:
    bound, left_closed, left, right = function
    return (left if point < bound or point == bound and left_closed else right) * point + 1


def written(function: Made, rng: random.Random) -> str:
    bound, left_closed, left, right = function
    less, more = (r"\le", ">") if left_closed else ("<", r"\ge")
    turned_less, turned_more = (r"\ge", "<") if left_closed else (">", r"\le")
    on_left = rng.choice([f"x {less} {bound}", f"{bound} {turned_less} x", rf"\text{{if }} x {less} {bound}"])
    on_right = rng.choice([f"x {more} {bound}", f"{bound} {turned_more} x", r"\text{otherwise}"])
    rows = [f"{left}x+1 & {on_left}", f"1+{right}x, & {on_right}"]
    if "otherwise" not in on_right and rng.random() < 0.5:
        rows.reverse()
    return rng.choice(["", "f(x)="]) + r"\begin{cases}" + r" \\ ".join(rows) + r"\end{cases}"


def test_generated_functions():
    rng = random.Random(5)
    seen = {True: 0, False: 0}
    for _ in range(150):
        gold: Made = (rng.randint(-3, 3), rng.random() < 0.5, rng.randint(2, 4), rng.randint(5, 7))
        answer = list(gold)
        if rng.random() < 0.6:
            place = rng.randrange(4)
            answer[place] = not answer[place] if place == 1 else answer[place] + rng.choice((-1, 1))
        made: Made = tuple(answer)
        same = all(value_at(gold, point) == value_at(made, point) for point in POINTS)
        # Two pieces of one slope are one function, whatever the bound: the grader compares pieces and says no.
        if same and made != gold:
            continue
        found = grade(rf"\boxed{{{written(made, rng)}}}", written(gold, rng), config=CONFIG).outcome
        assert (found == "correct") == same, (gold, made)
        seen[same] += 1
    assert min(seen.values()) > 30


GOLD = r"f(x)=\begin{cases}x^2&x\ge0\\-x&x<0\end{cases}"
EVEN = r"\begin{cases}1&\text{if }n\text{ is even}\\0&\text{if }n\text{ is odd}\end{cases}"


@pytest.mark.parametrize(
    "gold, answer, right",
    [
        (GOLD, r"\begin{cases}x^2&x\ge0\\-x&x<0\end{cases}", True),
        (GOLD, r"f(x) = \begin{cases} x^2 & \text{for } x\geq 0, \\ -x & \text{for } x < 0. \end{cases}", True),
        (GOLD, r"\begin{cases} x^2, & x \ge 0 \\ -x, & x<0 \\ \end{cases}", True),
        (GOLD, r"\left\{\begin{array}{ll}-x & x<0\\x^2 & x\ge0\end{array}\right.", True),
        (GOLD, r"\begin{cases}x^2&x>0\\-x&x\le0\end{cases}", False),
        (GOLD, r"\begin{cases}-x&x\ge0\\x^2&x<0\end{cases}", False),
        (GOLD, r"\begin{cases}x^2&x\ge0\end{cases}", False),
        (GOLD, r"\begin{cases}x^2&\text{otherwise}\\-x&\text{otherwise}\end{cases}", False),
        (GOLD, r"g(x)=\begin{cases}x^2&x\ge0\\-x&x<0\end{cases}", False),
        (GOLD, r"\begin{cases}x^2&t\ge0\\-x&t<0\end{cases}", False),
        (GOLD, r"\begin{cases}x^2\\-x\end{cases}", False),
        (GOLD, r"\begin{cases}x^2&x\ge0\\-x&x<0\\5&x=7\end{cases}", False),
        (GOLD, "x^2", False),
        (EVEN, r"\begin{cases} 0, & n\text{ odd} \\ 1, & n \text{ even}\end{cases}", True),
        (EVEN, r"\begin{cases} 0, & n\text{ even} \\ 1, & n \text{ odd}\end{cases}", False),
        ("(1,2)", r"\begin{cases}x=1\\y=2\end{cases}", True),
        ("x=1, y=2", r"\left\{\begin{array}{l}x=1\\y=2\end{array}\right.", True),
        ("(1,2)", r"\begin{cases}x=2\\y=1\end{cases}", False),
        ("x=1, y=2", r"\begin{cases}y=1\\x=2\end{cases}", False),
    ],
)
def test_pieces_and_systems(gold, answer, right):
    assert (grade(rf"\boxed{{{answer}}}", gold, config=CONFIG).outcome == "correct") == right
