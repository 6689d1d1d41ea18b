r"""What `import openrlhf_math` offers in a notebook: grading and votes over lists and DataFrames, curation, comparison.

    >>> from openrlhf_math import grade, vote
    >>> [one.outcome for one in grade([r"so \boxed{1/2}", r"\boxed{3}"], ["0.5", "2"])]
    ['correct', 'format']
    >>> vote([[r"\boxed{1/2}", r"\boxed{0.5}", r"\boxed{3}"]])[0].answer
    '1/2'

pandas is not imported: a DataFrame is known by the module that made it. Bad input raises `UserError`, one
sentence that names the row.
"""

import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.recorded import Row, in_order, row_of
from openrlhf_math.rerank.aggregate import Scores, aggregate, find_aggregation, on_one_scale
from openrlhf_math.rerank.answer_clusters import GraderSays, group
from openrlhf_math.rerank.choose import asks, find_rule, needs_confidence, needs_scores
from openrlhf_math.rewards import Grade, GradingPool, RewardConfig
from openrlhf_math.rewards import grade as grade_one
from openrlhf_math.rewards.extract import extract

if TYPE_CHECKING:
    from pandas import DataFrame

    from openrlhf_math.curation.summary import Summary
    from openrlhf_math.evaluation.compare import Difference


@dataclass(frozen=True, slots=True)
class Vote:
    """What the attempts at one problem agree on.

    answer: the chosen one, as written in its attempt; None if no attempt has one. attempt: the number of that attempt,
    from 0. votes: attempts with an equal answer. correct: the chosen answer against the gold, None without a gold or
    where it was not decided.
    """

    answer: str | None
    attempt: int | None
    votes: int
    correct: bool | None


@overload
def grade(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
    responses: str, golds: str | float, problems: str | None = None, *, config: RewardConfig | None = None
) -> Grade: ...


@overload
def grade(
    responses: Sequence[str | None],
    golds: Sequence[str | int | float],
    problems: Sequence[str | None] | None = None,
    *,
    config: RewardConfig | None = None,
) -> list[Grade]: ...


@overload
def grade(
    responses: "DataFrame",
    *,
    gold: str = "gold",
    response: str = "response",
    problem: str = "problem",
    config: RewardConfig | None = None,
) -> "DataFrame": ...


def grade(
    responses: Any,
    golds: Any = None,
    problems: Any = None,
    *,
    gold: str = "gold",
    response: str = "response",
    problem: str = "problem",
    config: RewardConfig | None = None,
) -> "Grade | list[Grade] | DataFrame":
    """Grade responses against their gold answers, as `openrlhf-math grade` does.

    responses: a text with its gold; or texts, None where there is none, with one of `golds` for each. problems: the
    same of problems, if known, which help where answers refer to them. Or a DataFrame with the columns named by `gold`,
    `response` and, if it is there, `problem`: then a copy comes back with the columns outcome, reward, answer, seconds
    and reason. config: how answers are found and rewarded. Raises UserError for a row that is not of this form.
    """
    if isinstance(responses, str):
        ((text, answer, asked),) = _rows([responses], None if golds is None else [golds], [problems])
        return grade_one(text, answer, problem=asked, config=config)
    frame = _as_frame(responses)
    if frame is not None:
        responses, golds = _column(frame, response, "response"), _column(frame, gold, "gold")
        problems = _column(frame, problem, "problem") if problem in frame else None
    rows = _rows(responses, golds, problems)
    with closing(GradingPool(config)) as pool:
        found = list(in_order(lambda one: pool.grade_now(*one), rows, pool.config.workers + 1))
    if frame is None:
        return found
    names = ("outcome", "reward", "answer", "seconds", "reason")
    taken = {gold, response, problem}
    return frame.assign(
        **{f"graded_{name}" if name in taken else name: [getattr(one, name) for one in found] for name in names}
    )


def vote(
    attempts: "Sequence[Sequence[str | None]] | DataFrame",
    golds: Sequence[str | int | float] | None = None,
    problems: Sequence[str | None] | None = None,
    scores: Sequence[Sequence[Scores]] | None = None,
    *,
    rule: str = "majority",
    aggregation: str = "last",
    gold: str = "gold",
    response: str = "responses",
    problem: str = "problem",
    config: RewardConfig | None = None,
) -> "list[Vote] | DataFrame":
    """Put the attempts at each problem to the vote. Equal answers vote together however they are written.

    attempts: for each problem its responses, None for one that failed; with `golds`, `problems` and `scores` for each
    problem, if there are any. Or a DataFrame with a problem a row: the columns named by `response` and, where they are
    there, `gold`, `problem` and `scores`; then a copy comes back with the columns answer, attempt, votes and correct.
    scores: for each attempt a number or a list of step scores. rule: of `openrlhf-math vote --rule`, or your own as
    package.module.function. aggregation: from step scores to a number. Raises UserError for a row that is not of this
    form, or an unavailable rule.
    """
    frame = _as_frame(attempts)
    if frame is not None:
        attempts = _column(frame, response, "response")
        golds, problems, scores = (
            _column(frame, name, "") if name in frame else None for name in (gold, problem, "scores")
        )
    chosen, weigh = find_rule(rule), find_aggregation(aggregation)
    if asks(chosen) or needs_confidence(chosen):
        raise UserError(f"rule {rule}: it needs more than answers and scores; choose another")
    if needs_scores(chosen) and scores is None:
        raise UserError(f"rule {rule}: it needs scores; give them, or choose majority")
    rows = _problems(attempts, golds, problems, scores)
    if needs_scores(chosen):
        for row in rows:
            if row.scores is None:
                raise UserError(f"{row.place} has no scores, which rule {rule} needs")
    rows = [replace(row, scores=on) for row, on in zip(rows, on_one_scale(row.scores for row in rows), strict=True)]
    pool = GradingPool(config)

    def voted(row: Row) -> Vote:
        answers = [extract(each or "", pool.config.style).answer for each in row.responses]
        clusters = group(answers, GraderSays(pool, row.problem))
        weights = aggregate(row.scores, weigh)[0] if row.scores else [0.0] * len(clusters)
        number = chosen(clusters, weights)
        if number is None:
            return Vote(None, None, 0, None if golds is None else False)
        outcome = pool.grade_now(row.responses[number], row.gold, row.problem).outcome if golds is not None else ""
        correct = None if outcome in ("", "ungraded") else outcome == "correct"
        return Vote(answers[number], number, clusters.count(clusters[number]), correct)

    with closing(pool):
        found = list(in_order(voted, rows, pool.config.workers + 1))
    if frame is None:
        return found
    return frame.assign(**{name: [getattr(one, name) for one in found] for name in asdict(Vote(None, None, 0, None))})


def curate(
    sources: Iterable[str | Path],
    output: str | Path,
    *,
    benchmarks: Iterable[str | Path] = (),
    workers: int = 0,
    **more: Any,
) -> "Summary":
    """Read problem sets into one without duplicates and benchmark problems, as `openrlhf-math curate` does.

    sources, benchmarks: `[NAME=]PLACE`, each a file, a folder or a hub name. output: the directory of the dataset.
    workers: processes through Ray Data, 0 for none. more: further fields of `curation.settings.CurationSettings`.
    Returns the counts. Raises UserError for an input that cannot be read, and for settings that cannot work.
    """
    from openrlhf_math.curation.pipeline import Workers, run
    from openrlhf_math.curation.plan import find
    from openrlhf_math.curation.settings import CurationSettings

    try:
        settings = CurationSettings(sources=tuple(map(str, sources)), benchmarks=tuple(map(str, benchmarks)), **more)
    except ValueError as error:
        raise UserError(str(error)) from None
    with closing(Workers(workers)) as running:
        return run(find(settings), Path(output), running)


def compare(before: str | Path, after: str | Path, seed: int = 0) -> "dict[str, dict[str, Difference]]":
    """The paired differences between two directories of `openrlhf-math eval`, as `eval --compare` reports them.

    Returns by benchmark, for each figure, the means, the difference, its 95% interval and p. Raises UserError for a
    directory that is none, and for runs over other problems.
    """
    from openrlhf_math.evaluation.compare import compare_runs

    return compare_runs(Path(before), Path(after), seed)


def _as_frame(value: object) -> Any:
    """The value if it is a DataFrame, else None. Without pandas in memory there is none."""
    pandas = sys.modules.get("pandas")
    return value if pandas is not None and isinstance(value, pandas.DataFrame) else None


def _column(frame: Any, name: str, argument: str) -> list:
    """The values of a column. Raises UserError if there is no such column."""
    if name not in frame:
        raise UserError(f"the frame has no column {name!r}; name it with {argument}=")
    return list(frame[name])


def _plain(value: Any) -> Any:
    """A cell as Python has it: NumPy's numbers and arrays as numbers and lists, a missing value as None."""
    if type(value).__module__ == "numpy":
        value = value.tolist()
    missing = (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType")
    return None if missing else value


def _lists(length: int, **columns: Sequence | None) -> list[dict]:
    """Rows of the columns that are given. Raises UserError for one of another length, or that is a text."""
    given = {name: [_plain(value) for value in values] for name, values in columns.items() if values is not None}
    for name, values in given.items():
        if isinstance(columns[name], str) or len(values) != length:
            raise UserError(f"{name}: give a list with one for each of {length}")
    return [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]


def _rows(responses: Any, golds: Any, problems: Any) -> list[tuple[str | None, str, str | None]]:
    if golds is None:
        raise UserError("golds are missing: give a response and its gold, a list of each, or a DataFrame")
    rows = []
    for number, row in enumerate(_lists(len(responses), responses=responses, golds=golds, problems=problems), start=1):
        checked = row_of(
            {"gold": row["golds"], "responses": [row["responses"]], "problem": row.get("problems")}, f"row {number}"
        )
        rows.append((checked.responses[0], checked.gold, checked.problem))
    return rows


def _problems(attempts: Any, golds: Any, problems: Any, scores: Any) -> list[Row]:
    if isinstance(attempts, str) or any(each is None or isinstance(each, str) for each in attempts):
        raise UserError("give a list with a list of attempts for each problem, or a DataFrame")
    columns = {"responses": attempts, "gold": golds, "problem": problems, "scores": scores}
    rows = _lists(len(attempts), **columns)
    for row in rows:
        row["responses"] = list(row["responses"])
        row.setdefault("gold", "")
    return [row_of(row, f"row {number}") for number, row in enumerate(rows, start=1)]
