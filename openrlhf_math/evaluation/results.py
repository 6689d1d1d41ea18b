"""Files of an evaluation: every completion with its grade, the figures, and the state from which it resumes."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from openrlhf_math.data.files import atomic_write, write_json, write_parquet
from openrlhf_math.evaluation.figures import Marked, Tally
from openrlhf_math.evaluation.problem_sets import ProblemSet, Question
from openrlhf_math.evaluation.settings import EvalSettings
from openrlhf_math.rerank.roles import Completion
from openrlhf_math.runs.journal import Journal, open_journal, refused_if_unwritable
from openrlhf_math.runs.records import finite, json_line

COMPLETIONS, SUMMARY, PARQUET = "completions.jsonl", "summary.json", "completions.parquet"


def write_completions(folder: Path, marked: Iterable[Marked], parquet: bool) -> list[Tally]:
    """Write every completion as it comes; what the figures need of them is given back. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    tallies = []
    with atomic_write(folder / COMPLETIONS) as file:
        for number, one in enumerate(marked):
            file.writelines(json_line(row) for row in rows_of(number, one))
            tallies.append(one.tally())
    if parquet:
        _write_parquet(folder / COMPLETIONS, folder / PARQUET)
    return tallies


def write_summary(folder: Path, summary: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SUMMARY, summary)


def clear_unfinished(folder: Path) -> None:
    """Remove what a run that was killed while it wrote has left. Call it where no other run can be writing."""
    for name in (COMPLETIONS, SUMMARY, PARQUET):
        for path in folder.glob(f".{name}.*"):
            path.unlink()


def rows_of(number: int, marked: Marked) -> Iterator[dict]:
    """A row a completion. answer_cluster: of the problem's equal answers, None without an answer."""
    row = marked.row
    for index, (response, grade) in enumerate(zip(row.responses, marked.grades, strict=True)):
        yield {
            "problem_index": number,
            "sample": index,
            "problem": row.problem,
            "gold": row.gold,
            "response": response,
            "tokens": row.tokens and row.tokens[index],
            "truncated": row.truncated[index] if row.truncated else None,
            "outcome": grade.outcome,
            "reward": grade.reward,
            "answer": grade.answer,
            "well_formed": grade.well_formed,
            "answer_cluster": marked.judged.answer_clusters[index],
            "reason": grade.reason,
            **(row.tool[index] if row.tool else {}),
            **({"scores": finite(row.scores[index])} if row.scores else {}),
            **({"confidence": row.confidence[index]} if row.confidence else {}),
            **row.labels,
        }


def _write_parquet(source: Path, target: Path) -> None:
    import pyarrow as pa

    names = {"problem_index": pa.int64(), "sample": pa.int64(), "tokens": pa.int64(), "answer_cluster": pa.int64()}
    names |= {"tool_calls": pa.int64(), "tool_failed": pa.int64(), "tool_seconds": pa.float64()}
    names |= {"truncated": pa.bool_(), "well_formed": pa.bool_(), "reward": pa.float64()}
    with source.open(encoding="utf-8") as file:
        rows = map(json.loads, file)
        first = next(rows)
        schema = pa.schema([(name, names.get(name, pa.string())) for name in first])
        write_parquet(target, map(_plain, chain([first], rows)), schema)


def _plain(row: dict) -> dict:
    """Texts as Parquet can hold them; scores and confidence, whose values have many forms, as JSON."""
    texts = {name: value.encode("utf-8", "replace").decode() for name, value in row.items() if isinstance(value, str)}
    return row | texts | {name: json.dumps(row[name]) for name in ("scores", "confidence") if name in row}


def journal_of(sets: list[ProblemSet], settings: EvalSettings) -> Journal:
    """The journal of `settings.output`, which is made if it is not there.

    Raises UserError if it holds completions of other settings, or cannot be written.
    """
    output = settings.output
    changed = {
        "weights": f"holds completions of what was in --model {settings.model} before its files changed",
        "problems": "holds completions of other problems than --benchmark {name} has now (its file, --max-problems or "
        "--holdout have changed)",
    }
    journal = open_journal(output, settings.identity(sets), changed)
    with refused_if_unwritable(output):
        for one in sets:
            clear_unfinished(folder_of(one, sets, settings))
            if one.holdout:
                write_holdout(output / f"{one.name}.jsonl", one.questions)
    return journal


def folder_of(one: ProblemSet, sets: list[ProblemSet], settings: EvalSettings) -> Path:
    """Where a benchmark's results go: of one alone into the output itself."""
    return settings.output / one.name if len(sets) > 1 else settings.output


def write_holdout(path: Path, questions: list[Question]) -> None:
    """As `curate --benchmark` takes it, so that no training set has these problems."""
    with atomic_write(path) as file:
        rows = ({"problem": one.problem.text, "answer": one.problem.answer} | one.labels for one in questions)
        file.writelines(map(json_line, rows))


def key_of(problems: ProblemSet, problem: int) -> str:
    """The name of a problem's completions in the journal."""
    return f"{problems.name} {problem}"


def record_of(completion: Completion) -> dict:
    """A completion as the journal keeps it. A run of a former version resumes: keys stay as they are."""
    return {
        "text": completion.text,
        "tokens": completion.tokens,
        "truncated": completion.finished == "length",
        "tool": completion.tool.as_row() if completion.tool else None,
        "confidence": asdict(completion.confidence) if completion.confidence else None,
    }
