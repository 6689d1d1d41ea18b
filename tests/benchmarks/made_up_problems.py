"""Problems by the thousand, from templates: with LaTeX, and rows of word problems with a solution."""

# ruff: noqa: SIM905
import json
import random
from pathlib import Path

from rewording import NAMES

TEMPLATES = [
    r"Find the sum of all real numbers $x$ such that $\frac{{x^2+{a}x}}{{{b}}} = {c}$ and $x \le {d}$.",
    r"Let $f(x) = {a}x^2 - {b}x + {c}$. What is the largest possible value of $f({d}) \cdot f(-{e})$?",
    r"In triangle $ABC$, the angle at $A$ is ${a}^\circ$, $AB = {b}$ and $AC = {c}\text{{ cm}}$. Find the area of the "
    r"triangle if the first side is increased by ${d}\%$.",
    r"How many positive integers less than ${a}$ are divisible by {b} but not by {c} or {d}?",
    r"Evaluate $\sqrt{{{a}}} + \frac{{{b}}}{{{c}}} \cdot \sin {d}^\circ$ and round the result to {e} decimal places.",
    r"The sequence $a_1, a_2, \ldots, a_{{{a}}}$ is arithmetic with first term ${b}$ and last term ${c}$. What is the "
    r"sum of its even terms when {d} is added to each of them?",
    r"A committee of {a} people is chosen from {b} men and {c} women. If it has at least {d} women and more men than "
    r"women, in how many ways can the committee be chosen?",
    r"What is the smallest positive integer $n$ such that $n^2 + {a}n \ge {b}$ and $n \cdot {c}$ leaves a remainder of "
    r"${d}$ when divided by ${e}$?",
    r"The polynomial $p(x) = x^3 - {a}x^2 + {b}x - {c}$ has roots $r_1$, $r_2$ and $r_3$. Find the value of "
    r"$\frac{{1}}{{2}}(r_1 + r_2 + r_3) + {d}$.",
    r"A circle with center $(h, k)$ and radius ${a}$ passes through the points $({b}, {c})$ and $(-{d}, {e})$. Find "
    r"the largest possible value of $h + k$.",
]


def templated(count: int, rng: random.Random) -> list[str]:
    return [rng.choice(TEMPLATES).format(**{name: rng.randint(3, 4000) for name in "abcde"}) for _ in range(count)]


VERBS = "sold bought packed counted planted collected painted carried found stored".split()
THINGS = "apples books lamps tiles boxes coins tickets shells stamps pencils bottles cards flowers chairs".split()
PLACES = "at the market|in the garden|for the school|near the river|in the attic|on the train|at the fair".split("|")
TAILS = (
    "How many {} are left when {} of them are given away?|What is the cost of all {} if each one costs {} cents?|"
    "How many {} does that make after {} such days?"
).split("|")


def synthetic(path: Path, rows: int, seed: int = 0) -> None:
    """Rows of about 300 characters with a solution; every tenth is an earlier one of its block, with other spacing."""
    rng = random.Random(seed)
    block: list[dict] = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            if number % 10 == 9:
                row = rng.choice(block) | {}
                row["problem"] = row["problem"].replace(". ", ".  ")
            else:
                row = _synthetic_row(rng)
                block = (block + [row])[-100:]
            file.write(json.dumps(row) + "\n")


def _synthetic_row(rng: random.Random) -> dict:
    name, thing, count = rng.choice(NAMES), rng.choice(THINGS), rng.randint(10, 9999)
    sentences = [
        f"{rng.choice(NAMES)} {rng.choice(VERBS)} {rng.randint(2, 9999)} {rng.choice(THINGS)} {rng.choice(PLACES)}."
        for _ in range(4)
    ]
    tail = rng.choice(TAILS).format(thing, rng.randint(2, 99))
    problem = " ".join([f"{name} {rng.choice(VERBS)} {count} {thing} {rng.choice(PLACES)}.", *sentences, tail])
    return {"problem": problem, "answer": str(count * 3), "solution": f"There are {count} {thing}. " * 6}
