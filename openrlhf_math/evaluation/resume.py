"""What a killed run goes on from: its completions in a journal, and the settings they were made with."""

import json
from pathlib import Path

from openrlhf_math.data.files import written_whole
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.problem_sets import ProblemSet, Question
from openrlhf_math.evaluation.results import clear_unfinished, line
from openrlhf_math.evaluation.sampler import Completion
from openrlhf_math.evaluation.settings import EvalSettings
from openrlhf_math.runs.journal import Journal, refused_if_unwritable


def open_journal(sets: list[ProblemSet], settings: EvalSettings) -> Journal:
    """The journal of `settings.output`, which is made if it is not there.

    Raises UserError if it holds completions of other settings, or cannot be written.
    """
    output, identity = settings.output, settings.identity(sets)
    config = output / "config.json"
    if config.exists():
        _check_same(output, _read(config), identity)
    with refused_if_unwritable(output):
        output.mkdir(parents=True, exist_ok=True)
        journal = Journal(output / "journal.jsonl")
        if not config.exists():
            with written_whole(config) as file:
                file.write(json.dumps(identity, indent=2) + "\n")
        for one in sets:
            clear_unfinished(folder_of(one, sets, settings))
            if one.holdout:
                write_holdout(output / f"{one.name}.jsonl", one.questions)
    return journal


def folder_of(one: ProblemSet, sets: list[ProblemSet], settings: EvalSettings) -> Path:
    """Where a benchmark's results go: of one alone into the output itself."""
    return settings.output / one.name if len(sets) > 1 else settings.output


def _read(config: Path) -> dict:
    try:
        there = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{config} cannot be read ({error}); choose another --output") from None
    return there if isinstance(there, dict) else {}


def _check_same(output: Path, there: dict, here: dict) -> None:
    flag = next((name for name in here if here[name] != there.get(name)), None)
    if flag is None:
        return
    was, now = there.get(flag), here[flag]
    if flag == "weights":
        raise UserError(
            f"--output {output} holds completions of what stood in --model {here['model']} before its files changed; "
            "choose a new directory"
        )
    if isinstance(was, dict) and isinstance(now, dict):
        name = next(name for name in now if now[name] != was.get(name))
        if flag == "problems":
            raise UserError(
                f"--output {output} holds completions of other problems than --benchmark {name} has now "
                "(its file, --max-problems or --holdout have changed); choose a new directory"
            )
        was, now = was.get(name), now[name]
    raise UserError(
        f"--output {output} holds completions of other settings (--{flag.replace('_', '-')} was {was!r:.60}, "
        f"is {now!r:.60}); use the same, or choose a new directory"
    )


def write_holdout(path: Path, questions: list[Question]) -> None:
    """As `curate --benchmark` takes it, so that no training set has these problems."""
    with written_whole(path) as file:
        rows = ({"problem": one.problem.text, "answer": one.problem.answer} | one.labels for one in questions)
        file.writelines(map(line, rows))


def key_of(problems: ProblemSet, problem: int) -> str:
    """The name of a problem's completions in the journal."""
    return f"{problems.name} {problem}"


def completion_of(journal: Journal, problems: ProblemSet, problem: int, sample: int) -> Completion:
    """A completion of the journal. Raises KeyError if it is not there."""
    record = journal.read(key_of(problems, problem), sample)
    return Completion(
        record["text"], record["tokens"], record["truncated"], record.get("tool"), record.get("confidence")
    )
