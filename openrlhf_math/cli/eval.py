r"""`openrlhf-math eval`: accuracy of a model, tokens per answer, and comparisons with another run."""

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from openrlhf_math.cli.model_flags import add_tool_flags, tool_settings, with_tool
from openrlhf_math.errors import UserError, at_least, in_flags
from openrlhf_math.rewards import RewardConfig
from openrlhf_math.rewards.outcome import Style

if TYPE_CHECKING:
    from openrlhf_math.data.prompts import Tokenizer
    from openrlhf_math.evaluation.problem_sets import ProblemSet
    from openrlhf_math.rerank.scoring_engine import ScorerSettings
    from openrlhf_math.rerank.verdicts import AskedScorerSettings

EPILOG = r"""examples:
  openrlhf-math eval --model Qwen/Qwen2.5-Math-1.5B-Instruct --benchmark math500 --benchmark aime24 --output runs/e
  openrlhf-math eval --model deepseek-ai/DeepSeek-R1-Distill-Qwen-7B --prompt r1 --benchmark aime24 --output runs/r1
  openrlhf-math eval --model MODEL --benchmark problems.jsonl --samples 8 --temperature 0.6 --output runs/mine
  openrlhf-math eval --model MODEL --benchmark math500=math500.parquet --output runs/offline     (no network)
  openrlhf-math eval --model MODEL --benchmark holdout:openai/gsm8k@main --split train --output runs/holdout
  openrlhf-math eval --model MODEL --benchmark math500 --samples 16 --temperature 0.7 --output runs/reranked \
    --scorer qwen2.5-math-prm --scorer-model Qwen/Qwen2.5-Math-PRM-7B
  openrlhf-math eval --model NAME --base-url http://127.0.0.1:8001/v1 --benchmark math500 --output runs/endpoint
  openrlhf-math eval --completions made_elsewhere.jsonl --output runs/scored
  openrlhf-math eval --compare runs/before runs/after

benchmarks (samples and temperature where neither the model nor a flag says
otherwise; where they are on the hub; docs/eval.md has licences and answers):
{benchmarks}
  FILE               JSONL, JSON, CSV or Parquet; a benchmark's own columns are known, others see --problem-key
  NAME=FILE          the same, read and sampled as the benchmark NAME, or called NAME
  owner/name@config  a hub set, see --split
  holdout:SET        --holdout problems drawn from any of these, written to --output for `curate --benchmark`
  pkg.mod.function   your own: without arguments, gives openrlhf_math.data.schema.Row

prompts:
  chat               the model's chat template
  r1                 the same without a system prompt, with <think> opened; answers are after </think>
  plain              the bare problem
  few-shot           after four worked examples
  pkg.mod.function   your own: (tokenizer, messages) to text

After a kill the same command resumes with the completions that exist. --output contains:
  completions.jsonl  every completion with its grade
  summary.json       the figures
  journal.jsonl      completions in order of arrival
  config.json        their settings
  scores.jsonl       their scores in order of arrival
  scores.json        their scorer
  judge.jsonl        the judge's replies in order of arrival
"""


SCORES = "scores.json"
SAMPLING = ("samples", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")
PROTOCOL_HELP = (
    "model: the model's own generation_config.json and context; poster: 5,048 tokens, temperature 0.6, top-p 0.95 "
    "(%(default)s)"
)


def build_parser(prog: str) -> argparse.ArgumentParser:
    from openrlhf_math.cli.model_flags import (
        add_asked_scorer_flags,
        add_endpoint_flags,
        add_engine_count,
        add_engine_flags,
        add_judge_flags,
    )
    from openrlhf_math.evaluation.benchmarks import BENCHMARKS
    from openrlhf_math.evaluation.problem_sets import PROTOCOLS
    from openrlhf_math.rerank.aggregate import AGGREGATIONS
    from openrlhf_math.rerank.confidence import WINDOW
    from openrlhf_math.rerank.scorers import SCORERS
    from openrlhf_math.rerank.verdicts import ASKED

    parser = argparse.ArgumentParser(
        prog=prog,
        description="Sample completions of every problem with vLLM, grade them, and report pass@1, pass@k, maj@k and\n"
        "the tokens of an answer, with 95% intervals. Or score completions made elsewhere, or\n"
        "compare two runs.",
        epilog=EPILOG.replace("{benchmarks}", "\n".join(map(_benchmark_line, BENCHMARKS))),
    )
    add = parser.add_argument
    add("--model", help="directory or hub name, or its name at --base-url")
    add(
        "--benchmark", "--problems", action="append", default=[], metavar="SET",
        help="the problems, see below; may be repeated",
    )  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="directory of the run; give the same one to resume")
    add("--completions", type=Path, metavar="FILE", help="score these instead of sampling; no model is loaded")
    add("--compare", type=Path, nargs=2, metavar="RUN", help="difference of two runs, with interval and p-value")
    add("--json", action="store_true", help="print the figures as JSON instead of tables")
    add("--parquet", action="store_true", help="write the completions as Parquet too")
    add("--seed", type=int, default=0, help="of sampling and the bootstrap (%(default)s)")

    add = parser.add_argument_group("problems").add_argument
    add("--split", default="test", help="of a hub set that is not a known benchmark (%(default)s)")
    add("--problem-key", metavar="COLUMN", help="of the problem, if its name is unusual")
    add("--answer-key", "--gold-key", metavar="COLUMN", help="of the gold answer, likewise")
    add("--response-key", default="response", metavar="COLUMN", help="of --completions (%(default)s)")
    add("--max-problems", type=int, metavar="N", help="only the first N of each benchmark")
    add("--holdout", type=int, default=1000, metavar="N", help="problems of a holdout (%(default)s)")
    add("--holdout-seed", type=int, default=0, metavar="N", help="seed that chooses them (%(default)s)")

    add = parser.add_argument_group("sampling").add_argument
    add("--protocol", choices=PROTOCOLS, default="model", help=PROTOCOL_HELP)
    add("--samples", "--attempts", type=int, metavar="N", help="completions a problem (the benchmark's; 1)")
    add("--max-tokens", type=int, metavar="N", help="token limit of one completion (the context, at most 32768)")
    add("--temperature", type=float, help="0 is greedy (the model's; the benchmark's; 0)")
    add("--top-p", type=float, help="nucleus sampling (the model's; the benchmark's; 1)")
    add("--top-k", type=int, metavar="N", help="only the N most likely tokens, 0 for all (the model's; 0)")
    add("--min-p", type=float, help="least probability relative to the most likely token's (the model's; 0)")
    add("--repetition-penalty", type=float, metavar="R", help="1 for none (the model's; 1)")
    add("--prompt", default="chat", metavar="NAME", help="how problems are presented, see below (%(default)s)")
    add("--no-chat-template", action="store_true", help="the same as --prompt plain")
    add("--input-template", metavar="TEXT", help="with --prompt plain: put around each problem, at {} (nothing)")
    add("--instruction", help="appended to every problem; '' for none (the prompt's)")

    add_tool_flags(parser)

    add = parser.add_argument_group("grading").add_argument
    add("--style", choices=("boxed", "think"), help="where the answer is, what correct format is (the prompt's; boxed)")
    add("--timeout", type=float, default=RewardConfig().timeout_seconds, help="seconds an answer (%(default)s)")
    add("--workers", type=int, default=RewardConfig().workers, help="grading processes (%(default)s)")

    add = parser.add_argument_group("choosing among a problem's completions").add_argument
    add("--scorer-model", metavar="MODEL", help="scores them when all are made, for weighted@k and best-of-k")
    add(
        "--scorer", metavar="KIND",
        help=f"kind of the scorer: {', '.join(SCORERS)}, or your own as package.module.Class; "
        f"{' or '.join(ASKED)}: asked at an endpoint",
    )  # fmt: skip
    add("--separator", metavar="TEXT", help="what separates steps (the scorer's own); \\n is understood")
    add_asked_scorer_flags(add)
    add("--aggregate", default="last", metavar="NAME", help=f"of step scores: {', '.join(AGGREGATIONS)} (%(default)s)")

    add(
        "--record-confidence", action="store_true",
        help="measure the model's confidence in each completion, for the rule `confident` of `vote`",
    )  # fmt: skip
    add("--confidence-window", type=int, default=WINDOW, metavar="N", help="tokens of a window (%(default)s)")

    add = parser.add_argument_group("engine").add_argument
    add("--max-context", type=int, metavar="N", help="tokens of prompt and completion (what the problems need)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the engine runs (%(default)s)")
    add("--tensor-parallel", type=int, default=1, metavar="N", help="devices it is spread over (%(default)s)")
    add_engine_count(add)
    add("--scorers", type=int, default=1, metavar="N", help="engines that score, each on its own devices")
    add("--scorer-tensor-parallel", type=int, default=1, metavar="N", help="devices one is spread over (%(default)s)")
    add_engine_flags(parser)
    add_judge_flags(parser, "where the grader cannot decide, or the gold answer is in words")
    add_endpoint_flags(parser)
    return parser


def _benchmark_line(name: str) -> str:
    from openrlhf_math.evaluation.benchmarks import BENCHMARKS, sampling_of, source_of

    rows = BENCHMARKS[name]
    sampling, source = sampling_of(rows), source_of(rows)
    numbers = f"{sampling.samples:>2}, {sampling.temperature or 'greedy'}"
    place = f"{source.hub}, {source.split}" if source else ""
    return f"  {name:<15} {numbers:<10} {place}".rstrip()


def run(args: argparse.Namespace) -> None:
    from openrlhf_math.data import chat_date
    from openrlhf_math.evaluation import tables

    at_least(0, args, "seed")
    at_least(1, args, "max_problems", "max_context", "tensor_parallel", "scorers", "scorer_tensor_parallel")
    at_least(1, args, "confidence_window")
    if args.engines < 0:
        raise UserError(
            f"--engines {args.engines}: give 0 for one engine in this process, or 1 and more for Ray actors"
        )
    if args.engines and (args.base_url or args.completions):
        other = "--base-url" if args.base_url else "--completions"
        raise UserError(f"--engines {args.engines}: with {other} no engine samples here; leave one of the two out")
    if args.compare:
        from openrlhf_math.evaluation.compare import compare_runs

        before, after = args.compare
        summary = compare_runs(before, after, args.seed)
        plain = {name: {what: asdict(one) for what, one in found.items()} for name, found in summary.items()}
        print(json.dumps(plain, indent=2)) if args.json else tables.show_comparison(summary, before, after)
        return
    if args.parquet and importlib.util.find_spec("pyarrow") is None:
        raise UserError("--parquet needs pyarrow; install it, or leave --parquet out")
    if not args.output:
        raise UserError("--output is missing: name a directory for the results")
    chat_date.settle_for(args.chat_date, args.output, args.output / "config.json", args.output / SCORES)
    summary = _score(args) if args.completions else _sample(args)
    print(json.dumps(summary, indent=2)) if args.json else tables.show(summary, args.output)


def _score(args: argparse.Namespace) -> dict[str, dict]:
    from openrlhf_math.cli.model_flags import judge_settings
    from openrlhf_math.data.chat_date import checked_date
    from openrlhf_math.data.tables import Keys
    from openrlhf_math.evaluation.evaluate import score
    from openrlhf_math.evaluation.outside import read_completions

    if tool_settings(args):
        raise UserError("--tool python: --completions are not sampled; leave one of the two out")
    for flag, value in (("--model", args.model), ("--benchmark", args.benchmark), ("--base-url", args.base_url)):
        if value:
            raise UserError(f"{flag}: --completions are not sampled; leave one of the two out")
    _check_free(args.output)
    rewards = _rewards(args, args.style or "boxed")
    scorer, judge = _scorer(args), judge_settings(args)
    if args.chat_date or (args.output / SCORES).exists():
        checked_date(args.chat_date, args.scorer_model or str(args.completions), *_scorers_tokenizers(scorer))
    keys = Keys(args.answer_key or "gold", args.response_key, args.problem_key or "problem")
    rows = read_completions(args.completions, keys)[: args.max_problems]
    with _bar("problems graded", len(rows)) as advance:
        name = args.completions.stem
        summary = score(
            rows, name, args.output, rewards, args.seed, args.parquet, lambda: advance(), scorer, args.aggregate, judge
        )
        return {name: summary}


def _sample(args: argparse.Namespace) -> dict[str, dict]:
    from openrlhf_math.cli.model_flags import (
        check_date_used,
        check_temperature,
        check_template_variables,
        drawn,
        endpoint_model,
        engine_args,
        judge_settings,
    )
    from openrlhf_math.colocation.layout import enter_environment, find_device
    from openrlhf_math.data import chat_date
    from openrlhf_math.data.prompts import check_template
    from openrlhf_math.data.sources import Columns
    from openrlhf_math.evaluation.problem_sets import Reading, read_sets, recommended, sampled
    from openrlhf_math.evaluation.prompts import find_prompt, style_of
    from openrlhf_math.evaluation.settings import EvalSettings
    from openrlhf_math.modeling.model_folder import check_model, count_parameters, load_tokenizer
    from openrlhf_math.modeling.model_kind import check_positions
    from openrlhf_math.rerank.confidence import Watch

    for flag, value in (("--model", args.model), ("--benchmark", args.benchmark)):
        if not value:
            raise UserError(f"{flag} is missing; `openrlhf-math eval --help` has examples")
    prompt = "plain" if args.no_chat_template else args.prompt
    style = style_of(find_prompt(prompt))
    check_template("--input-template", args.input_template, style.chat_template)
    if args.base_url and prompt != "chat":
        raise UserError(f"--prompt {prompt}: the endpoint of --base-url writes prompts itself; choose --prompt chat")
    if args.base_url and args.max_context:
        raise UserError(f"--max-context {args.max_context}: the endpoint of --base-url has its own; leave it out")
    if args.input_template and prompt != "plain":
        raise UserError(f"--input-template goes with --prompt plain, not with {prompt}; leave one of the two out")
    check_date_used(args)
    tool = tool_settings(args)
    if tool and args.base_url:
        raise UserError("--tool python: eval runs code for its own engine only; leave --tool or --base-url out")
    if tool and tool.form == "template" and prompt != "chat":
        raise UserError(f"--tool-form template goes with --prompt chat, not with {prompt}; choose --tool-form block")
    instruction = style.instruction if args.instruction is None else args.instruction
    settings = EvalSettings(
        model=args.model,
        output=args.output,
        seed=args.seed,
        prompt=prompt,
        instruction=with_tool(instruction, tool),
        device=find_device() if args.device == "auto" else args.device,
        tensor_parallel=args.tensor_parallel,
        engines=args.engines,
        max_context=args.max_context,
        parquet=args.parquet,
        rewards=_rewards(args, args.style or style.answers),
        scorer=_scorer(args),
        aggregation=args.aggregate,
        input_template=args.input_template,
        endpoint=endpoint_model(args),
        judge=judge_settings(args),
        engine_args=engine_args(args),
        drawn=drawn(args),
        tool=tool,
        watch=Watch(window=args.confidence_window) if args.record_confidence else None,
    )
    if not (args.output / "config.json").exists():
        _check_free(args.output)
    if not args.base_url:
        check_temperature(args.temperature)
        check_model("--model", args.model)
        if args.max_context:
            check_positions("--model", args.model, f"--max-context {args.max_context}", args.max_context)
    if (args.chat_template_kwargs or args.reasoning_effort) and not style.chat_template:
        raise UserError(f"--chat-template-kwargs and --reasoning-effort: --prompt {prompt} has no chat template")
    columns = Columns(problem=args.problem_key, answer=args.answer_key)
    reading = Reading(args.split, columns, args.max_problems, args.holdout, args.holdout_seed)
    sets = read_sets(args.benchmark, reading)
    recommends = recommended(args.protocol, None if args.base_url else args.model)
    flags = {name: value for name in SAMPLING if (value := getattr(args, name)) is not None}
    sets = [sampled(one, recommends, flags) for one in sets]
    if not args.base_url:
        enter_environment(settings.device, count_parameters(settings.model))  # before torch is imported
    dated = args.chat_date or (args.output / SCORES).exists()
    tokenizers = _scorers_tokenizers(settings.scorer) if dated else []
    if style.chat_template and not args.base_url:
        tokenizer = load_tokenizer("--model", args.model, True, "choose --prompt plain or few-shot")
        check_template_variables(args, tokenizer)
        settings = replace(settings, chat_date=chat_date.checked_date(None, args.model, tokenizer))
        tokenizers.insert(0, tokenizer)
    chat_date.checked_date(args.chat_date, args.model, *tokenizers)
    from openrlhf_math.evaluation.evaluate import evaluate

    if settings.chat_date:
        print(chat_date.line(settings.chat_date), file=sys.stderr, flush=True)
    total = sum(len(one.questions) * one.sampling.samples for one in sets)
    with _bar("completions", total) as advance:
        return evaluate(sets, settings, lambda name, tokens, new: advance(tokens * new, name), _announce)


def _announce(problems: "ProblemSet") -> None:
    """One line on standard error: what will be sampled."""
    left_out = f" ({problems.left_out} rows without a valid answer left out)" if problems.left_out else ""
    asked = f"{problems.name}: {len(problems.questions)} problems{left_out}, {problems.sampling.words()}"
    print(asked, file=sys.stderr, flush=True)


def _scorer(args: argparse.Namespace) -> "ScorerSettings | AskedScorerSettings | None":
    """Of the scorer, None without one. Raises UserError for a flag that cannot work."""
    from openrlhf_math.cli.rerank_flags import scorer_settings
    from openrlhf_math.colocation.layout import find_device
    from openrlhf_math.rerank.aggregate import find_aggregation

    find_aggregation(args.aggregate)
    return scorer_settings(args, find_device() if args.device == "auto" else args.device)


def _scorers_tokenizers(scorer: "ScorerSettings | AskedScorerSettings | None") -> "list[Tokenizer]":
    """Of a scorer that runs here."""
    from openrlhf_math.modeling.model_folder import load_tokenizer
    from openrlhf_math.rerank.scoring_engine import FLAG, ScorerSettings

    return [load_tokenizer(FLAG, scorer.model, False, "")] if isinstance(scorer, ScorerSettings) else []


def _check_free(output: Path) -> None:
    if (output / "summary.json").exists():
        raise UserError(f"--output {output} holds another evaluation; choose a new directory or remove it")


def _rewards(args: argparse.Namespace, style: Style) -> RewardConfig:
    with in_flags(timeout_seconds="--timeout"):
        return RewardConfig(style=style, timeout_seconds=args.timeout, workers=args.workers)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable]:
    """A progress bar on standard error. Yields a function to call after each one."""
    import time

    from openrlhf_math.runs.progress import terminal_bar

    begun, made = time.monotonic(), 0
    with terminal_bar() as bar:
        task = bar.add_task(what, total=total)

        def advance(tokens: int = 0, name: str = "") -> None:
            nonlocal made
            made += tokens
            rate = f", {made / (time.monotonic() - begun):.0f} tokens/s" if made else ""
            bar.update(task, advance=1, description=f"{name or what}{rate}")

        yield advance
