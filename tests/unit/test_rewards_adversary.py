"""A slice of tests/benchmarks/grading_adversary.py: near misses are never paid, rewrites never refused."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from grading_adversary import GOLDS, near_misses, ours, rewrites  # noqa: E402

COUNT = 3000


def sample(made: set, count: int) -> list:
    return random.Random(11).sample(sorted(made), min(count, len(made)))


def test_near_misses():
    made = {(gold, answer) for kind, gold, traits in GOLDS for _, answer in near_misses(kind, gold, traits)}
    assert len(made) > 20_000
    paid = [pair for pair in sample(made, COUNT) if pair[0] != pair[1] and ours(*pair) == "correct"]
    assert paid == []


def test_rewrites():
    made = {(gold, answer) for kind, gold, traits in GOLDS for _, answer in rewrites(kind, gold, traits)}
    refused = [pair for pair in sample(made, COUNT) if ours(*pair) != "correct"]
    assert refused == []


# A pair of each kind of wrong answer that was once paid.
PAID_ONCE = [
    ("2ab", "2"),
    ("3t", "3"),
    ("2+3m", "5"),
    (r"\frac{3}{4}n", "0.75"),
    (r"2\pi h", r"2\pi"),
    ("4t", "4"),
    ("2cd", "2"),
    (r"\frac{1}{2^{80}}", r"\frac{1}{3^{50}}"),
    (r"\frac{1}{2^{80}}", r"-\frac{1}{2^{80}}"),
    (r"\frac{1}{1998!}", r"\frac{1}{2000!}"),
    (r"1-\frac{1}{2010!}", r"1-\frac{1}{2009!}"),
    (r"\frac{\mathrm{e}+1}{2}", r"\frac{\mathrm{e}+1}{3}"),
    (r"\frac{x_{\text{a}}}{2}", r"\frac{x_{\text{a}}}{3}"),
    (r"(0,\mathrm{e}]", r"(0,\mathrm{e})"),
    (r"\gamma^2", r"\gamma^3"),
    ("R+r", "2r"),
    (r"\frac{R}{r}", "1"),
    (r"\sigma", r"\Sigma"),
    ("f'(x)", "f(x)"),
    ("x^T", "x"),
    ("A^{-1}B", "BA^{-1}"),
    (r"\angle ABC", r"\angle ACB"),
    (r"15\text{ cm}", r"15\text{ cm}^2"),
    ("204", r"204\text{ halves}"),
    ("204", r"204\text{ tens}"),
    ("204", r"204\text{ percent off}"),
    ("204", r"204\text{ base seven}"),
    ("204", r"204\text{ probably}"),
    ("C", r"\text{(C) wrong}"),
    ("0", "x+1=0"),
    ("0", "5=0"),
    (r"\frac{1}{10}", "3:30 p.m."),
    (r"\frac{1}{4}", "1:4 p.m."),
    ("1.2", "12:10"),
    ("6:1", "6th"),
    ("16,3,1,1", "16,3,1,2"),
    (r"(-\infty,-2)\cup(3,\infty)", r"x<-2 \text{ and } x>3"),
    ("a=1, b=2, c=3", "(1,3,2)"),
    ("a=1, b=2, c=3", "1,3,2"),
    (r"a\ge 3", r"b\ge 3"),
    ("204", r"20400\%"),
    ("f(x)=2x+5", "f(z)=2x+5"),
    (r"x=3 \text{ or } x=-7", r"x=3 \text{ or } m=-7"),
    ("n=2, 3", r"m \in \{2,3\}"),
    (r"\{x \mid x>3\}", r"\{u \mid x>3\}"),
    (r"x\equiv 5\pmod{9}", r"b\equiv 5\pmod{9}"),
    (r"\lfloor\sqrt{n-1}\rfloor", r"\lfloor\sqrt{n}\rfloor"),
    ("16,3,1,1", "16,3,1"),
    ("16,3,1,1", "3,1,16"),
    (r"25\%", r"25\text{ dollars}"),
    (r"\$5", r"5\%"),
    (r"5\text{ cm}", r"5\%"),
    ("5", r"5 \bmod 3"),
    (r"\pi", r"180^\circ 1"),
    ("x>2", r"(2,\infty]"),
    (r"\frac{\pi}{3}", r"\frac{\pi}{3}^\circ"),
    (r"k\pi", r"k\pi, k\in\mathbb{N}\text{ odd}"),
    (r"k\pi, k\in\mathbb{Z}", r"n\pi, n\in\mathbb{N}"),
    (r"k\pi, k\in\mathbb{Z}", r"\{2k\pi : k\in\mathbb{Z}\}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}^T"),
]


@pytest.mark.parametrize("gold, answer", PAID_ONCE)
def test_formerly_accepted_answers_are_refused(gold, answer):
    assert ours(gold, answer) in ("format", "wrong")


@pytest.mark.parametrize(
    "gold, response",
    [
        ("204", "The answer is $204$ or $205$."),
        ("204", "The answer is $204$ million."),
        ("204", "The answer is $204$/7"),
        ("204", "The answer is $204$.5"),
        ("204", "The answer is 204. 5"),
        ("204", "The answer is 204? No, 205"),
        ("204", r"\boxed 204 or 205"),
        ("204", "The answer is 204. Or 205."),
        ("204", "<answer>The answer is 204. Or 205.</answer>"),
        ("204", "The answer is 204. Sorry, 205."),
        ("204", "The answer to the problem is 204 or 205."),
        ("204", "**Answer**\n204 or 205"),
        ("204", "The answer is 204<|im_end|> 5"),
    ],
)
def test_whole_sentence_is_read(gold, response):
    from openrlhf_math.rewards import grade

    assert grade(response, gold).outcome == "wrong"


@pytest.mark.parametrize(
    "gold, response, problem",
    [
        ("204", r"\boxed 204", None),
        ("204", r"\framebox{204}", None),
        ("204", "The answer is therefore 204.", None),
        ("204", "**Final Answer**\n\n204", None),
        ("204", r"\\boxed{204}", None),
        ("204", "\\boxed{103}\n\n\\boxed{204}", None),
        ("C", r"\boxed{14}", r"$\mathrm{(A) \ } 10 \qquad \mathrm{(B) \ } 12 \qquad \mathrm{(C) \ } 14$"),
        ("C", r"\boxed{14}", "A) 10 B) 12 C) 14"),
        ("C", r"\boxed{14}", "[A] 10 [B] 12 [C] 14"),
        (r"\frac{3}{4}", r"\boxed{3/4}", r"Which fraction is largest, $\frac23$, $\frac34$ or $\frac57$?"),
        ("2^{-2/3}, 8", r"\boxed{8, 2^{-2/3}}", None),
        (r"m_{\max}=12", r"\boxed{12}", None),
        (r"\sqrt{\frac{2h}{g}}", r"\boxed{\frac{\sqrt{2gh}}{g}}", None),
        ("1e-5", r"\boxed{10^{-5}}", None),
        (r"0.\overline{3}", r"\boxed{0.333\ldots}", None),
        ("1011_2", r"\boxed{(1011)_2}", None),
        ("12", r"\boxed{12个}", None),
        (r"2\text{ hours }30\text{ minutes}", r"\boxed{2\frac12\text{ hours}}", None),
        ("5", r"\boxed{5\ \mathrm{J/K}}", None),
        ("204", "### Answer\n204", None),
        ("204", "**Answer**\n204", None),
        ("204", "The answer is equal to 204.", None),
        ("204", "The answer to this problem is 204.", None),
        ("204", "The answer is 204<|im_end|>", None),
        ("204", "The answer is 204 ✓", None),
        ("B", r"\boxed{b)}", None),
        ("B", r"\boxed{B (12)}", "(A) 10 (B) 12"),
        (r"\frac{3}{8}", r"\boxed{{3\over 8}}", None),
        (r"\binom{5}{2}", r"\boxed{\dbinom{5}{2}}", None),
        ("120", r"\boxed{5!=120}", None),
        ("1011_2", r"\boxed{1011_{(2)}}", None),
        (r"3\pmod 7", r"\boxed{3\ (\text{mod }7)}", None),
        ("3:4", r"\boxed{3\colon 4}", None),
        (r"25\%", r"\boxed{25\text{ per cent}}", None),
        (r"\text{infinitely many}", r"\boxed{\infty}", None),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\boxed{\begin{pmatrix}1&2\cr 3&4\end{pmatrix}}", None),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\boxed{\begin{pmatrix}1&2\end{pmatrix}^T}", None),
        (r"\begin{pmatrix}1\\2\\3\end{pmatrix}", r"\boxed{[1,2,3]^T}", None),
        (r"9.8\text{ m/s}^2", r"\boxed{9.8\,\frac{\mathrm{m}}{\mathrm{s}^2}}", None),
        (r"9.8\text{ m/s}^2", r"\boxed{9.8\text{ meters per second squared}}", None),
        (r"k\pi, k\in\mathbb{Z}", r"\boxed{x=n\pi, n\in\mathbb{Z}}", None),
        ("f(x)=x", r"\boxed{f(x)=x, \forall x\in\mathbb{R}}", None),
        ("A, C", r"\boxed{AC}", None),
        ("ACD", r"\boxed{A, C, D}", "(A) 1 (B) 2 (C) 3 (D) 4"),
        (r"k\pi, k\in\mathbb{Z}", r"\boxed{k\pi\text{ where }k\in\mathbb{Z}}", None),
        (r"k\pi, k\in\mathbb{Z}", r"\boxed{k\pi\ (k\in\mathbb{Z})}", None),
        (r"k\pi, k\in\mathbb{Z}", r"\boxed{\{k\pi : k\in\mathbb{Z}\}}", None),
    ],
)
def test_formerly_refused_answers_are_accepted(gold, response, problem):
    from openrlhf_math.rewards import grade

    assert grade(response, gold, problem=problem).outcome == "correct"


@pytest.mark.parametrize(
    "options",
    [
        "a) 10\nb) 12\nc) 15",
        "Find it. a) 10 b) 12 c) 15",
        "**A** 10 **B** 12 **C** 15",
        "**A.** 10\n**B.** 12\n**C.** 15",
        r"$(\mathrm{A})\ 10 \qquad (\mathrm{B})\ 12 \qquad(\mathrm{C})\ 15$",
        "A、10 B、12 C、15",
        "A:10, B:12, C:15",
    ],
)
def test_options_as_written(options):
    from openrlhf_math.rewards import grade

    assert grade(r"\boxed{12}", "B", problem=options).outcome == "correct"
    assert grade(r"\boxed{B}", "12", problem=options).outcome == "correct"
    assert grade(r"\boxed{(B) 15}", "B", problem=options).outcome == "format"


def test_fraction_to_simplify_is_not_an_answer():
    from openrlhf_math.rewards import grade

    problem = r"Simplify $\frac{6}{8}$."
    assert grade(r"\boxed{6/8}", r"\frac{3}{4}", problem=problem).outcome == "format"
    assert grade(r"\boxed{3/4}", r"\frac{3}{4}", problem=problem).outcome == "correct"
