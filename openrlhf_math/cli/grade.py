"""`openrlhf-math grade`: grade a file of responses against gold answers."""

import argparse
import asyncio
import contextlib
import heapq
import json
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from openrlhf_math.data.columns import MISSING, gold_in, look
from openrlhf_math.data.files import atomic_write
from openrlhf_math.data.tables import Keys, read_table
from openrlhf_math.errors import UserError, in_flags
from openrlhf_math.rewards import Grade, GradingPool, RewardConfig
from openrlhf_math.rewards.outcome import LEAST_MEMORY
from openrlhf_math.runs.progress import counted

if TYPE_CHECKING:
    from rich.text import Text

# Rows under way at once: enough to keep the workers busy, few enough to hold in memory.
WINDOW = 512
SHOWN = 5
OUTCOMES = ("correct", "format", "wrong", "ungraded")

FORMAT = r"""outcomes:
  correct    the final answer equals the gold, in whatever format: --correct-reward
  format     wrong, in correct format: --format-reward
  wrong      wrong, or no answer found: 0
  ungraded   not decided within the limits, or the gold is not an answer: 0, and listed

correct format:
  boxed  outside the thinking part at least one complete, non-empty \boxed{}, no two different
         ones unless joined into a list, none over 2,000 characters; a thinking part is closed;
         at most one <answer> pair, not empty
  think  the same, after reasoning closed by exactly one </think>; <think> at the very start, or
         nowhere where the prompt already has it. Without </think> all is thinking: no answer
"""


def build_parser(prog: str) -> argparse.ArgumentParser:
    default = RewardConfig()
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Grade responses in bulk. Every row of FILE has `gold` and `response`, and `problem` where the\n"
        "answer refers to it (multiple choice). The output keeps the order, with `outcome`, `reward`, `answer`,\n"
        "`seconds` and, where ungraded, `reason`.",
        epilog=FORMAT,
    )
    parser.add_argument(
        "file", metavar="FILE", help="JSONL, a JSON array, CSV or Parquet, also .gz or .zst; - for standard input"
    )
    add_keys(parser)
    parser.add_argument("--output", type=Path, metavar="OUT", help="graded rows as JSONL, written when all are done")
    parser.add_argument(
        "--style", choices=["boxed", "think"], default=default.style, help="the right format (%(default)s)"
    )
    parser.add_argument(
        "--correct-reward", type=float, default=default.correct_reward, help="for a right answer (%(default)s)"
    )
    parser.add_argument(
        "--format-reward",
        type=float,
        default=default.format_reward,
        help="for a wrong one in correct format (%(default)s)",
    )
    parser.add_argument("--accept-expressions", action="store_true", help=r"let \boxed{2+3} count where the gold is 5")
    parser.add_argument(
        "--timeout", type=float, default=default.timeout_seconds, help="CPU seconds an item (%(default)s)"
    )
    parser.add_argument("--memory-mb", type=int, default=default.memory_bytes >> 20, help="MiB a worker (%(default)s)")
    parser.add_argument("--workers", type=int, default=default.workers, help="worker processes (%(default)s)")
    return parser


def add_keys(parser: argparse.ArgumentParser) -> None:
    """The flags that name a file's columns."""
    default = Keys()
    for name in ("gold", "response", "problem"):
        names = ["--gold-key", "--answer-key"] if name == "gold" else [f"--{name}-key"]
        parser.add_argument(
            *names,
            default=getattr(default, name),
            metavar="NAME",
            help=f"the column of the {name} (%(default)s)",
        )


def keys_of(args: argparse.Namespace) -> Keys:
    return Keys(args.gold_key, args.response_key, args.problem_key)


def run(args: argparse.Namespace) -> None:
    if not LEAST_MEMORY >> 20 <= args.memory_mb < 1 << 43:
        raise UserError(
            f"--memory-mb {args.memory_mb}: give {LEAST_MEMORY >> 20} or more, and less than 2 to the 43rd."
        )
    with in_flags(timeout_seconds="--timeout"):
        config = RewardConfig(
            format_reward=args.format_reward,
            correct_reward=args.correct_reward,
            style=args.style,
            accept_expressions=args.accept_expressions,
            timeout_seconds=args.timeout,
            memory_bytes=args.memory_mb << 20,
            workers=args.workers,
        )
    summary = Summary()
    keys = keys_of(args)
    with _replaced(args.output) as output:
        asyncio.run(_grade_all(read_rows(args.file, keys), output, config, summary, keys))
    summary.show()


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the file, counted from 1, and what is graded in it."""

    number: int
    row: dict
    gold: str
    response: str | None
    problem: str | None


async def _grade_all(
    rows: Iterator[Item], output: TextIO | None, config: RewardConfig, summary: "Summary", keys: Keys
) -> None:
    with contextlib.closing(GradingPool(config)) as pool, counted("rows graded") as advance:
        async for item, grade in grade_rows(rows, pool):
            summary.add(item.number, item.response, grade)
            if output:
                output.write(json.dumps(item.row | _columns(grade, keys), default=str) + "\n")
            advance()


def read_rows(name: str, keys: Keys) -> Iterator[Item]:
    """The rows of a file. Raises UserError naming the row that is none."""
    for number, place, row in read_table(name):
        found = {name: look(row, getattr(keys, name)) for name in ("gold", "response", "problem")}
        for name in ("gold", "response"):
            if found[name] is MISSING:
                key = getattr(keys, name)
                raise UserError(f"{place} has no `{key}`; add it, or name the column that holds it with --{name}-key.")
        gold = gold_in(found["gold"], place, keys.gold)
        response, problem = found["response"], None if found["problem"] is MISSING else found["problem"]
        for named, text in ((keys.response, response), (keys.problem, problem)):
            if not isinstance(text, (str, type(None))):
                raise UserError(f"{place}: `{named}` is {text!r:.60}, it must be text.")
        yield Item(number, row, gold, response, problem)


async def grade_rows(rows: Iterator[Item], pool: GradingPool) -> AsyncIterator[tuple[Item, Grade]]:
    """Grade rows many at a time; they come out in the order they went in."""
    under_way: deque[tuple[Item, asyncio.Future[Grade]]] = deque()
    for item in rows:
        under_way.append((item, asyncio.ensure_future(pool.grade(item.response, item.gold, item.problem))))
        await asyncio.sleep(0)  # lets the task start: most are answered at once
        while under_way and (under_way[0][1].done() or len(under_way) > WINDOW):
            item, task = under_way.popleft()
            yield item, await task
    while under_way:
        item, task = under_way.popleft()
        yield item, await task


class Summary:
    """Counts, the slowest rows and the ungraded ones."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.slowest: list[tuple[float, int, str, str]] = []
        self.ungraded: list[tuple[int, str, str]] = []
        self.begun = time.perf_counter()

    def add(self, number: int, response: str | None, grade: Grade) -> None:
        self.counts[grade.outcome] += 1
        heapq.heappush(self.slowest, (grade.seconds, number, grade.outcome, (grade.answer or "")[:200]))
        if len(self.slowest) > SHOWN:
            heapq.heappop(self.slowest)
        if grade.outcome == "ungraded":
            self.ungraded.append((number, grade.reason, (response or "")[-200:]))

    def show(self) -> None:
        from rich.console import Console
        from rich.table import Table

        console, total = Console(), self.counts.total()
        counts = Table("outcome", "rows", "share")
        for outcome in OUTCOMES:
            counts.add_row(outcome, str(self.counts[outcome]), f"{self.counts[outcome] / max(total, 1):.1%}")
        console.print(counts)
        seconds = time.perf_counter() - self.begun
        console.print(f"{total} rows in {seconds:.1f} s, {total / seconds:.0f} a second", highlight=False)
        if self.slowest:
            slow = Table("line", "seconds", "outcome", "answer", title="slowest")
            for taken, number, outcome, answer in sorted(self.slowest, reverse=True):
                slow.add_row(str(number), f"{taken:.4f}", outcome, _plain(answer))
            console.print(slow)
        if self.ungraded:
            table = Table("line", "reason", "response ends with", title=f"ungraded ({len(self.ungraded)})")
            for number, reason, response in self.ungraded[: 4 * SHOWN]:
                table.add_row(str(number), _plain(reason), _plain(response))
            console.print(table)


def _columns(grade: Grade, keys: Keys) -> dict:
    """What is added to a row. If the gold is in the column `answer`, the extracted answer is `graded_answer`."""
    columns = {"outcome": grade.outcome, "reward": grade.reward, "answer": grade.answer, "seconds": grade.seconds}
    columns |= {"reason": grade.reason} if grade.reason else {}
    taken = (keys.gold, keys.response, keys.problem)
    return {f"graded_{name}" if name in taken else name: value for name, value in columns.items()}


def _plain(text: str) -> "Text":
    """A cell of untrusted text: no markup, no control characters, 60 signs at most."""
    from rich.text import Text

    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return Text(text if len(text) <= 60 else "..." + text[-57:])


@contextlib.contextmanager
def _replaced(path: Path | None) -> Iterator[TextIO | None]:
    """A file that takes its name only when it is complete."""
    if path is None:
        yield None
        return
    if path.is_dir():
        raise UserError(f"--output {path} is a directory; give the name of a file.")
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(atomic_write(path))
        except OSError as error:
            raise UserError(f"--output {path} cannot be written: {error.strerror}.") from None
        yield file
