r"""Word problems for a small model: worked solutions to learn from, problems to practise on, others to be tested on.

python examples/word_problems.py DIRECTORY --solutions openai/gsm8k@main --problems MU-NLPC/Calc-mawps@original-splits
python examples/word_problems.py DIRECTORY --reasoning-gym    # no hub: pip install reasoning-gym

Sets are files or hub names with the columns `question` and `answer` (or `result`); solutions are in GSM8K's form, a
line a step and the number after ####. Writes worked.jsonl (`problem`, `response`), train.jsonl and heldout.jsonl
(`problem`, `answer`). Half of what is worked are such solutions, half are problems of the other set that one operation
on their two numbers solves: that can be written down from the answer alone.
"""

import argparse
import json
import random
import re
from fractions import Fraction
from pathlib import Path

from openrlhf_math.data.problems import read_rows

CALCULATOR = re.compile(r"<<.*?>>")  # GSM8K's notes for a calculator, as in 48/2 = <<48/2=24>>24
ASKED_FOR = " Give the result as your final answer. Do not include units."  # reasoning-gym's, after every question


def worked(question: str, solution: str) -> dict[str, str]:
    """A problem and its solution as a model is to write it. Raises ValueError if the solution has no ####."""
    steps, mark, answer = CALCULATOR.sub("", solution).rpartition("####")
    if not mark:
        raise ValueError(f"no #### in the solution {solution!r:.60}; give GSM8K's form")
    return {"problem": question, "response": f"{steps.strip()}\nThe answer is \\boxed{{{answer.strip()}}}."}


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


def steps(row: dict[str, str]) -> int:
    return row["response"].count("\n")


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


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{path}: {len(rows)} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--solutions", default="openai/gsm8k@main")
    parser.add_argument("--problems", default="MU-NLPC/Calc-mawps@original-splits")
    parser.add_argument("--reasoning-gym", action="store_true", help="makes both, in place of the two sets")
    parser.add_argument("--worked", type=int, default=600, help="solutions to learn from (%(default)s)")
    parser.add_argument("--max-steps", type=int, default=3, help="of a solution (%(default)s)")
    parser.add_argument("--heldout", type=int, default=200, help="problems to be tested on (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    both = from_reasoning_gym(2000, args.seed) if args.reasoning_gym else from_sets(args.solutions, args.problems)
    solved, asked = both
    solved = [row for row in solved if steps(row) <= args.max_steps]
    rng = random.Random(args.seed)
    rng.shuffle(solved)
    rng.shuffle(asked)
    heldout, others = asked[: args.heldout], asked[args.heldout :]
    easy = list(filter(None, (one_step(**row) for row in others)))[: args.worked // 2]
    learned = easy + solved[: args.worked - len(easy)]
    rng.shuffle(learned)
    shown = {row["problem"] for row in learned}
    args.directory.mkdir(parents=True, exist_ok=True)
    write(args.directory / "worked.jsonl", learned)
    write(args.directory / "heldout.jsonl", heldout)
    write(args.directory / "train.jsonl", [row for row in others if row["problem"] not in shown])


if __name__ == "__main__":
    main()
