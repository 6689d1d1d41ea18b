"""`openrlhf-math grade`: grade a file of responses against gold answers."""

import argparse
import asyncio
import contextlib
import heapq
import json
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

from openrlhf_math.data.files import written_whole
from openrlhf_math.errors import UserError
from openrlhf_math.rewards import Grade, GradingPool, RewardConfig

# Rows under way at once: enough to keep the workers busy, few enough to hold in memory.
WINDOW = 512
SHOWN = 5
OUTCOMES = ("correct", "format", "wrong", "undecided")

FORMAT = r"""outcomes:
  correct    the final answer equals the gold, in whatever format: --correct-reward
  format     wrong, in correct format: --format-reward
  wrong      wrong, or no answer found: 0
  undecided  nobody could tell within the limits, or the gold is no answer: 0, and listed

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
        description="Grade responses in bulk. Every row of FILE is a JSON object with `gold` and `response`, and\n"
        "`problem` where the answer refers to it (multiple choice). It comes back in order, with\n"
        "`outcome`, `reward`, `answer`, `seconds` and, where undecided, `reason`.",
        epilog=FORMAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="JSONL file, or - for standard input")
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


def run(args: argparse.Namespace) -> None:
    try:
        config = RewardConfig(
            format_reward=args.format_reward,
            correct_reward=args.correct_reward,
            style=args.style,
            accept_expressions=args.accept_expressions,
            timeout_seconds=args.timeout,
            memory_bytes=args.memory_mb << 20,
            workers=args.workers,
        )
    except ValueError as error:
        raise UserError(f"{error}.") from None
    summary = Summary()
    with _source(args.file) as source, _replaced(args.output) as output:
        asyncio.run(_grade_all(source, args.file, output, config, summary))
    summary.show()


async def _grade_all(source: BinaryIO, name: str, output, config: RewardConfig, summary: "Summary") -> None:
    pool = GradingPool(config)
    try:
        with _progress(source) as advance:
            async for number, row, grade in grade_rows(read_rows(source, name), pool):
                summary.add(number, row, grade)
                if output:
                    output.write(json.dumps(row | _columns(grade)) + "\n")
                advance()
    finally:
        pool.close()


def read_rows(source: BinaryIO, name: str) -> Iterator[tuple[int, dict]]:
    """The rows of a JSONL file with their line numbers. Raises UserError naming the line that is none."""
    for number, line in enumerate(source, start=1):
        if not line.strip():
            continue
        place = f"{'standard input' if name == '-' else name}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} is not JSON ({error}); every line must be one JSON object.") from None
        if not isinstance(row, dict):
            raise UserError(f'{place} is no JSON object; it must look like {{"gold": ..., "response": ...}}.')
        for key, kinds in (("gold", (str, int, float)), ("response", (str, type(None)))):
            if key not in row:
                raise UserError(f"{place} has no `{key}`; add it, or rename the key that holds it.")
            if not isinstance(row[key], kinds) or isinstance(row[key], bool):
                raise UserError(f"{place}: `{key}` is {row[key]!r:.60}, it must be text.")
        if not isinstance(row.get("problem"), (str, type(None))):
            raise UserError(f"{place}: `problem` is {row['problem']!r:.60}, it must be text.")
        yield number, row


async def grade_rows(rows: Iterator[tuple[int, dict]], pool: GradingPool) -> AsyncIterator[tuple[int, dict, Grade]]:
    """Grade rows many at a time; they come out in the order they went in."""
    under_way: deque = deque()
    for number, row in rows:
        task = asyncio.ensure_future(pool.grade(row["response"], str(row["gold"]), row.get("problem")))
        under_way.append((number, row, task))
        await asyncio.sleep(0)  # lets the task start: most are answered at once
        while under_way and (under_way[0][2].done() or len(under_way) > WINDOW):
            number, row, task = under_way.popleft()
            yield number, row, await task
    while under_way:
        number, row, task = under_way.popleft()
        yield number, row, await task


class Summary:
    """Counts, the slowest rows and the undecided ones."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.slowest: list[tuple[float, int, str, str]] = []
        self.undecided: list[tuple[int, str, str]] = []
        self.begun = time.perf_counter()

    def add(self, number: int, row: dict, grade: Grade) -> None:
        self.counts[grade.outcome] += 1
        heapq.heappush(self.slowest, (grade.seconds, number, grade.outcome, (grade.answer or "")[:200]))
        if len(self.slowest) > SHOWN:
            heapq.heappop(self.slowest)
        if grade.outcome == "undecided":
            self.undecided.append((number, grade.reason, (row["response"] or "")[-200:]))

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
        if self.undecided:
            table = Table("line", "reason", "response ends with", title=f"undecided ({len(self.undecided)})")
            for number, reason, response in self.undecided[: 4 * SHOWN]:
                table.add_row(str(number), _plain(reason), _plain(response))
            console.print(table)


def _columns(grade: Grade) -> dict:
    columns = {"outcome": grade.outcome, "reward": grade.reward, "answer": grade.answer, "seconds": grade.seconds}
    return columns | ({"reason": grade.reason} if grade.reason else {})


def _plain(text: str):
    """A cell of untrusted text: no markup, no control characters, 60 signs at most."""
    from rich.text import Text

    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return Text(text if len(text) <= 60 else "..." + text[-57:])


@contextlib.contextmanager
def _source(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(open(name, "rb"))
        except OSError as error:
            raise UserError(f"{name} cannot be read: {error.strerror}.") from None
        yield file


@contextlib.contextmanager
def _replaced(path: Path | None):
    """A file that takes its name only when it is complete."""
    if path is None:
        yield None
        return
    if path.is_dir():
        raise UserError(f"--output {path} is a directory; give the name of a file.")
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(written_whole(path))
        except OSError as error:
            raise UserError(f"--output {path} cannot be written: {error.strerror}.") from None
        yield file


@contextlib.contextmanager
def _progress(source: BinaryIO):
    """A progress bar on standard error; on a stream of unknown length it counts."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total = None
    if source.seekable():
        total = sum(1 for line in source if line.strip())
        source.seek(0)
    columns = (TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("grading", total=total)
        yield lambda: bar.advance(task)
