r"""The outcome reward against plain math-verify and TRL's accuracy reward, in one run.

    pip install --no-deps --target trl-only trl==1.16.0    # its column needs it; nothing else does
    PYTHONPATH=trl-only python tests/benchmarks/grading.py [--gsm8k gsm8k_train.jsonl] [--rows 2000] [--no-hostile]

Four tables: rows a second on one core (the process is held to one while they are taken) and through the pool, on
answers like GSM8K's and like MATH's; agreement with the labelled pairs in grading_labelled.jsonl, every disagreement
listed; the longest time any item of hostile.py took, with and without the wait for a new worker after a killed one.
Plain math-verify is `verify(parse(gold), parse(response))`, with its own time limit. GSM8K-like rows come from the real
file if it is given (its solutions as responses, a third of the answers made wrong), else they are made up in the same
form.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hostile import HOSTILE

from openrlhf_math.rewards import Grade, GradingPool, RewardConfig
from openrlhf_math.rewards.outcome import Verdict, begin, conclude

HERE = Path(__file__).parent
CONFIG = RewardConfig(workers=2)


@dataclass(frozen=True)
class Row:
    gold: str
    response: str
    correct: bool
    problem: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, help="GSM8K rows as JSONL with `question` and `answer`")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--no-hostile", action="store_true", help="leave out the hostile set (minutes)")
    args = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    if "TRL" not in graders():
        print("TRL is not installed: it is left out.\n")

    sets = {"GSM8K-like": gsm8k_like(args.gsm8k, args.rows), "MATH-like": math_like(args.rows)}
    for name, rows in sets.items():
        throughput(name, rows)
    agreement([Row(**row) for row in labelled()])
    if not args.no_hostile:
        hostile()


def graders() -> dict[str, Callable[[Row], bool]]:
    """One row to a verdict, on the calling core alone."""
    from math_verify import parse, verify

    from openrlhf_math.rewards.same import equivalent

    def ours(row: Row) -> bool:
        started = begin(row.response, row.gold, row.problem, CONFIG)
        if not isinstance(started, Grade):
            started = conclude(
                started, Verdict(equivalent(started.gold, started.answer, started.problem), "", 0.0), CONFIG
            )
        return started.outcome == "correct"

    def plain(row: Row) -> bool:
        return verify(parse(f"${row.gold}$"), parse(row.response))

    found = {"math-verify": plain, "openrlhf_math": ours}
    with contextlib.suppress(ImportError):
        from trl.rewards import accuracy_reward

        found["TRL"] = lambda row: accuracy_reward([[{"content": row.response}]], [f"${row.gold}$"])[0] == 1.0
    return found


def throughput(name: str, rows: list[Row]) -> None:
    print(f"## {name}: {len(rows)} rows, {sum(row.correct for row in rows)} right\n")
    print(
        "| grader | rows/s | against math-verify | median ms | p99 ms | agrees with labels |\n|---|---|---|---|---|---|"
    )
    rates = {}
    for grader, grade in graders().items():
        taken, agreed = timed(grade, rows)
        rates[grader] = len(rows) / sum(taken)
        print_rate(grader, rates, taken, agreed / len(rows))
    pool = GradingPool(CONFIG)
    asyncio.run(warm(pool))
    started = time.perf_counter()
    grades = asyncio.run(through(pool, rows))
    rates["pool of 2"] = len(rows) / (time.perf_counter() - started)
    agreed = sum((grade.outcome == "correct") == row.correct for grade, row in zip(grades, rows, strict=True))
    print_rate("pool of 2", rates, sorted(grade.seconds for grade in grades), agreed / len(rows))
    pool.close()
    symbolic = sum(not isinstance(begin(row.response, row.gold, row.problem, CONFIG), Grade) for row in rows)
    print(f"\n{symbolic / len(rows):.1%} of the rows are compared by value.\n")


def timed(grade: Callable[[Row], bool], rows: list[Row]) -> tuple[list[float], int]:
    """Seconds of each row on one core, sorted, and how many verdicts agree with the labels."""
    for row in rows[:20]:  # imports and regular expressions
        grade(row)
    taken, agreed = [], 0
    with one_core():
        for row in rows:
            started = time.perf_counter()
            agreed += grade(row) == row.correct
            taken.append(time.perf_counter() - started)
    return sorted(taken), agreed


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Hold this process to one of its cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def print_rate(grader: str, rates: dict[str, float], taken: list[float], agreed: float) -> None:
    times = rates[grader] / rates["math-verify"]
    median, p99 = taken[len(taken) // 2] * 1e3, taken[int(len(taken) * 0.99)] * 1e3
    print(f"| {grader} | {rates[grader]:.0f} | {times:.1f}x | {median:.3f} | {p99:.2f} | {agreed:.2%} |")


async def warm(pool: GradingPool) -> None:
    await asyncio.gather(*(pool.grade(rf"\boxed{{\sqrt{{{n * n * 3}}}+x}}", rf"x+{n}\sqrt3") for n in range(2, 12)))


async def through(pool: GradingPool, rows: list[Row]) -> list[Grade]:
    return await asyncio.gather(*(pool.grade(row.response, row.gold, row.problem) for row in rows))


def agreement(rows: list[Row]) -> None:
    right = sum(row.correct for row in rows)
    print(f"## Agreement: {len(rows)} labelled pairs, {right} right and {len(rows) - right} wrong\n")
    print("| grader | false positives | false negatives | of the right ones |\n|---|---|---|---|")
    disagreements = []
    for grader, grade in graders().items():
        verdicts = [(row, grade(row)) for row in rows]
        positives = [row for row, verdict in verdicts if verdict and not row.correct]
        negatives = [row for row, verdict in verdicts if not verdict and row.correct]
        print(f"| {grader} | {len(positives)} | {len(negatives)} | {len(negatives) / right:.2%} |")
        if grader == "openrlhf_math":
            disagreements = [("false positive", row) for row in positives] + [
                ("false negative", row) for row in negatives
            ]
    print()
    for kind, row in disagreements:
        print(f"- {kind}: gold `{row.gold}`, response `{row.response}`")
    print()


def hostile() -> None:
    print(f"## Hostile: {len(HOSTILE)} responses, deadline {CONFIG.timeout_seconds:.1f} s, two golds\n")
    pool = GradingPool(CONFIG)
    print("| gold | outcomes | longest s | with a new worker s | in the calling process s |\n|---|---|---|---|---|")
    for gold in ("x+y", "5"):
        seconds, waited, local = {}, {}, {}
        outcomes: Counter[str] = Counter()
        for name, response in HOSTILE.items():
            started = time.perf_counter()
            grade = pool.grade_now(response, gold)
            seconds[name], waited[name] = grade.seconds, time.perf_counter() - started
            outcomes[grade.reason or grade.outcome] += 1
            started = time.perf_counter()
            begin(response, gold, None, CONFIG)
            local[name] = time.perf_counter() - started
        counted = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        print(f"| {gold} | {counted} | {longest(seconds)} | {longest(waited)} | {longest(local)} |")
    pool.close()


def longest(taken: dict[str, float]) -> str:
    name = max(taken, key=taken.get)
    return f"{taken[name]:.3f} ({name})"


def labelled() -> list[dict]:
    lines = (HERE / "grading_labelled.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key in Row.__annotations__} for line in lines]


def gsm8k_like(path: Path | None, count: int) -> list[Row]:
    rng = random.Random(0)
    if path:
        answers = [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
        solutions = [tuple(part.strip() for part in answer.split("####")) for answer in rng.sample(answers, count)]
    else:
        solutions = [
            (
                f"She has {a} boxes of {b} pencils, that makes {a}*{b}={a * b}. " * 5,
                f"{a * b:,}" if a % 7 == 0 else str(a * b),
            )
            for a, b in ((rng.randint(2, 99), rng.randint(2, 99)) for _ in range(count))
        ]
    rows = []
    for reasoning, gold in solutions:
        correct = rng.random() < 0.65
        value = gold if correct else str(int(float(gold.replace(",", ""))) + rng.choice([-10, -1, 1, 2, 12]))
        ending = rng.choice(
            [r"\boxed{%s}", r"$\boxed{%s}$", r"\boxed{\$%s}", r"\boxed{%s \text{ apples}}", r"\boxed{%s.00}"]
        )
        rows.append(Row(gold, f"{reasoning}\nTherefore, the answer is {ending % value}.", correct))
    return rows


def math_like(count: int) -> list[Row]:
    """Answers in about the mix of the MATH test set; most right ones are spelt as the gold, as models do."""
    rng = random.Random(1)
    kinds = [_integer, _fraction, _radical, _point, _polynomial, _interval, _multiple_of_pi, _choice]
    rows = []
    for _ in range(count):
        gold, other, wrong = rng.choices(kinds, weights=[60, 12, 8, 5, 7, 3, 3, 2])[0](rng)
        correct = rng.random() < 0.65
        answer = (gold if rng.random() < 0.8 else other) if correct else wrong
        work = "We expand both sides, collect the terms with $x^2$ and complete the square: $(x-1)^2 = 4$. " * 8
        rows.append(Row(gold, rf"{work}Hence the answer is $\boxed{{{answer}}}$.", correct))
    return rows


def _integer(rng: random.Random) -> tuple[str, str, str]:
    n = rng.randint(-20, 2000)
    return str(n), rf"x = {n}", str(n + rng.choice([-2, 1, 5]))


def _fraction(rng: random.Random) -> tuple[str, str, str]:
    top, bottom = rng.randint(1, 40), rng.choice([3, 7, 11, 13])
    top += top % bottom == 0
    return rf"\frac{{{top}}}{{{bottom}}}", rf"\dfrac{{{2 * top}}}{{{2 * bottom}}}", rf"\frac{{{top + 1}}}{{{bottom}}}"


def _radical(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.randint(2, 15), rng.choice([2, 3, 5, 7])
    return rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b}}}", rf"{a + 1}\sqrt{{{b}}}"


def _point(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.randint(-9, 9), rng.randint(1, 9)
    return rf"\left({a}, \frac{{{b}}}{{10}}\right)", rf"({a}, {b / 10})", rf"\left({a}, \frac{{{b + 1}}}{{10}}\right)"


def _polynomial(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.randint(2, 9), rng.randint(1, 30)
    return rf"{a}x^2 + {b}x - 1", rf"{b}x - 1 + {a}x^2", rf"{a}x^2 - {b}x - 1"


def _interval(rng: random.Random) -> tuple[str, str, str]:
    a = rng.randint(-9, 9)
    return rf"(-\infty, {a}]", rf"x \le {a}", rf"(-\infty, {a})"


def _multiple_of_pi(rng: random.Random) -> tuple[str, str, str]:
    a = rng.randint(2, 90)
    return rf"{a}\pi", rf"{a} \cdot \pi", rf"{a + 3}\pi"


def _choice(rng: random.Random) -> tuple[str, str, str]:
    right, wrong = rng.sample("ABCDE", 2)
    return rf"\text{{({right})}}", right, wrong


if __name__ == "__main__":
    main()
