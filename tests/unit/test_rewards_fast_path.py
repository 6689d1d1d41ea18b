"""The fast path on numbers in every spelling: what is equal is known from how the texts were made."""

import random
from fractions import Fraction

import pytest

from openrlhf_math.rewards.equivalence import same_number
from openrlhf_math.rewards.gold import parse_gold
from openrlhf_math.rewards.notation import tidy
from openrlhf_math.rewards.number import read_number

PAIRS = 5000


def spell(value: Fraction, rng: random.Random) -> str:
    """One of the ways to write a number exactly."""
    sign, size = ("-" if value < 0 else ""), abs(value)
    whole, part = divmod(size, 1)
    top, bottom = size.numerator, size.denominator
    ways = [
        rf"{sign}\frac{{{top}}}{{{bottom}}}",
        rf"{sign}\dfrac{{{top * 3}}}{{{bottom * 3}}}",
        f"{sign}{top}/{bottom}",
    ]
    if bottom == 1:
        ways += [f"{sign}{top}", f"{sign}{top}.0", f"{sign}{top:,}", f"{sign}{top:,}".replace(",", "{,}")] * 2
        ways += [rf"{sign}{top}\text{{ cm}}", rf"{sign}\${top}", rf"{sign}{top}^\circ", f"{sign}{top} apples"]
    elif whole:
        ways.append(rf"{sign}{whole}\frac{{{part.numerator}}}{{{part.denominator}}}")
    if 10**6 % bottom == 0:
        digits = str(size * 10**6 + 10**12)[1:].lstrip("0")
        ways.append(f"{sign}{int(digits or 0) // 10**6}.{digits.zfill(6)[-6:]}")
    return rng.choice(ways)


def random_value(rng: random.Random) -> Fraction:
    return Fraction(rng.randint(-3000, 3000), rng.choice([1, 1, 1, 2, 3, 4, 5, 7, 8, 10, 16, 100]))


def test_numbers():
    rng = random.Random(7)
    mistaken = []
    for _ in range(PAIRS):
        value = random_value(rng)
        others = [-value, value + 1, value / 100, value * 100, value + Fraction(1, 1000), random_value(rng)]
        other = value if rng.random() < 0.5 else rng.choice(others)
        gold, answer = parse_gold(spell(value, rng)), read_number(tidy(text := spell(other, rng)))
        assert gold.number and answer, (gold.text, text)
        units = "cm" in gold.text and ("\\$" in text or "circ" in text or "apples" in text)
        if gold.number.unit and answer.unit and gold.number.unit != answer.unit or units:
            continue
        if same_number(gold.number, answer) != (value == other):
            mistaken.append((gold.text, text))
    assert mistaken == []


@pytest.mark.parametrize(
    "gold, answer, same",
    [
        (r"\frac{1}{3}", "0.333333", True),
        (r"\frac{1}{3}", "0.333334", False),
        (r"\frac{1}{3}", "0.33333", False),
        ("0.333333", r"\frac{1}{3}", True),
        ("17", "16.9999999", False),
        ("17", "17.0000000", True),
        ("0.3", "0.30000000000000004", True),
        ("0.000001", "0.0000014", False),
        (r"\frac{1}{3000000}", "0.00000033", False),
        (r"1.5\times10^{-9}", "0.0000000015", True),
        ("3.14", r"\frac{22}{7}", False),
        ("0.5", r"50\%", True),
        ("50", r"50\%", True),
        (r"50\%", "0.5", True),
        ("204", r"20400\%", False),
        ("500", r"5\%", False),
        (r"15\text{ cm}", r"150\text{ mm}", True),
        (r"15\text{ cm}", r"15\text{ cm}^2", False),
        (r"15\text{ cm}", r"15\text{ m}", False),
        (r"60\text{ km/h}", r"60\text{ km per hour}", True),
        ("3:4", "0.75", True),
        ("6:1", "6", False),
        ("6:1", "6th", False),
        ("204", "204:1", False),
    ],
)
def test_pairs(gold, answer, same):
    assert same_number(parse_gold(gold).number, read_number(tidy(answer))) is same


@pytest.mark.parametrize(
    "text",
    [
        "12:30", "5m", "2cd", "204n", r"204\text{ x}", r"204\text{ halves}", r"204\text{ tens}", "204 ab",
        r"204\text{ percent off}", r"204\text{ is wrong}", r"100\%\%", "5.6.7", r"204\text{ base seven}",
        r"\frac{3}{2} mg",
    ],
)  # fmt: skip
def test_values_that_are_not_one_number(text):
    assert read_number(tidy(text)) is None
