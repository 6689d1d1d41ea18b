r"""Word problems for a small model: worked solutions to learn from, problems to practise on, others to be tested on.

python examples/word_problems.py DIRECTORY --solutions openai/gsm8k@main --problems MU-NLPC/Calc-mawps@original-splits
python examples/word_problems.py DIRECTORY --reasoning-gym    # no hub: pip install reasoning-gym

Sets are files or hub names with the columns `question` and `answer` (or `result`); solutions are in GSM8K's form, a
line a step and the number after ####. Writes worked.jsonl (`problem`, `response`), train.jsonl and heldout.jsonl
(`problem`, `answer`). Worked are sums alone, which repair the arithmetic of a quantised model; problems of the other
set that one operation on their two numbers solves, which can be written down from the answer alone; and the solutions.
`curate` drops what is like a held-out problem, with other numbers too, before anything is learned or practised.
"""

import argparse
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from openrlhf_math.data.problems import read_rows

CALCULATOR = re.compile(r"<<(.*?)>>")  # GSM8K's notes for a calculator, as in 48/2 = <<48/2=24>>24
SYMBOL = re.compile(r"(?<=[\d)%])\s*([-+*/=])\s*")  # of an operation, not of a negative number
LONG_DECIMAL = re.compile(r"\.\d{3}")  # 0.16666666666666666 of a mile, as some of MAWPS have it
PRONOUNS = {"he", "she", "they", "him", "her", "them", "his", "their"}
ASKED_FOR = " Give the result as your final answer. Do not include units."  # reasoning-gym's, after every question


def worked(question: str, solution: str) -> dict[str, str]:
    """A problem and its solution as a model is to write it. Raises ValueError if the solution has no ####.

    Of a solution with a calculator's notes only these are left, as `48 / 2 = 24`: short, and every sum written out.
    """
    steps, mark, answer = solution.rpartition("####")
    if not mark:
        raise ValueError(f"no #### in the solution {solution!r:.60}; give GSM8K's form")
    if notes := CALCULATOR.findall(steps):
        steps = "\n".join(SYMBOL.sub(r" \1 ", note) for note in notes)
    return {"problem": question, "response": f"{steps.strip()}\nThe answer is \\boxed{{{answer.strip()}}}."}


def sums(rng: random.Random, count: int = 8) -> dict[str, str]:
    """A problem of arithmetic alone: sums and differences to three digits or in cents, products, whole quotients."""
    asked = []
    for kind in rng.choices("+-*/", (3, 3, 1, 1), k=count):
        largest, unit = rng.choice(((20, 1), (100, 1), (100, 1), (1000, 1), (2000, 100)))
        a, b, c, d = rng.randint(1, largest), rng.randint(1, largest), rng.randint(2, 12), rng.randint(1, 20)
        x, y, z = {
            "+": (a, b, a + b), "-": (max(a, b), min(a, b), abs(a - b)), "*": (c, d, c * d), "/": (c * d, c, d),
        }[kind]  # fmt: skip
        cents = unit if kind in "+-" else 1
        asked.append((f"{x / cents:.10g} {kind} {y / cents:.10g}", f"{z / cents:.10g}"))
    equations = "\n".join(f"{left} = {right}" for left, right in asked)
    problem = f"Work out {', '.join(left for left, _ in asked)}."
    return worked(problem, f"{equations}\n#### {', '.join(right for _, right in asked)}")


def one_step(problem: str, answer: str) -> dict[str, str] | None:
    """The problem, worked, if one operation on the two numbers in it gives the answer, and no other operation does."""
    numbers = re.findall(r"\d+(?:\.\d+)?", problem)
    if len(numbers) != 2:
        return None
    (a, b), gold = numbers, Fraction(answer)
    x, y = Fraction(a), Fraction(b)
    found = [
        text
        for text, value in (
            (f"{a} + {b}", x + y), (f"{a} - {b}", x - y), (f"{b} - {a}", y - x), (f"{a} * {b}", x * y),
            (f"{a} / {b}", x / y if y else None), (f"{b} / {a}", y / x if x else None),
        )
        if value == gold
    ]  # fmt: skip
    return worked(problem, f"{found[0]} = {answer}\n#### {answer}") if len(found) == 1 else None


def steps(row: dict[str, str]) -> list[str]:
    return row["response"].splitlines()[:-1]


def leads_to_its_answer(row: dict[str, str]) -> bool:
    """Calculator's notes may leave a step out, and are then no solution."""
    answer = row["response"].rpartition("{")[2].removesuffix("}.")
    return answer in re.findall(r"\d(?:[\d.,]*\d)?", steps(row)[-1].rpartition("=")[2])


def from_sets(solutions: str, problems: str) -> tuple[list[dict], list[dict]]:
    """Solutions, and problems; of equal texts one."""
    rows = [worked(row["question"], row["answer"]) for row in read_rows(solutions, "train")]
    found = {row["question"]: str(row.get("answer", row.get("result"))) for row in read_rows(problems, "train")}
    return rows, [{"problem": question, "answer": answer} for question, answer in found.items()]


def from_reasoning_gym(size: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Both from its GSM-Symbolic templates: the problems have other numbers and names than the solutions."""
    import reasoning_gym

    solved, asked = ({}, {})
    for number, row in enumerate(reasoning_gym.create_dataset("gsm_symbolic", size=2 * size, seed=seed)):
        question = row["question"].removesuffix(ASKED_FOR)
        if number < size:
            solved[question] = worked(question, row["metadata"]["answer_cot"])
        elif question not in solved:
            asked[question] = {"problem": question, "answer": row["answer"]}
    return list(solved.values()), list(asked.values())


def words(problem: str) -> str:
    """The same for problems that differ in numbers, names, pronouns and punctuation only."""
    small = re.findall(r"(?<![A-Za-z'])[a-z]{2,}", problem)
    return " ".join(word for word in small if word not in PRONOUNS)


def split(asked: list[dict], heldout: int, alike: Callable[[str], str], rng: random.Random) -> tuple[list, list]:
    """Problems held out, so many if there are, and the others; of those that are alike one side has all.

    Of a group that is held out the first is kept, so that no wording counts more than once.
    """
    groups: dict[str, list[dict]] = {}
    for row in asked:
        groups.setdefault(alike(row["problem"]), []).append(row)
    order = list(groups.values())
    rng.shuffle(order)
    return [group[0] for group in order[:heldout]], [row for group in order[heldout:] for row in group]


def unlike_heldout(directory: Path, others: list[dict], other_numbers: list[str]) -> list[dict]:
    """What `curate` leaves of them, without duplicates either."""
    source, output = directory / "others.jsonl", directory / "curated"
    write(source, others)
    curate = [sys.executable, "-m", "openrlhf_math", "curate", "--filters", "", "--workers", "0"]
    files = ["--source", source, "--benchmark", directory / "heldout.jsonl", "--output", output]
    subprocess.run([*curate, *files, *other_numbers], check=True)
    return [{key: row[key] for key in ("problem", "answer")} for row in read_rows(str(output / "data"), "train")]


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{path}: {len(rows)} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--solutions", default="openai/gsm8k@main")
    parser.add_argument("--problems", default="MU-NLPC/Calc-mawps@original-splits")
    parser.add_argument("--reasoning-gym", action="store_true", help="makes both, in place of the two sets")
    parser.add_argument("--sums", type=int, default=700, help="problems of arithmetic to learn from (%(default)s)")
    parser.add_argument("--one-step", type=int, default=250, help="one-step problems to learn from (%(default)s)")
    parser.add_argument("--worked", type=int, default=1450, help="solutions to learn from (%(default)s)")
    parser.add_argument("--max-steps", type=int, default=2, help="of a solution (%(default)s)")
    parser.add_argument("--heldout", type=int, default=400, help="problems to be tested on (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    if args.reasoning_gym:  # a hundred templates: all problems are alike, with other numbers
        solved, asked = from_reasoning_gym(2000, args.seed)
        alike, other_numbers = str.strip, []
    else:
        solved, asked = from_sets(args.solutions, args.problems)
        alike, other_numbers = words, ["--drop-other-numbers"]
    solved = [row for row in solved if len(steps(row)) <= args.max_steps and leads_to_its_answer(row)]
    asked = [row for row in asked if not LONG_DECIMAL.search(row["problem"])]
    rng = random.Random(args.seed)
    rng.shuffle(solved)
    heldout, others = split(asked, args.heldout, alike, rng)
    args.directory.mkdir(parents=True, exist_ok=True)
    write(args.directory / "heldout.jsonl", heldout)
    others = unlike_heldout(args.directory, others, other_numbers)
    rng.shuffle(others)
    easy = list(filter(None, (one_step(**row) for row in others)))[: args.one_step]
    learned = [sums(rng) for _ in range(args.sums)] + easy + solved[: args.worked]
    rng.shuffle(learned)
    write(args.directory / "worked.jsonl", learned)
    write(args.directory / "train.jsonl", others)


if __name__ == "__main__":
    main()
