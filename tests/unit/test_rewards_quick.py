"""The fast path never contradicts math-verify: on thousands of random pairs of numbers in every spelling both read."""

import logging
import random
from fractions import Fraction

import pytest

from openrlhf_math.rewards.gold import parse_gold
from openrlhf_math.rewards.notation import tidy
from openrlhf_math.rewards.quick import quick

PAIRS = 2500


def spell(value: Fraction, rng: random.Random) -> str:
    """One of the ways to write a number that math-verify reads too."""
    sign, size = ("-" if value < 0 else ""), abs(value)
    whole, part = divmod(size, 1)
    top, bottom = size.numerator, size.denominator
    ways = [
        rf"{sign}\frac{{{top}}}{{{bottom}}}",
        rf"{sign}\dfrac{{{top * 3}}}{{{bottom * 3}}}",
        f"{sign}{top}/{bottom}",
    ]
    if bottom == 1:
        ways += [
            f"{sign}{top}",
            f"{sign}{top}.0",
            f"{sign}{top:,}",
            f"{sign}{top:,}".replace(",", "{,}"),
            f"{sign}{top}",
        ] * 2
        ways += [rf"{sign}{top}\text{{ cm}}", rf"{sign}\${top}", rf"{sign}{top}^\circ", rf"{sign}{top}\%"]
    elif whole:
        ways.append(rf"{sign}{whole}\frac{{{part.numerator}}}{{{part.denominator}}}")
    if 10**6 % bottom == 0:
        ways += [f"{sign}{float(size):.6f}".rstrip("0") + "0", rf"{sign}{float(size * 100):g}\%"]
    ways.append(f"{sign}{float(size):.{rng.choice([2, 5, 6, 7, 9])}f}")
    return rng.choice(ways)


def random_value(rng: random.Random) -> Fraction:
    return Fraction(rng.randint(-3000, 3000), rng.choice([1, 1, 1, 2, 3, 4, 5, 7, 8, 10, 16, 100]))


@pytest.fixture(scope="module")
def math_verify():
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    from math_verify import LatexExtractionConfig, parse, verify

    config = (LatexExtractionConfig(boxed_match_priority=0),)

    def same(gold: str, answer: str) -> bool:
        parsed = [parse(rf"\boxed{{{text}}}", config, parsing_timeout=None) for text in (gold, answer)]
        return verify(*parsed, timeout_seconds=None)

    return same


def test_numbers(math_verify):
    rng = random.Random(7)
    decided, contradicted = 0, []
    for _ in range(PAIRS):
        value = random_value(rng)
        other = (
            value
            if rng.random() < 0.5
            else rng.choice([-value, value + 1, value / 100, value * 100, random_value(rng)])
        )
        gold, answer = spell(value, rng), spell(other, rng)
        verdict = quick(parse_gold(gold), tidy(answer))
        if verdict is not None:
            decided += 1
            if verdict != math_verify(gold, answer):
                contradicted.append((gold, answer, verdict))
    assert contradicted == [], "\n".join(map(str, contradicted))
    assert decided > 0.85 * PAIRS  # the rest: negative percentages, and decimals that come close
