"""What `solve` shows: progress, one solution with its attempts, or a table of many.

A model's text can hold codes that a terminal obeys: they are written out.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape

from openrlhf_math.report.table import visible
from openrlhf_math.rerank.reranker import Progress
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.runs.progress import terminal_bar

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.table import Table

MOST_STEPS = 8
MOST_ROWS = 20
MOST_VOTES = 5
MOST_ERRORS = 5
ENDS = {
    "tokens": "the tokens were used up",
    "attempts": "all attempts were made",
    "seconds": "the time was up",
    "early": "more attempts were not needed",
    "done": "there were no more attempts",
    "interrupted": "interrupted, the best so far",
}


class Bar:
    """How far a run is, on a terminal; the engines start first."""

    def __init__(self, progress: "RichProgress", problems: int, attempts: int) -> None:
        self._progress, self._problems, self._attempts = progress, problems, attempts
        self._task = progress.add_task("the engines start", total=None)

    def problem_done(self, done: int) -> None:
        """done: problems so far."""
        self._update(f"{done} of {self._problems} problems solved", done, self._problems)

    def attempt_counted(self, news: Progress) -> None:
        leading = "no answer yet" if news.answer is None else f"leading: {escape(visible(news.answer[:40]))}"
        self._update(f"attempt {news.attempts} of {self._attempts}, {leading}", news.attempts, self._attempts)

    def _update(self, description: str, completed: int, total: int) -> None:
        self._progress.update(self._task, description=description, completed=completed, total=total)


@contextmanager
def bar(problems: int, attempts: int) -> Iterator[Bar]:
    """A `Bar` on standard error; silent where that is not a terminal."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with terminal_bar(*columns, transient=True) as progress:
        yield Bar(progress, problems, attempts)


def show_solution(line: dict) -> None:
    """One problem: the chosen attempt, then every attempt with its answer, its votes and its step scores."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    console = Console()
    if line.get("error"):
        print(f"openrlhf-math solve: {visible(line['error'])}", file=sys.stderr)
        return
    if line["text"]:
        console.print(
            Panel(Text(visible(line["text"].strip())), title=f"attempt {line['chosen'] + 1}", title_align="left")
        )
    console.print(_attempts(line))
    console.print(_end(line), highlight=False)
    found = "none of the attempts has one" if line["answer"] is None else visible(line["answer"])
    console.print(Text("answer: ") + Text(found, style="bold"))


def _attempts(line: dict) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    scored = line["scores"] is not None
    by = any(line["by"])
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    table.add_column("#", justify="right")
    for heading in ["answer", *(["solver"] if by else [])]:
        table.add_column(heading, overflow="ellipsis", no_wrap=True, max_width=24)
    calls = line.get("tool_calls")
    for heading in ["votes", "tokens", *(["calls"] if calls else []), *(["score"] if scored else [])]:
        table.add_column(heading, justify="right")
    if scored:
        table.add_column("step scores")
    for number, answer in enumerate(line["answers"]):
        kind = line["answer_clusters"][number]
        cells: list[str | Text] = [
            Text("→" if number == line["chosen"] else ""),
            str(number + 1),
            Text("-" if answer is None else visible(answer)),
        ]
        cells += [Text(line["by"][number])] if by else []
        cells += ["-" if kind is None else str(line["votes"][kind]), str(line["tokens"][number])]
        cells += [_calls(line, number)] if calls else []
        cells += [_score(line, number), _steps(line["scores"][number])] if scored else []
        table.add_row(*cells, style="bold" if number == line["chosen"] else None)
    return table


def _calls(line: dict, number: int) -> str:
    failed = line["tool_failed"][number]
    return f"{line['tool_calls'][number]}" + (f", {failed} failed" if failed else "")


def _score(line: dict, number: int) -> str:
    steps = line["scores"][number]
    steps = steps if isinstance(steps, list) else [steps]
    return "unscored" if not steps or None in steps else f"{line['score'][number]:.3f}"


def _steps(scores: Sequence | float | None) -> str:
    if not isinstance(scores, list):
        return "-" if scores is None else ""
    texts = ["nan" if score is None else f"{score:.2f}" for score in scores]
    if len(texts) > MOST_STEPS:
        texts = [*texts[: MOST_STEPS - 2], "…", texts[-1]]
    return " ".join(texts)


def _end(line: dict) -> str:
    saved = f", at least {line['tokens_saved']:,} saved" if line["tokens_saved"] else ""
    begun = f" and {line['not_counted']} not counted" if line.get("not_counted") else ""
    names = {"unscored": "unscored", "left_out": "left out as unsure", "unmeasured": "without a confidence"}
    extra = "".join(f", {line[name]} {words}" for name, words in names.items() if line.get(name))
    by_model = {True: ", chosen by the model", False: ", chosen by majority", None: ""}[line.get("by_model")]
    return (
        f"{len(line['answers'])} attempts{begun}{extra}, {line['tokens_used']:,} tokens{saved}, "
        f"{line['seconds']:.1f} s: "
        f"{ENDS[line['ended']]}{by_model}"
    )


def show_set(lines: Sequence[dict], rewards: RewardConfig) -> None:
    """Several problems, one a row; where all have a gold, how many answers are right, and how many are ungraded."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    lines = sorted(lines, key=lambda line: line["number"])
    outcomes = _outcomes(lines, rewards) if all(line["gold"] is not None for line in lines) else None
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("problem", max_width=32, overflow="ellipsis", no_wrap=True)
    for heading in ["answer", *(["gold"] if outcomes else [])]:
        table.add_column(heading, max_width=16, overflow="ellipsis", no_wrap=True)
    for heading in ("votes", "tokens", "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for index, line in enumerate(lines[:MOST_ROWS]):
        answer = Text(visible(line["answer"] if line["answer"] is not None else line.get("error") or "-"))
        cells: list[str | Text] = [str(line["number"] + 1), Text(" ".join(visible(line["problem"]).split())), answer]
        if outcomes:
            answer.stylize({"correct": "green", "ungraded": "yellow"}.get(outcomes[index], "red"))
            cells.append(Text(visible(line["gold"])))
        votes = sorted(line.get("votes", []), reverse=True)
        counts = " ".join(map(str, votes[:MOST_VOTES])) + (" …" if len(votes) > MOST_VOTES else "")
        table.add_row(*cells, counts, f"{line.get('tokens_used', 0):,}", f"{line.get('seconds', 0):.1f}")
    console.print(table)
    if len(lines) > MOST_ROWS:
        console.print(f"… and {len(lines) - MOST_ROWS} more, all in --output", highlight=False)
    for line in [line for line in lines if line.get("error")][:MOST_ERRORS]:
        console.print(f"{line['number'] + 1}: {visible(line['error'])}", highlight=False, markup=False)
    saved = sum(line.get("tokens_saved", 0) for line in lines)
    used = sum(line.get("tokens_used", 0) for line in lines)
    unscored = sum(line.get("unscored", 0) for line in lines)
    totals = f"{len(lines)} problems, {used:,} tokens" + (f", at least {saved:,} saved" if saved else "")
    console.print(totals + (f", {unscored} attempts unscored" if unscored else ""), highlight=False)
    if outcomes:
        right, ungraded = outcomes.count("correct"), outcomes.count("ungraded")
        more = f"; {ungraded} could not be graded and count as wrong" if ungraded else ""
        console.print(f"right: {right} of {len(outcomes)} ({right / len(outcomes):.1%}){more}", highlight=False)


def _outcomes(lines: Sequence[dict], rewards: RewardConfig) -> list[str]:
    """Of each answer, as grades have it; "wrong" where there is none."""
    with closing(GradingPool(rewards)) as pool:
        return [
            pool.grade_now(line["text"], line["gold"], line["problem"]).outcome if line.get("text") else "wrong"
            for line in lines
        ]
