"""What a killed run resumes from: its completions in a journal, and the settings they were made with."""

from dataclasses import asdict
from pathlib import Path

from openrlhf_math.data.files import written_whole
from openrlhf_math.evaluation.problem_sets import ProblemSet, Question
from openrlhf_math.evaluation.results import clear_unfinished, line
from openrlhf_math.evaluation.settings import EvalSettings
from openrlhf_math.rerank.roles import Completion
from openrlhf_math.runs.journal import Journal, open_journal, refused_if_unwritable


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
    with written_whole(path) as file:
        rows = ({"problem": one.problem.text, "answer": one.problem.answer} | one.labels for one in questions)
        file.writelines(map(line, rows))


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
