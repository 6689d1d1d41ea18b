"""One evaluation of a model: prompts, completions, grades, and what is written of them."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from openrlhf_math.data.files import written_whole
from openrlhf_math.distill.journal import Journal, told_if_unwritable
from openrlhf_math.errors import UserError
from openrlhf_math.evaluation.figures import figures
from openrlhf_math.evaluation.marking import mark
from openrlhf_math.evaluation.problem_sets import ProblemSet, Question
from openrlhf_math.evaluation.prompts import find_prompt, style_of
from openrlhf_math.evaluation.recorded import Row, in_order
from openrlhf_math.evaluation.results import clear_unfinished, line, write_completions, write_summary
from openrlhf_math.evaluation.sampler import Completion, Request, Sampler, context_needed
from openrlhf_math.evaluation.settings import EvalSettings
from openrlhf_math.grpo.inputs import chat, load_tokenizer
from openrlhf_math.rewards import GradingPool

# Told of the benchmark, of every completion, and whether it was made just now or stood in the journal.
Listener = Callable[[str, Completion, bool], None]


def evaluate(sets: list[ProblemSet], settings: EvalSettings, listen: Listener) -> dict[str, dict]:
    """Sample what is missing and grade all. Returns the figures by benchmark, which are also written.

    Raises UserError if the model cannot serve the prompts, or the output holds completions of other settings.
    """
    prompts = {one.name: prompt_ids(one, settings) for one in sets}
    context = context_needed({one.name: (prompts[one.name], one.sampling.max_tokens) for one in sets}, settings)
    journal = open_journal(sets, settings)
    try:
        timing = _sample(sets, prompts, context, settings, journal, listen)
        told = {}
        with told_if_unwritable(settings.output):
            for one in sets:
                told[one.name] = _report(one, _folder(one, sets, settings), settings, journal, timing[one.name])
            if len(sets) > 1:
                write_summary(settings.output, {"model": settings.model, "benchmarks": told})
    finally:
        journal.close()
    return told


def prompt_ids(problems: ProblemSet, settings: EvalSettings) -> list[list[int]]:
    """The tokenized prompts. Raises UserError if the tokenizer cannot be read or lacks a chat template."""
    write = find_prompt(settings.prompt)
    style = style_of(write)
    tokenizer = load_tokenizer("--model", settings.model, style.chat_template, "choose --prompt plain or few-shot")
    texts = [write(tokenizer, chat(one.problem, settings.instruction)) for one in problems.questions]
    return tokenizer(texts, add_special_tokens=not style.chat_template)["input_ids"]


def open_journal(sets: list[ProblemSet], settings: EvalSettings) -> Journal:
    """The journal of `settings.output`, which is made if it is not there.

    Raises UserError if it holds completions of other settings, or cannot be written.
    """
    output, identity = settings.output, settings.identity(sets)
    config = output / "config.json"
    if config.exists():
        _check_same(output, _read(config), identity)
    with told_if_unwritable(output):
        output.mkdir(parents=True, exist_ok=True)
        journal = Journal(output / "journal.jsonl")
        if not config.exists():
            with written_whole(config) as file:
                file.write(json.dumps(identity, indent=2) + "\n")
        for one in sets:
            clear_unfinished(_folder(one, sets, settings))
            if one.holdout:
                _write_holdout(output / f"{one.name}.jsonl", one.questions)
    return journal


def _folder(one: ProblemSet, sets: list[ProblemSet], settings: EvalSettings) -> Path:
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


def _write_holdout(path: Path, questions: list[Question]) -> None:
    """As `curate --benchmark` takes it, so that no training set has these problems."""
    with written_whole(path) as file:
        rows = ({"problem": one.problem.text, "answer": one.problem.answer} | one.labels for one in questions)
        file.writelines(map(line, rows))


def _sample(
    sets: list[ProblemSet],
    prompts: dict[str, list[list[int]]],
    context: int,
    settings: EvalSettings,
    journal: Journal,
    listen: Listener,
) -> dict[str, dict]:
    """Make the completions that the journal has not. Returns seconds and tokens by benchmark."""
    missing = {one.name: [] for one in sets}
    for one in sets:
        for problem, ids in enumerate(prompts[one.name]):
            for sample in range(one.sampling.samples):
                if (_key(one, problem), sample) in journal:
                    listen(one.name, Completion(**_record(journal, one, problem, sample)), False)
                else:
                    missing[one.name].append(Request(problem, sample, ids))
    begun, sampler = time.time(), None
    if any(missing.values()):
        sampler = Sampler(settings, context)
    loading = time.time() - begun
    stop = style_of(find_prompt(settings.prompt)).stop
    timing = {}
    for one in sets:
        begun, tokens = time.time(), 0
        if missing[one.name]:
            for request, completion in sampler.complete(missing[one.name], one.sampling, stop):
                journal.append(_key(one, request.problem), request.sample, asdict(completion))
                listen(one.name, completion, True)
                tokens += completion.tokens
        seconds = time.time() - begun
        timing[one.name] = {
            "resumed_with": len(one.questions) * one.sampling.samples - len(missing[one.name]),
            "seconds_loading": round(loading, 3),
            "seconds_sampling": round(seconds, 3),
            "tokens_per_second": round(tokens / seconds, 1) if tokens else None,
        }
    return timing


def _report(problems: ProblemSet, folder: Path, settings: EvalSettings, journal: Journal, timing: dict) -> dict:
    """Grade a benchmark's completions and write them with the figures."""
    begun = time.time()
    pool = GradingPool(settings.rewards)
    try:
        marked = in_order(lambda row: mark(row, pool), _recorded(problems, journal), pool.config.workers + 1)
        tallies = write_completions(folder, marked, settings.parquet)
    finally:
        pool.close()
    told = {
        "benchmark": problems.name,
        "model": settings.model,
        "prompt": settings.prompt,
        "style": settings.rewards.style,
        "seed": settings.seed,
        **{f"sampling_{name}": value for name, value in asdict(problems.sampling).items() if name != "samples"},
        **figures(tallies, settings.seed),
        **timing,
        "seconds_grading": round(time.time() - begun, 3),
    }
    write_summary(folder, told)
    return told


def _recorded(problems: ProblemSet, journal: Journal) -> Iterator[Row]:
    for number, one in enumerate(problems.questions):
        records = [_record(journal, problems, number, sample) for sample in range(problems.sampling.samples)]
        yield Row(
            place=f"{problems.name}, problem {number}",
            problem=one.problem.text,
            gold=one.problem.answer,
            responses=[record["text"] for record in records],
            scores=None,
            tokens=[record["tokens"] for record in records],
            truncated=[record["truncated"] for record in records],
            labels=one.labels,
        )


def _record(journal: Journal, problems: ProblemSet, problem: int, sample: int) -> dict:
    record = journal.read(_key(problems, problem), sample)
    return {name: record[name] for name in ("text", "tokens", "truncated")}


def _key(problems: ProblemSet, problem: int) -> str:
    return f"{problems.name} {problem}"
