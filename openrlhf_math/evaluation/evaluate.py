"""One evaluation: prompts, completions (a model's, or made elsewhere), grades and files; and the timing of a model."""

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openrlhf_math.data.prompts import Messages, chat, chat_text, fill, prompt_ids, with_variables
from openrlhf_math.evaluation.figures import all_marked, figures, judging, rules_of
from openrlhf_math.evaluation.problem_sets import ProblemSet
from openrlhf_math.evaluation.prompts import find_prompt, style_of
from openrlhf_math.evaluation.recorded import Row
from openrlhf_math.evaluation.results import folder_of, journal_of, key_of, record_of, write_completions, write_summary
from openrlhf_math.evaluation.sampler import EndpointCompletions, Request, Sampler, context_needed, fitted, limit_of
from openrlhf_math.evaluation.scoring import ScoreJournal, choosing
from openrlhf_math.evaluation.settings import EvalSettings
from openrlhf_math.modeling.model_folder import load_tokenizer
from openrlhf_math.modeling.model_kind import check_engine, check_tokens
from openrlhf_math.rerank.aggregate import find_aggregation
from openrlhf_math.rerank.answer_judge import AnswerJudge, JudgeSettings
from openrlhf_math.rerank.roles import Sampling as TemplateSampling
from openrlhf_math.rerank.scoring_engine import ScorerSettings, kind_and_arguments
from openrlhf_math.rerank.verdicts import AskedScorerSettings
from openrlhf_math.rewards import GradingPool, RewardConfig
from openrlhf_math.runs.journal import Journal, refused_if_unwritable
from openrlhf_math.tools.turns import TemplateTurns

if TYPE_CHECKING:
    from openrlhf_math.evaluation.engines import Engines

# Called with the benchmark, the tokens of every completion, and whether it is new or from the journal.
Listener = Callable[[str, int, bool], None]


def evaluate(
    sets: list[ProblemSet],
    settings: EvalSettings,
    listen: Listener,
    announce: Callable[[ProblemSet], None] = lambda one: None,
) -> dict[str, dict]:
    """Sample what is missing and grade all. Returns the figures by benchmark, which are also written.

    announce: gets every set before the engine starts, with the token limit that fits the model.
    Raises UserError if the model cannot serve the prompts, or the output holds completions of other settings.
    """
    context = 0
    prompts: dict[str, list[list]] = {}
    if settings.endpoint:
        prompts |= {one.name: asked(one, settings) for one in sets}
    else:
        ids = {one.name: tokenized(one, settings) for one in sets}
        check_engine("--model", settings.model, settings.device)
        sets = [replace(one, sampling=fitted(one.sampling, ids[one.name], settings)) for one in sets]
        context = context_needed({one.name: (ids[one.name], limit_of(one.sampling)) for one in sets}, settings)
        prompts |= ids
    if isinstance(settings.scorer, ScorerSettings):
        kind_and_arguments(settings.scorer)  # or a wrong one would be refused only after all sampling
    journal = journal_of(sets, settings)
    scores = None
    try:
        for one in sets:
            announce(one)
        scores = ScoreJournal(settings.output, settings.scorer) if settings.scorer else None
        timing = _sample(sets, prompts, context, settings, journal, listen)
        if scores:
            seconds = scores.make(lambda: (keyed for one in sets for keyed in _keyed(one, journal)))
            timing = {name: times | {"seconds_scoring": seconds} for name, times in timing.items()}
        summary = {}
        with (
            refused_if_unwritable(settings.output),
            judging(settings.judge, settings.rewards, settings.output) as judge,
        ):
            for one in sets:
                rows = _recorded(one, journal, scores, settings.watch is not None)
                summary[one.name] = _report(
                    one, folder_of(one, sets, settings), settings, rows, timing[one.name], judge
                )
            if len(sets) > 1:
                write_summary(settings.output, {"model": settings.model, "benchmarks": summary})
    finally:
        journal.close()
        if scores:
            scores.close()
    return summary


def asked(problems: ProblemSet, settings: EvalSettings) -> list[Messages]:
    """The messages of every problem, for an endpoint, whose chat template makes a prompt of them."""
    return [chat(one.problem, settings.instruction) for one in problems.questions]


def tokenized(problems: ProblemSet, settings: EvalSettings) -> list[list[int]]:
    """The tokenized prompts. Raises UserError if the tokenizer cannot be read or lacks a chat template."""
    write = find_prompt(settings.prompt)
    style = style_of(write)
    tokenizer = load_tokenizer("--model", settings.model, style.chat_template, "choose --prompt plain or few-shot")
    with_variables(tokenizer, TemplateSampling(**settings.drawn).template_variables)
    if settings.tool and settings.tool.form == "template":
        write = partial(chat_text, tools=TemplateTurns.tools)
    texts = [write(tokenizer, chat(one.problem, settings.instruction)) for one in problems.questions]
    texts = [fill(settings.input_template, text) for text in texts]
    ids = prompt_ids(tokenizer, texts, style.chat_template)
    where = (f"{problems.name} row {one.problem.row}" for one in problems.questions)
    check_tokens("--model", settings.model, tokenizer, zip(where, ids, strict=True))
    return ids


def _sample(
    sets: list[ProblemSet],
    prompts: dict[str, list[list]],
    context: int,
    settings: EvalSettings,
    journal: Journal,
    listen: Listener,
) -> dict[str, dict]:
    """Make the completions that the journal has not. Returns what it took, by benchmark."""
    missing = {one.name: _missing(one, prompts[one.name], journal, listen) for one in sets}
    begun = time.time()
    with contextlib.ExitStack() as stack:
        sampler = _sampler(settings, context, stack) if any(missing.values()) else None
        loading = time.time() - begun
        stop = style_of(find_prompt(settings.prompt)).stop
        timing = {}
        for one in sets:
            begun, tokens = time.time(), 0
            if sampler and missing[one.name]:
                for request, completion in sampler.complete(missing[one.name], one.sampling, stop):
                    journal.append(key_of(one, request.problem), request.sample, record_of(completion))
                    listen(one.name, completion.tokens, True)
                    tokens += completion.tokens
            seconds = time.time() - begun
            timing[one.name] = {
                "resumed_with": len(one.questions) * one.sampling.samples - len(missing[one.name]),
                "seconds_loading": round(loading, 3),
                "seconds_sampling": round(seconds, 3),
                "tokens_per_second": round(tokens / seconds, 1) if tokens else None,
            }
        return timing


def _sampler(
    settings: EvalSettings, context: int, stack: contextlib.ExitStack
) -> "Sampler | EndpointCompletions | Engines":
    """stack: closing it ends the engines that are separate processes."""
    if settings.endpoint:
        return EndpointCompletions(settings.endpoint, settings.seed, {**settings.drawn, "watch": settings.watch})
    if settings.engines:
        from openrlhf_math.evaluation.engines import Engines  # and Ray

        return Engines(settings, context, stack)
    return Sampler(settings, context)


def _missing(problems: ProblemSet, prompts: list[list], journal: Journal, listen: Listener) -> list[Request]:
    """What is still to be made; `listen` gets what is there."""
    requests = []
    for number, prompt in enumerate(prompts):
        for sample in range(problems.sampling.samples):
            if (key_of(problems, number), sample) in journal:
                listen(problems.name, journal.read(key_of(problems, number), sample)["tokens"], False)
            else:
                requests.append(Request(number, sample, prompt))
    return requests


def _report(
    problems: ProblemSet,
    folder: Path,
    settings: EvalSettings,
    rows: Iterable[Row],
    timing: dict,
    judge: AnswerJudge | None,
) -> dict:
    """Grade a benchmark's completions and write them with the figures."""
    begun = time.time()
    uses: Counter[str] = Counter()

    def counted() -> Iterator[Row]:
        for row in rows:
            for use in row.tool or ():
                uses.update(use)
            yield row

    with contextlib.closing(GradingPool(settings.rewards)) as pool:
        tallies = write_completions(folder, all_marked(counted(), pool, judge), settings.parquet)
    summary = {
        "benchmark": problems.name,
        "model": settings.model,
        "prompt": settings.prompt,
        "style": settings.rewards.style,
        "seed": settings.seed,
        "left_out": problems.left_out,
        **{f"sampling_{name}": value for name, value in asdict(problems.sampling).items() if name != "samples"},
        **choosing(settings.scorer, settings.aggregation),
        **(judge.figures(sum(len(one.judged.correct) for one in tallies)) if judge else {}),
        **{name: round(total, 3) for name, total in uses.items()},
        **figures(tallies, settings.seed, rules_of(tallies, find_aggregation(settings.aggregation))),
        **timing,
        "seconds_grading": round(time.time() - begun, 3),
    }
    write_summary(folder, summary)
    return summary


def _recorded(problems: ProblemSet, journal: Journal, scores: ScoreJournal | None, measured: bool) -> Iterator[Row]:
    """measured: whether the completions have the model's confidence."""
    for key, row in _keyed(problems, journal, measured):
        yield replace(row, scores=scores.of(key, row)) if scores else row


def _known(values: list[dict[str, float] | None]) -> list[dict[str, float]] | None:
    known = [value for value in values if value]
    return known if len(known) == len(values) else None


def _keyed(problems: ProblemSet, journal: Journal, measured: bool = False) -> Iterator[tuple[str, Row]]:
    for number, one in enumerate(problems.questions):
        key = key_of(problems, number)
        made = [journal.read(key, sample) for sample in range(problems.sampling.samples)]
        yield (
            key,
            Row(
                place=f"{problems.name}, problem {number}",
                problem=one.problem.text,
                gold=one.problem.answer,
                responses=[completion["text"] for completion in made],
                scores=None,
                tokens=[completion["tokens"] for completion in made],
                truncated=[completion["truncated"] for completion in made],
                labels=one.labels,
                tool=_known([completion.get("tool") for completion in made]),
                confidence=[completion.get("confidence") for completion in made] if measured else None,
            ),
        )


def score(
    rows: list[Row],
    name: str,
    output: Path,
    rewards: RewardConfig,
    seed: int,
    parquet: bool,
    advance: Callable[[], None],
    scorer: ScorerSettings | AskedScorerSettings | None = None,
    aggregation: str = "last",
    judge: JudgeSettings | None = None,
) -> dict:
    """Grade and write, and score before if there is a `scorer`. Returns the figures; `advance` is called after each
    problem. aggregation: of step scores, these or those that the rows have. judge: see `rerank.answer_judge`."""
    if scorer:
        rows = _scored(rows, name, output, scorer)
    begun = time.time()

    def marked(pool: GradingPool, asked: "AnswerJudge | None") -> Iterator[Any]:
        for one in all_marked(rows, pool, asked):
            advance()
            yield one

    with (
        contextlib.closing(GradingPool(rewards)) as pool,
        refused_if_unwritable(output),
        judging(judge, rewards, output) as asked,
    ):
        tallies = write_completions(output, marked(pool, asked), parquet)
        rules = rules_of(tallies, find_aggregation(aggregation))
        summary = {"benchmark": name, "style": rewards.style, "seed": seed, **choosing(scorer, aggregation)}
        summary |= asked.figures(sum(len(one.judged.correct) for one in tallies)) if asked else {}
        summary |= figures(tallies, seed, rules)
        summary["seconds_grading"] = round(time.time() - begun, 3)
        write_summary(output, summary)
    return summary


def _scored(rows: list[Row], name: str, output: Path, scorer: ScorerSettings | AskedScorerSettings) -> list[Row]:
    """The rows with the scorer's scores in place of those they may have."""
    keyed = [(f"{name} {number}", row) for number, row in enumerate(rows)]
    digest = hashlib.sha256()
    for _, row in keyed:
        digest.update(repr((row.problem, row.responses)).encode("utf-8", "backslashreplace"))
    with contextlib.closing(ScoreJournal(output, scorer, digest.hexdigest()[:16])) as scores:
        scores.make(lambda: keyed)
        return [replace(row, scores=scores.of(key, row)) for key, row in keyed]


WARM_UP = 32  # completions made before the clock runs: the first ones compile and allocate


def time_completions(problems: ProblemSet, settings: EvalSettings) -> dict:
    """Generate all completions once. Returns completions, tokens, and seconds.

    They are those that `evaluate` would grade: the same prompts, seeds and limits. Starting the engine, reading
    prompts, writing and grading are not in the seconds. Raises UserError if the model cannot serve the prompts.
    """
    prompts = tokenized(problems, settings)
    problems = replace(problems, sampling=fitted(problems.sampling, prompts, settings))
    context = context_needed({problems.name: (prompts, limit_of(problems.sampling))}, settings)
    sampler = Sampler(settings, context)
    stop = style_of(find_prompt(settings.prompt)).stop
    requests = [
        Request(number, sample, ids)
        for number, ids in enumerate(prompts)
        for sample in range(problems.sampling.samples)
    ]
    for _ in sampler.complete(requests[:WARM_UP], problems.sampling, stop):
        pass
    begun = time.perf_counter()
    tokens = sum(completion.tokens for _, completion in sampler.complete(requests, problems.sampling, stop))
    seconds = time.perf_counter() - begun
    return {"model": settings.model, "completions": len(requests), "tokens": tokens, "seconds": round(seconds, 4)}
