r"""Other ways to type an answer, and what only looks like one: found by a table of near misses from outside."""

import pytest

from openrlhf_math.rewards import RewardConfig, grade

CONFIG = RewardConfig(workers=1)

SAME = [
    (r"x_{\text{ab}}", r"x_\text{ab}"),
    (r"x_\text{ab}+1", r"1+x_\mathrm{ab}"),
    (r"\sqrt{50}", r"\sqrt{50}\pmod{8}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}\pmod{26}"),
    (r"\pm3", r"\pm 3\pmod 7"),
    ("20", "20 EUR"),
    ("20", r"\euro{20}"),
    (r"\pounds 20", "£20"),
    ("CHF 20", r"20\text{ CHF}"),
    ("15:45", "3:45 PM"),
    (r"3:45\text{ PM}", "15:45"),
    (r"12:30\text{ AM}", "0:30"),
    ("12:00", r"12:00\text{ PM}"),
    ("-7", "{-}7"),
    ("-7", r"\text{negative }7"),
    (r"\log_2 3", r"\log_23"),
    (r"\log_2 3", r"\frac{1}{\log_32}"),
    (r"\binom{10}{3}", r"{}_{10}C_{3}"),
    (r"\binom{10}{3}", r"^{10}C_3"),
    ("2^{10}", "2**10"),
    ("2^{10}", r"2\^{}10"),
    ("5", "x:=5"),
    ("5", r"x\coloneqq 5"),
    ("H_2O", r"\ce{H2O}"),
    (r"[0,\infty)", r"\mathbb{R}^+\cup\{0\}"),
    (r"[0,\infty)", r"\mathbb{R}_{\ge 0}"),
    (r"(-\infty,0)", r"\mathbb{R}_{<0}"),
    (r"(0,\infty)", r"x\in\mathbb{R}^{+}"),
]
DIFFERENT = [
    (r"x_\text{ab}+1", r"x_\text{ba}+1"),  # the subscript was read as `text`, the rest as a product
    (r"\frac{11}{4}", "2-3/4"),
    (r"2\pi", r"2\pi\bmod 2"),
    (r"\sqrt{50}", r"\sqrt{50}\pmod{7}"),
    ("n+1", r"n+1\bmod 2"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}\pmod{2}"),
    (r"\pm3", r"\pm 3\pmod 2"),
    (r"12\text{ cm}", r"12\text{ cm}-"),
    (r"12\text{ cm}", r"12\text{ cm}/"),
    ("3:4", r"3:4\%"),
    (r"\text{Yes}", "!Yes"),
    (r"\text{Yes}", r"\text{!Yes}"),
    ("B", "B (or 7)"),
    ("B", r"B\text{ (or 7)}"),
    ("B", "B (if x>0)"),
    ("€20", r"\pounds 20"),
    ("15:45", "3:45 AM"),
    ("15:45", "3:45"),
    (r"3:45\text{ PM}", "16:45"),
    (r"12:30\text{ AM}", "12:30 PM"),
    ("12:30", "0:30"),
    (r"\log_2 3", r"\log_32"),
    (r"\log_2 3", r"\log 23"),
    (r"\binom{10}{3}", r"{}_3C_{10}"),
    ("2^{10}", "10**2"),
    ("5", "4:=5"),
    ("H_2O", r"\ce{H2O2}"),
    (r"[0,\infty)", r"\mathbb{R}^+"),
    (r"(0,\infty)", r"\mathbb{R}_0^+"),
    (r"(0,\infty)", r"\mathbb{R}^-"),
]


@pytest.mark.parametrize("gold, answer", SAME)
def test_same_answer(gold, answer):
    assert grade(rf"\boxed{{{answer}}}", gold, config=CONFIG).outcome == "correct"


@pytest.mark.parametrize("gold, answer", DIFFERENT)
def test_another_answer(gold, answer):
    assert grade(rf"\boxed{{{answer}}}", gold, config=CONFIG).outcome in ("format", "wrong")


def test_constant_before_a_power_of_e():
    problem = "Find the general solution of the equation."
    gold, answer = r"x^2 e^{-x} + ce^{-x}", r"\boxed{x^2e^{-x}+Ce^{-x}}"
    assert grade(answer, gold, problem=problem, config=CONFIG).outcome == "correct"
    assert grade(answer, gold, config=CONFIG).outcome == "format"
