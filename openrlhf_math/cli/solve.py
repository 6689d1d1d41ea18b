"""`openrlhf-math solve`: several attempts at a problem, one answer."""

import argparse
import io
import math
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.cli.parsing import shown_json
from openrlhf_math.cli.rerank_flags import add_rerank_flags, check_there, limits, method, settings
from openrlhf_math.cli.solve_output import SETTINGS, check_output, opened, settings_of, tokens_left
from openrlhf_math.data.schema import text_error
from openrlhf_math.errors import UserError, at_least
from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.solver import Method

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from openrlhf_math.cli.solve_display import Bar
    from openrlhf_math.rerank.reranker import Progress, RerankerSettings, Solved

WAKE_SECONDS = 1.0
STOP_SECONDS = 30.0  # for the best answers so far, after Ctrl-C

EPILOG = """examples:
  openrlhf-math solve --model Qwen/Qwen2.5-Math-1.5B-Instruct "What is 17 * 23?"
  openrlhf-math solve --model MODEL --scorer qwen2.5-math-prm --scorer-model Qwen/Qwen2.5-Math-PRM-7B \\
      --attempts 32 --confidence 0.95 --problems aime24.jsonl --total-seconds 18000 --output solved.jsonl
  cat problems.txt | openrlhf-math solve --model MODEL -

--output is what `openrlhf-math vote` reads, and more: one line a problem with its attempts, their scores and tokens.

exit codes: 0 done, 1 no problem has an answer, 2 bad input, 130 interrupted: the best answers so far are shown
"""


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Solve problems: a model makes several attempts at each, a scorer judges their steps, equal\n"
        "answers vote, and the best answer within the budget is given. Sampler, scorer and the actor that\n"
        "decides are Ray actors, on this machine or on the cluster in RAY_ADDRESS.",
        epilog=EPILOG,
    )
    parser.add_argument("problem", nargs="?", metavar="PROBLEM", help="its text; -: one a line of standard input")
    parser.add_argument(
        "--problems", "--file", dest="file", metavar="SET", help="JSONL, JSON, CSV or Parquet, or hub name[@config]"
    )
    parser.add_argument("--problem-key", default="problem", metavar="COLUMN", help="of --problems (%(default)s)")
    parser.add_argument("--answer-key", default="answer", metavar="COLUMN", help="of the gold answer (%(default)s)")
    parser.add_argument("--split", default="test", help="of a hub set (%(default)s)")
    parser.add_argument("--max-problems", type=int, metavar="N", help="only the first N")
    parser.add_argument("--output", type=Path, metavar="FILE.jsonl", help="where solutions go, each when it is done")
    parser.add_argument("--resume", action="store_true", help="keep what --output has, solve what is missing")
    parser.add_argument("--json", action="store_true", help="print one JSON object a problem instead of tables")
    parser.add_argument(
        "--total-seconds",
        type=float,
        metavar="S",
        help="for all problems, once the engines are up; unspent time passes on",
    )
    parser.add_argument("--total-tokens", type=int, metavar="N", help="for all problems; unspent tokens pass on")
    add_rerank_flags(parser, seconds=3600)
    return parser


@dataclass(frozen=True, slots=True)
class Asked:
    """By what the problems are solved, how, and what each and all of them may spend."""

    parts: "RerankerSettings"
    method: Method
    each: Limits
    total: Limits


def run(args: argparse.Namespace) -> int:

    how, each = method(args), limits(args)
    parts = settings(args)
    for name in ("total_seconds", "total_tokens"):
        if getattr(args, name) is not None and not getattr(args, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: give more than 0")
    at_least(1, args, "max_problems")
    problems, golds = _problems(args)
    if args.resume and not args.output:
        raise UserError("--resume continues from --output; name the file of the run to resume")
    if args.output:
        check_output(args.output, args.resume)
    total = Limits(tokens=args.total_tokens, seconds=args.total_seconds)
    return _solve(args, Asked(parts, how, each, total), problems, golds)


def _problems(args: argparse.Namespace) -> tuple[list[str], list[str | None]]:
    """Problems and their golds, None where there is none. Raises UserError if there are none."""
    if (args.problem is None) == (args.file is None):
        raise UserError("give a PROBLEM, - for standard input, or --problems, one of them")
    if args.file:
        return _read(args.file, args.split, args.problem_key, args.answer_key, args.max_problems)
    lines = _standard_input().split("\n") if args.problem == "-" else [args.problem]
    problems = [line.strip() for line in lines if line.strip()][: args.max_problems]
    if not problems:
        where = "standard input has no line with a problem" if args.problem == "-" else "the problem is empty"
        raise UserError(f"{where}; write it out")
    for number, problem in enumerate(problems, start=1):
        if fault := text_error(problem):
            raise UserError(f"problem {number} {fault}; write it as text in UTF-8")
    return problems, [None] * len(problems)


def _standard_input() -> str:
    """Raises UserError if there is none, or if it is not text."""
    if sys.stdin is None:
        raise UserError("PROBLEM is -, and standard input is closed; give it lines, or write the problem out")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig")  # whatever the locale is
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not text in UTF-8 ({error.reason}); write it so") from None


def _read(spec: str, split: str, problem_key: str, answer_key: str, most: int | None) -> tuple[list, list]:
    from openrlhf_math.data.problems import first_of, named_columns, read_set

    problems, golds = [], []
    rows = read_set(spec, split, named_columns(problem_key, answer_key), needed=("problem",))
    for number, _, row in first_of(rows, most):
        if row.dialogue:
            raise UserError(
                f"{spec}, row {number}: it has messages before the problem, which solve cannot give; drop it"
            )
        problems.append(row.problem)
        golds.append((row.answer or "").strip() or None)
    if not problems:
        raise UserError(
            f"{spec} has no problem{' left by --max-problems' if most is not None else ''}; give at least one"
        )
    return problems, golds


def _solve(args: argparse.Namespace, asked: Asked, problems: list[str], golds: list[str | None]) -> int:
    from openrlhf_math.cli.solve_display import bar, show_set, show_solution
    from openrlhf_math.data.chat_date import KEY, settle, undated
    from openrlhf_math.rerank.reranker import row

    interrupted, decides = False, settings_of(args)
    with opened(args.output, args.resume, problems, golds, decides) as output:
        rows = output.rows
        before = {line["number"] for line in rows}
        left = [number for number in range(len(problems)) if number not in before]
        kept = next((line[KEY] for line in rows if KEY in line), None)
        settle(args.chat_date, kept, args.output or "")
        if rows and not (kept or args.chat_date):
            undated(f"--output {args.output}", f"the file was written on {output.day}")
        date = check_there(args) if left else None
        more = ({KEY: date} if date else {}) | ({SETTINGS: decides} if args.output else {})
        if left and asked.total.tokens:
            asked = replace(asked, total=replace(asked.total, tokens=tokens_left(asked.total.tokens, rows)))
        if args.total_seconds:
            _print_share(args, len(left))
        with bar(len(problems), args.attempts) as display:
            for solved in _solutions(args, asked, [problems[number] for number in left], display):
                number = left[solved.number]
                rows.append(row(number, problems[number], golds[number], solved) | more)
                display.problem_done(len(rows))
                if solved.solution and solved.solution.decision.ended == "interrupted":
                    interrupted = True  # --resume solves it
                else:
                    output.write(rows[-1])
    rows.sort(key=lambda line: line["number"])
    if args.json:
        for line in rows:
            print(shown_json(line))
    elif len(rows) == 1:
        show_solution(rows[0])
    else:
        show_set(rows, asked.parts.rewards)
    if interrupted:
        raise KeyboardInterrupt
    return 1 if all(line["answer"] is None for line in rows) else 0


def _print_share(args: argparse.Namespace, problems: int) -> None:
    share = args.total_seconds * min(args.problem_concurrency, problems) / max(problems, 1)
    if share < args.seconds and problems > args.problem_concurrency:
        print(
            f"--total-seconds {args.total_seconds:g}: {share:.3g} s for each of {problems} problems, "
            f"{args.problem_concurrency} at once; where an attempt takes longer, the last problems get none",
            file=sys.stderr,
        )


def _solutions(args: argparse.Namespace, asked: Asked, problems: list[str], display: "Bar") -> "Iterator[Solved]":
    """A `Solved` for each problem, as they are done; `display` shows the attempts at one that is alone."""
    if not problems:
        return
    from openrlhf_math.rerank.here import is_here, solved_here
    from openrlhf_math.rerank.reranker import Progress, Reranker, Solved

    how, each, total = asked.method, asked.each, asked.total

    def ask(reranker: Reranker) -> AsyncGenerator[Progress | Solved, None]:
        display.problem_done(0)
        if len(problems) == 1:
            return reranker.stream(problems[0], how, each, total)
        return reranker.solve_all(problems, how, each, total, args.problem_concurrency)

    if is_here(asked.parts):
        for news in solved_here(asked.parts, ask):
            if isinstance(news, Progress):
                display.attempt_counted(news)
            else:
                yield news
        return
    from openrlhf_math.rerank.launch import started

    with started(asked.parts) as reranker:
        display.problem_done(0)
        streaming = {"num_returns": "streaming"}
        answers: Iterator
        if len(problems) == 1:
            answers = reranker.stream.options(**streaming).remote(problems[0], how, each, total)
        else:
            answers = reranker.solve_all.options(**streaming).remote(
                problems, how, each, total, args.problem_concurrency
            )
        for news in _until_interrupted(answers, reranker):
            if isinstance(news, Progress):
                display.attempt_counted(news)
            else:
                yield news


def _until_interrupted(answers: Iterator, reranker: "ActorHandle") -> "Iterator[Progress | Solved]":
    """What a stream of Ray's gives. At Ctrl-C what is under way ends with the best it has; at a second one, at once.

    Raises UserError if the engines have died too often.
    """
    import ray

    from openrlhf_math.rerank.roles import Unavailable

    interrupted, end_by = False, math.inf
    while time.monotonic() < end_by:
        try:
            if ray.wait([answers], timeout=WAKE_SECONDS, fetch_local=False)[0]:
                yield ray.get(next(answers))
        except StopIteration:
            return
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted, end_by = True, time.monotonic() + STOP_SECONDS
            reranker.stop.remote()
        except (Unavailable, ray.exceptions.RayActorError) as error:
            cause = getattr(error, "cause", error)
            raise UserError(f"{cause}; what was solved before is in --output, if that was given") from None
        except UserError as error:  # of a rule or an aggregation; Ray's has the actor's traceback for its words
            raise UserError(str(getattr(error, "cause", error))) from None
    raise KeyboardInterrupt
