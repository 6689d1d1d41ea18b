"""Benchmark problems in training rows: found in any dress, other problems spared and told of."""

import pytest

from openrlhf_math.curation.decontaminate import BenchmarkIndex, BenchmarkProblem, Overlap
from openrlhf_math.curation.near_duplicates import band_keys
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
def test_found(row, how, number):
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
def test_not_found(row):
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
    ],
)  # fmt: skip
def test_one_problem_in_another_dress_or_two(problem, row, same):
    index = BenchmarkIndex([BenchmarkProblem("test", 1, problem)], Overlap())
    one = form(row)
    hit = index.find(one, band_keys([one.tokens])[0])
    assert bool(hit and hit.same) == same


def test_other_numbers_are_told_of_but_spared():
    hit = find((LONG + BOILERPLATE).replace("24", "36"))
    assert hit.how == "contains" and not hit.same and hit.share > 0.5


@pytest.mark.parametrize("wrong", [{"ngram": 3}, {"share": 0.0}, {"share": 1.5}])
def test_bad_settings_have_a_sentence(wrong):
    with pytest.raises(ValueError, match="--ngram"):
        Overlap(**wrong)
