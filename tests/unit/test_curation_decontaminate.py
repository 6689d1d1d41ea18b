"""Benchmark problems in training rows: found in any form; other problems are kept and reported."""

import pytest

from openrlhf_math.curation.alike import band_keys
from openrlhf_math.curation.decontaminate import BenchmarkIndex, BenchmarkProblem, Overlap
from openrlhf_math.curation.normalise import form

LONG = (
    "Every morning Aya goes for a 9-kilometer-long walk and stops at a coffee shop afterwards. When she walks at a "
    "constant speed of s kilometers per hour, the walk takes her 4 hours, including 24 minutes spent in the shop."
)
BOILERPLATE = " The answer can be written as m/n where m and n are relatively prime positive integers. Find m + n."
SHORT = r"Compute $\sin 60^\circ$."


def find(row: str, overlap: Overlap | None = None):
    texts = (LONG + BOILERPLATE, SHORT, "What is the value of 17 squared?")
    index = BenchmarkIndex(
        [BenchmarkProblem("test", row, text) for row, text in enumerate(texts, 1)], overlap or Overlap()
    )
    one = form(row)
    return index.find(one, band_keys([one.tokens])[0])


@pytest.mark.parametrize(
    "row, how, number",
    [
        (LONG + BOILERPLATE, "exact", 1),
        (LONG.replace("9-", "nine ").replace("4 hours", "four hours") + BOILERPLATE.upper(), "exact", 1),
        ((LONG + BOILERPLATE).replace("morning", "day").replace("afterwards", "then"), "near", 1),
        ("Here is a task for you. " + LONG + BOILERPLATE + " Think step by step. " * 30, "contains", 1),
        (r"Find $\sin 60°$", "exact", 2),
        ("Tell me this: what is the value of 17 squared? Answer with the number alone, no words.", "contains", 3),
    ],
)
def test_detected(row, how, number):
    hit = find(row)
    assert (hit.how, hit.problem.row, hit.same) == (how, number, True)


@pytest.mark.parametrize(
    "row",
    [
        "A bag holds 5 red and 7 blue marbles, and two are drawn. What is the probability of one each?" + BOILERPLATE,
        r"Compute $\sin 30^\circ$.",
        "What is the value of 18 squared?",
        "",
    ],
)
def test_not_detected(row):
    hit = find(row)
    assert hit is None or not hit.same


PEOPLE = "Ida is 3 years older than Bo, who is 12 years old. How old is Ida?"
LETTERS = "How many permutations of the letters of MATH are there with 2 fixed points?"


@pytest.mark.parametrize(
    "problem, row, same",
    [
        (PEOPLE, "Bo is 3 years older than Ida, who is 12 years old. How old is Bo?", False),
        (LETTERS, LETTERS.replace("MATH", "LATH"), False),
        ("Let $x^2 + y = 7$ and $y > x$. Find $x$.", "Let $p^2 + q = 7$ and $q > p$. Find $p$.", True),
        ("Let $x^2 + y = 7$ and $y > x$. Find $x$.", "Let $p^2 + q = 7$ and $q > p$. Find $q$.", False),
        ("Mia has 4 stamps. Mia gives away 1. Mia loses 2. Mia sells 1. Mia finds 2. How many stamps?",
         "Mia has 4 stamps. Mia finds 2. Mia sells 2. How many stamps?", False),
        ("Tom has 6 coins. Tom buys 3. Tom gives away 1. How many coins?",
         "Tom has 6 coins. Tom finds 1. Tom gives away 3. How many coins?", False),
        ("Leo has 6 books. Leo buys 1. Leo sells 3. How many books?",
         "Leo has 6 books. Leo sells 1. Leo finds 3. How many books?", False),
        (LONG + " How far is it?", "How far is it? " + LONG, True),
        (LONG, LONG[len(LONG) // 2 :], True),
        ("A bag holds 4 white and 6 black chips. What is the chance of 2 white chips?",
         "There are four white chips and six black chips in a bag. Find the chance of two white chips.", True),
        ("A pen costs 2 dollars and a book 9 dollars. What do 3 pens and a book cost?",
         "A pen costs 2 dollars and a book 9 dollars. What do a pen and 3 books cost?", False),
        # one qualifying word more or less
        ("The angles of a triangle are in the ratio $2:3:4$. How big is its smallest angle?",
         "The exterior angles of a triangle are in the ratio $2:3:4$. How big is its smallest angle?", False),
        ("The exterior angles of a triangle are in the ratio $2:3:4$. How big is its smallest angle?",
         "The angles of a triangle are in the ratio $2:3:4$. How big is its smallest angle?", False),
        ("Compute $2(a - 3)(b + 1)$ for $a = 7$ and $b = -2$.",
         "Compute the square of $2(a - 3)(b + 1)$ for $a = 7$ and $b = -2$.", False),
        # another unit, another part
        ("A cone has volume 48 cubic centimeters, height 9 centimeters. Find the girth of its base, in centimeters.",
         "A cone has volume 48 cubic centimeters, height 9 centimeters. Find the girth of its base, in meters.", False),
        ("Juice costs 50 cents a glass and honey 5 dollars a jar. What are 7 glasses and 3 jars?",
         "Juice costs 50 dollars a glass and honey 5 dollars a jar. What are 7 glasses and 3 jars?", False),
        ("How many more hens than goats has a farmer who counts 35 heads and 94 feet?",
         "How many times as many hens than goats has a farmer who counts 35 heads and 94 feet?", False),
        ("What is 20 percent of 45?", "20 is what percent of 45?", False),
        ("What is the sum of all real $t$ such that $4^t - 6 \\cdot 2^t - 16 = 0$ or $t = 3$?",
         "What is the number of all real $t$ such that $4^t - 6 \\cdot 2^t - 16 = 0$ or $t = 3$?", False),
        # variables that come once; x and y have their axes
        ("If $x + y = 11$ and $x^3 + y^3 = 407$, what is the value of $xy - 2$?",
         "If $t + u = 11$ and $t^3 + u^3 = 407$, what is the value of $tu - 2$?", True),
        ("The curve $4x^2 + 9(y+1)^2 = 36$ has two vertices on one line. How far are they apart?",
         "The curve $4t^2 + 9(u+1)^2 = 36$ has two vertices on one line. How far are they apart?", True),
        ("What is the slope of the line $y = 2x$?", "What is the slope of the line $x = 2y$?", False),
        # cut off: the last option, a formula
        ("Which of the following numbers is the largest? (A) $2^{30}$ (B) $3^{20}$ (C) $5^{12}$ (D) $7^{10}$",
         "Which of the following numbers is the largest? (A) $2^{30}$ (B) $3^{20}$ (C) $5^{12}$", True),
        ("Which of the following numbers is the largest? (A) $2^{30}$ (B) $3^{20}$ (C) $5^{12}$ (D) $7^{10}$",
         "Which of the following numbers is the largest? (A) $2^{31}$ (B) $3^{20}$ (C) $5^{12}$ (D) $7^{10}$", False),
        ("Compute $2(a - 3)(b + 1)$ for $a = 7$ and $b = -2$, and then add $5(a + b)(a - b)$.",
         "Compute $2(a - 3)(b + 1)$ for $a = 7$ and $b = -2$, and then add $5(a +", True),
        # a square's side and length in front of a number are not opposites of themselves
        ("Four semicircles lie on the sides of a square with side length 10, outside it. Find the area of all.",
         "I saw this and could not find a way. Four semicircles lie on the sides of a square with side length 10, "
         "outside it. Find the area of all. Then we all went home again.", True),
        # sentences in another order, with words that both have
        ("The first tank is 300 liters filled while the second tank is 450 liters filled. The second tank is only 45% "
         "filled. How many more liters are needed to fill the two tanks?",
         "The second tank is only 45% filled. The first tank is 300 liters filled while the second tank is 450 liters "
         "filled. How many more liters are needed to fill the two tanks?", True),
        ("Ann has 3 apples in the red basket, Bob has 12 apples in the red basket. How many more has Bob?",
         "Ann has 12 apples in the red basket, Bob has 3 apples in the red basket. How many more has Bob?", False),
    ],
)  # fmt: skip
def test_rephrased_and_different_problems(problem, row, same):
    index = BenchmarkIndex([BenchmarkProblem("test", 1, problem)], Overlap())
    one = form(row)
    hit = index.find(one, band_keys([one.tokens])[0])
    assert bool(hit and hit.same) == same


def test_changed_numbers_are_reported_but_kept():
    hit = find((LONG + BOILERPLATE).replace("24", "36"))
    assert hit.how == "contains" and not hit.same and hit.share > 0.5


@pytest.mark.parametrize("wrong", [{"ngram": 3}, {"share": 0.0}, {"share": 1.5}])
def test_bad_settings_have_a_sentence(wrong):
    with pytest.raises(ValueError, match="--ngram"):
        Overlap(**wrong)
