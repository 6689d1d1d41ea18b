r"""Which pairs are one problem. Every verdict is reasoned by hand; none comes from the code."""

import pytest

from openrlhf_math.curation.alike import band_keys, compare
from openrlhf_math.curation.normalise import form

STORY = "Tom has 3 red boxes and buys 12 more blue boxes at the market. How many boxes does he have altogether?"
FORMULA = r"Find the largest value of $2(x+3)$ such that $x^2 + y \le 10$ and $\sin x > 0$."

SAME = [
    (STORY, STORY),
    (STORY, STORY.replace("3", "three").replace("12", "twelve")),
    (STORY, STORY.replace("altogether", "in total").replace("buys", "purchases")),
    (STORY, STORY.replace("Tom", "Priyanka")),
    (STORY, "Solve this problem. " + STORY),
    (STORY, STORY.replace("red", "**red**").replace("boxes", "*boxes*")),
    (STORY, "**Problem.** " + STORY),
    ("Find $x^3 - 5x^2 + 3x - 4$ for $x = 2$.", "Find $x^3\n- 5x^2 + 3x \n- 4$ for $x = 2$."),
    (STORY, "## Problem\n\n" + STORY),
    (STORY, STORY.replace("boxes", "bxoes").replace("market", "markte")),
    (STORY.replace("3", "three"), STORY.replace("3", "trhee")),
    ("The number of pupils grew by 20%. Find it.", "The nubmer of pupils grew by 20%. Find it."),
    ("He pays for a $4 gift of $10.", "He pays for a 4 dollar gift of 10 dollars."),
    ("A dog runs 24 miles per hour.", "A dog runs 24 mph."),
    ("In triangle $ABC$, $AB = 7$ and $BC = 8$. Find $CA$.", "IN TRIANGLE $ABC$, $AB = 7$ AND $BC = 8$. FIND $CA$."),
    (
        "In how many ways can 8 people sit?",
        "In how many ways can 8 people sit? Show your work. The last line of your response should be of the form "
        "Answer: $ANSWER.",
    ),
]
OTHER = [
    (STORY, STORY.replace("12", "13")),
    (STORY, STORY.replace("3", "x").replace("12", "3").replace("x", "12")),
    (STORY, STORY.replace("more", "fewer")),
    (STORY, STORY.replace("has 3", "has no 3")),
    (STORY, STORY.replace("buys 12 more", "gives away 12")),
    (STORY, STORY + " He loses 2."),
    (FORMULA, FORMULA.replace("largest", "smallest")),
    (FORMULA, FORMULA.replace("+ y", "- y")),
    (FORMULA, FORMULA.replace("y", "z")),
    (FORMULA, FORMULA.replace(r"\le", r"\ge")),
    (FORMULA, FORMULA.replace("sin", "cos")),
    (FORMULA, FORMULA.replace("(x+3)", "x+3")),
    ("", ""),
]
OTHER += [
    # signs, extents of roots, exponents and fractions, brackets
    (r"Evaluate $-3^2+1$.", r"Evaluate $3^2+1$."),
    ("The solutions are $-2$ and $-5$.", "The solutions are $2$ and $5$."),
    ("What is f(x) at the point where x is -2?", "What is f(x) at the point where x is 2?"),
    (r"Find $\sqrt{x+1}$ for $x=3$.", r"Find $\sqrt{x}+1$ for $x=3$."),
    (r"Find $\sqrt{16+9}$.", r"Find $\sqrt{16}+9$."),
    (r"Find $\sqrt{2x}$.", r"Find $\sqrt{2}x$."),
    (r"Find $2^{x+1}$.", r"Find $2^x+1$."),
    (r"Find $a_{n+1}$.", r"Find $a_n+1$."),
    (r"Simplify $\frac{a}{b}\cdot c$.", r"Simplify $\frac{a}{b\cdot c}$."),
    (r"Simplify $\frac{a+b}{c}$.", r"Simplify $a+\frac{b}{c}$."),
    (r"Compute $\frac{3}{4}^2$.", r"Compute $\frac{3}{4^2}$."),
    (r"Compute $-3^2$.", r"Compute $(-3)^2$."),
    (r"Compute $2^{3^2}$.", r"Compute $(2^3)^2$."),
    (r"Compute $\binom{10}{3}$.", r"Compute $\frac{10}{3}$."),
    (r"Compute $\lfloor 2.5\rfloor$.", r"Compute $\lceil 2.5\rceil$."),
    (r"Compute $\log(a+b)$.", r"Compute $\log a+b$."),
    (r"Find all $x$ in $[0,1]$.", r"Find all $x$ in $(0,1)$."),
    (r"Write $0.\overline{3}$ as a fraction.", "Write $0.3$ as a fraction."),
    (r"Find $|x-1|+2$.", r"Find $|x-1+2|$."),
    (r"Find $1-(2-x)$.", r"Find $1-2-x$."),
    (r"Find $f'(2)$.", r"Find $f(2)$."),
    # a word for its opposite, a bound, a negation
    ("Find the domain of f.", "Find the range of f."),
    ("Find the area of the shaded region.", "Find the area of the unshaded region."),
    ("A circle is inscribed in a square of side 4.", "A circle is circumscribed in a square of side 4."),
    ("What is the probability of at least 3 heads in 10?", "What is the probability of at most 3 heads in 10?"),
    ("What is the probability of exactly 3 heads in 10?", "What is the probability of 3 heads in 10?"),
    ("The board is 8 feet long.", "The board is 8 feet wide."),
    ("What is the side opposite the angle of 30 degrees?", "What is the side adjacent the angle of 30 degrees?"),
    ("Encrypt the word with a shift of 3.", "Decrypt the word with a shift of 3."),
    ("How many numbers are divisible by 3?", "How many numbers are not divisible by 3?"),
    (r"Compute $12 \% $ of $50$.", "Compute $12$ of $50$ as a percentage."),
    (
        "If there are 4 red crayons in a box, and there are 3 blue crayons. How many crayons are in the box?",
        "If there are 4 red crayons in a box, and there are 5 blue crayons. How many crayons are in the box?",
    ),
    (
        "Ana can answer a question every 2 minutes. How many does she answer in an hour?",
        "Ana can answer a question every 3 minutes. How many does she answer in an hour?",
    ),
    ("Compute $a *b* c$.", "Compute $a b + c$."),
    # the question is for another thing, or words have changed places
    (
        "A shop sells 12 pears on Friday and 15 at noon. How many pears are sold at noon?",
        "A shop sells 12 pears on Friday and 15 at noon. How many pears are sold on Friday?",
    ),
    (
        "Ida is 3 years older than Bo, who is 12. How old is Ida?",
        "Bo is 3 years older than Ida, who is 12. How old is Bo?",
    ),
    (
        "Of 30 pupils 40% are left-handed and the others right-handed. How many are left-handed?",
        "Of 30 pupils 40% are right-handed and the others left-handed. How many are right-handed?",
    ),
    ("How many orders do the letters of MATH have?", "How many orders do the letters of LATH have?"),
    # options and drawings
    (
        "Which of the following is prime? (A) 4 (B) 6 (C) 7 (D) 8",
        "Which of the following is prime? (A) 4 (B) 11 (C) 9 (D) 8",
    ),
    (
        "Find the shaded area. [asy]draw((0,0)--(1,1));[/asy]",
        "Find the shaded area. [asy]draw((0,0)--(3,4));[/asy]",
    ),
]
PLAIN = r"Find the remainder when $2^{2024}$ is divided by $7$."
SAME += [
    *((PLAIN, around.format(PLAIN)) for around in (
        "4. {}", "Example 3 {}", "(5 points) {}", "(2019 AIME) {}", "{} (5 points)", "Problem 12. {}", "[b]Problem "
        "2.[/b] {}",
        "**Question 7:** {}", "{} Please reason step by step, and put your final answer within \\boxed{{}}.",
        "Solve the following problem. {}", "<p>{}</p>", "{}\n(A) 1 (B) 2 (C) 3 (D) 4", "15. (AMC 12, 2024) {}",
    )),
    (r"Find $\dfrac{x+1}{2}$ for $x \leq 3$.", "Find (x+1)/2 for x <= 3."),
    (r"Find $\sqrt{x+1}\cdot\pi$.", "Find √(x+1)·π."),
    (r"Let $x^2+y_1=3$.", "Let x² + y₁ = 3."),
    (r"Let $\\frac{1}{2}x = 3$.", r"Let $\frac{1}{2}x = 3$."),
    ("Find the area. [asy]draw((0,0)--(1,1));[/asy]", "Find the area."),
]  # fmt: skip


@pytest.mark.parametrize("first, second", SAME)
def test_same_problem(first, second):
    forms = form(first), form(second)
    assert compare(*forms).verdict in ("exact", "same")
    assert compare(*reversed(forms)).verdict in ("exact", "same")
    shared = band_keys([one.tokens for one in forms])
    assert (shared[0] == shared[1]).any()


@pytest.mark.parametrize("first, second", OTHER)
def test_another_problem(first, second):
    assert compare(form(first), form(second)).verdict == "other"
    assert compare(form(second), form(first)).verdict == "other"


def test_unexplained_word_makes_problems_near_not_equal():
    found = compare(form(STORY), form(STORY.replace("market", "harbour")))
    assert (found.verdict, found.unexplained) == ("near", 1)
