"""Each filter on rows that go and rows that stay."""

import pytest

from openrlhf_math.curation.filters import FILTERS, Limits, find_filter
from openrlhf_math.data.schema import Row
from openrlhf_math.errors import UserError

ASK = "What is the sum of the first ten even numbers?"
CHOICE = "Which of the following is prime? (A) 4 (B) 5 (C) 6"
GOES = [
    ("length", Row("2+2?", "4")),
    ("length", Row("x" * 9000, "4")),
    ("flawed", Row(ASK, "110", flaw="problem marked 'Incomplete'")),
    ("proof", Row(ASK, "110", kind="proof")),
    ("proof", Row("Prove that there are infinitely many primes.", "proof")),
    ("proof", Row("Show that $n^2 + n$ is even for every integer $n$.", "even")),
    ("choice", Row("Which of the following is prime?", "B", kind="choice")),
    ("choice", Row(CHOICE, "D", kind="choice")),
    ("choice", Row("Which of the following are prime?", "A, C")),
    ("figure", Row("In the figure below, find the angle $x$.", "30")),
    ("figure", Row("The graph shown on the right has how many edges?", "3")),
    ("figure", Row("Find x. ![](https://cdn.mathpix.com/cropped/1.jpg)", "3")),
    ("figure", Row("As shown, $AB = 3$ and $BC = 4$. Find $AC$.", "5")),
    ("gold", Row(ASK, "")),
    ("gold", Row(ASK, "notfound")),
    ("gold", Row(ASK, r"\frac{1}{2")),
    ("gold", Row(ASK, "9" * 3000)),
    ("language", Row("Сколько простых чисел меньше 100? Найдите их сумму.", "25")),
    ("language", Row("求所有小于100的素数的和。这是一个简单的问题。", "1060")),
    ("language", Row("¿Cuántos números primos hay entre 1 y 100 que son menores que la suma de los otros?", "25")),
    ("language", Row("Combien de nombres premiers y a-t-il entre 1 et 100 pour la somme des chiffres?", "25")),
    ("language", Row("Wie viele Primzahlen liegen zwischen den Zahlen 1 und 100 und sind die Summe?", "25")),
]
STAYS = [
    Row(ASK, "110"),
    Row("Show that $f$ is linear, and determine all such $f$ with $f(1) = 2$.", "2x"),
    Row(CHOICE, "B", kind="choice"),
    Row("Which of the following is prime?\nA. 4\nB. 5\nC. 6", "B", kind="choice"),
    Row("Point A lies between B and C. Which point is nearest to D?", "B"),
    Row("[asy] draw((0,0)--(1,1)); [/asy] In the figure shown, find the length of the line.", r"\sqrt{2}"),
    Row("Tom draws 3 figures. How many sides do these figures have?", "12"),
    Row(r"Solve $x^2 = 4$ for $x > 0$.", "2"),
    Row(r"Let $\triangle ABC$ be a triangle with angles α, β and γ. Find α + β + γ.", r"180^\circ"),
    Row("José and Zoë share 10 crêpes. How many does each of them get?", "5"),
]


def first_to_drop(row: Row) -> str:
    return next((name for name in FILTERS if find_filter(name)(row, Limits())), "")


@pytest.mark.parametrize("name, row", GOES)
def test_removed(name, row):
    reason = find_filter(name)(row, Limits())
    assert reason and isinstance(reason, str)


@pytest.mark.parametrize("row", STAYS, ids=lambda row: row.problem[:30])
def test_kept(row):
    assert first_to_drop(row) == ""


def test_any_language():
    assert not find_filter("language")(Row("Сколько простых чисел меньше 100?", "25"), Limits(language="any"))


def without_tom(row: Row) -> str:
    return "it is about Tom" if "Tom" in row.problem else ""


def test_custom_filter():
    assert find_filter(f"{__name__}.without_tom")(STAYS[6], Limits()) == "it is about Tom"


def test_unknown_filter_is_named():
    with pytest.raises(UserError, match="--filters prooof"):
        find_filter("prooof")
