"""Flags that `solve` and `serve` share: the models, the strategy, the choosing rule and the budget."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from openrlhf_math.cli.model_flags import (
    add_asked_scorer_flags,
    add_endpoint_flags,
    add_engine_flags,
    add_tool_flags,
    asked_scorer,
    check_date_used,
    check_temperature,
    check_template_variables,
    drawn,
    endpoint_model,
    engine_args,
    tool_settings,
    with_tool,
)
from openrlhf_math.cli.parsing import accept_former_flags
from openrlhf_math.errors import UserError, at_least, brief, in_flags
from openrlhf_math.rerank.agents import AGENTS, find_agents, panel
from openrlhf_math.rerank.aggregate import AGGREGATIONS, Aggregation, find_aggregation
from openrlhf_math.rerank.budget import Limits
from openrlhf_math.rerank.choose import RULES, Rule, find_rule, needs_confidence, needs_scores
from openrlhf_math.rerank.confidence import MEASURES, WINDOW, ByConfidence
from openrlhf_math.rerank.early_stop import Stop, cannot_lose, confident, never
from openrlhf_math.rerank.genselect import GenSelect
from openrlhf_math.rerank.roles import Sampling
from openrlhf_math.rerank.scorers import SCORERS, find_scorer
from openrlhf_math.rerank.solver import MAX_CONCURRENCY, Method, Turns, one_solver
from openrlhf_math.rerank.steps import BLANK_LINE
from openrlhf_math.rerank.strategies import STRATEGIES, find_strategy, refined
from openrlhf_math.rerank.task import Strategy
from openrlhf_math.rerank.tree_search import Steps
from openrlhf_math.rerank.verdicts import ASKED, MOST_VOTES, AskedScorerSettings
from openrlhf_math.rewards import RewardConfig

if TYPE_CHECKING:
    from openrlhf_math.rerank.reranker import RerankerSettings
    from openrlhf_math.rerank.scoring_engine import ScorerSettings

MOST_ATTEMPTS = 100_000  # at one problem
NO_STRATEGY = "it is not a function that takes the steps and returns a strategy"

AT_LEAST_ONE = (
    "attempts", "attempt_concurrency", "max_tokens", "tokens", "problem_concurrency", "samplers", "scorers",
    "tensor_parallel", "scorer_tensor_parallel", "max_context", "workers", "width", "depth", "step_tokens",
    "confidence_window", "select_votes",
)  # fmt: skip


def add_rerank_flags(parser: argparse.ArgumentParser, seconds: float, key_flag: str = "--api-key-env") -> None:
    """seconds: the default of --seconds; nothing waits for ever. key_flag: names the key of --base-url."""
    from openrlhf_math.data.prompts import INSTRUCTION

    add = parser.add_argument_group("models").add_argument
    add(
        "--model", required=True, metavar="MODEL",
        help="generates the attempts: directory, hub name, or its name at --base-url",
    )  # fmt: skip
    add("--scorer-model", metavar="MODEL", help="judges them; without a scorer the rule is majority or confident")
    add(
        "--scorer",
        metavar="KIND",
        help=f"what the scorer is: {', '.join(SCORERS)}, or your own as package.module.Class; "
        f"{' or '.join(ASKED)}: asked at an endpoint",
    )
    add("--separator", metavar="TEXT", help="what separates steps (the scorer's own); \\n is understood")
    add_asked_scorer_flags(add)
    add_endpoint_flags(parser, key_flag)

    add = parser.add_argument_group("attempts").add_argument
    add(
        "--attempts",
        "--samples",
        type=int,
        default=8,
        metavar="N",
        help="maximum attempts at a problem (%(default)s)",
    )
    add(
        "--attempt-concurrency",
        type=int,
        metavar="N",
        help="attempts at a problem under way at once (as many as could settle the vote)",
    )
    add("--temperature", type=float, default=0.7, help="of sampling (%(default)s)")
    add("--top-p", type=float, default=1.0, help="nucleus sampling (%(default)s)")
    add("--max-tokens", type=int, default=2048, metavar="N", help="token limit of one attempt (%(default)s)")
    add("--seed", type=int, help="the seed of each attempt is derived from it (a new one each time)")
    add("--instruction", default=INSTRUCTION, help="appended to every problem; '' for none ('%(default)s')")
    add("--style", choices=("boxed", "think"), default="boxed", help="where the answer is (%(default)s)")

    add("--agents", default="one", metavar="SET", help=f"solvers: {', '.join(AGENTS)}, or a JSON file of agents")
    add(
        "--strategy", default="independent", metavar="NAME",
        help=f"how: {', '.join(STRATEGIES)}, or your own as package.module.function (%(default)s)",
    )  # fmt: skip
    add("--refine", type=int, default=0, metavar="N", help="passes of critique and rewrite over the best (%(default)s)")
    default = Steps()
    add("--width", type=int, default=default.width, metavar="N", help="beam, dvts: tries of each step (%(default)s)")
    add(
        "--depth",
        type=int,
        default=default.depth,
        metavar="N",
        help="beam, dvts: maximum number of steps (%(default)s)",
    )
    add(
        "--step-tokens",
        type=int,
        default=default.step_tokens,
        metavar="N",
        help="beam, dvts: tokens of a step (%(default)s)",
    )

    add_tool_flags(parser)

    add = parser.add_argument_group("choosing").add_argument
    add(
        "--rule", metavar="NAME",
        help=f"{', '.join(RULES)}, or your own as package.module.function (weighted with a scorer, else majority)",
    )  # fmt: skip
    add(
        "--select-votes",
        type=int,
        default=GenSelect().votes,
        metavar="N",
        help="genselect: choices asked for (%(default)s)",
    )
    add(
        "--select-group",
        type=int,
        default=GenSelect().group,
        metavar="N",
        help="genselect: answers read together (%(default)s)",
    )
    add("--aggregate", default="last", metavar="NAME", help=f"of step scores: {', '.join(AGGREGATIONS)} (%(default)s)")
    add(
        "--confidence", type=float, metavar="P",
        help="stop when the leading answer stays the leader of all attempts with this probability (not the probability "
        "that it is right); 1: only when it cannot lose (1)",
    )  # fmt: skip
    add(
        "--keep-confident", type=float, default=1.0, metavar="P",
        help="only this share of the attempts with an answer votes, those in which the model was most confident; "
        "with any rule (%(default).0f)",
    )  # fmt: skip
    add(
        "--confidence-measure", choices=list(MEASURES), default="tail",
        help="confidence for --rule confident and --keep-confident: of the last tokens (tail), "
        "the least confident stretch (lowest), the lowest tenth (bottom), all (mean), or the likelihood of the last "
        "tokens (%(default)s)",
    )  # fmt: skip
    add("--confidence-window", type=int, default=WINDOW, metavar="N", help="tokens of a stretch (%(default)s)")
    add(
        "--abort-unsure", type=int, default=0, metavar="N",
        help="set a threshold of confidence over --confidence-window tokens from the first N attempts at a problem, "
        "which the share --keep-confident of them passes; later attempts that fall below are ended (0: off)",
    )  # fmt: skip
    add("--record-confidence", action="store_true", help="measure the confidence even if no flag needs it, for `vote`")
    add("--no-early-stop", action="store_true", help="make all attempts")

    add = parser.add_argument_group("budget").add_argument
    add(
        "--seconds", type=float, default=seconds, metavar="S",
        help="for one problem; then the best answer so far is given (%(default).0f)",
    )  # fmt: skip
    add("--tokens", type=int, metavar="N", help="of all attempts at one problem; no attempt starts beyond this")
    add("--problem-concurrency", type=int, default=4, metavar="N", help="problems under way at once (%(default)s)")

    add = parser.add_argument_group("engines").add_argument
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where they run (%(default)s)")
    add("--samplers", type=int, default=1, metavar="N", help="engines that generate, each on its own devices")
    add("--scorers", type=int, default=1, metavar="N", help="engines that judge, each on its own devices")
    add("--tensor-parallel", type=int, default=1, metavar="N", help="devices a sampler is spread over (%(default)s)")
    add("--scorer-tensor-parallel", type=int, default=1, metavar="N", help="the same for a scorer (%(default)s)")
    add("--max-context", type=int, metavar="N", help="tokens of problem and attempt together (the model's)")
    add("--share-device", action="store_true", help="one sampler and one scorer take turns on one GPU")
    add("--timeout", type=float, default=2.0, metavar="S", help="for comparing two answers (%(default)s)")
    add("--workers", type=int, default=RewardConfig().workers, metavar="N", help="processes that compare (%(default)s)")
    add_engine_flags(parser)
    accept_former_flags(parser, {"--at-once": "attempt_concurrency", "--problems-at-once": "problem_concurrency"})


def method(args: argparse.Namespace) -> Method:
    """Raises UserError for a flag that cannot work."""
    _check_numbers(args)
    rule = args.rule or ("weighted" if args.scorer_model else "majority")
    found = find_rule(rule)
    if needs_scores(found):
        _need_scorer(args, f"--rule {rule}", "choose --rule majority")
    aggregation = find_aggregation(args.aggregate)
    by = _by_confidence(args, found)
    return Method(
        turns=_turns(args),
        strategy=_strategy(args, aggregation),
        rule=found,
        aggregation=aggregation,
        stop=_stop(args),
        max_concurrency=args.attempt_concurrency,
        style=args.style,
        confidence=by,
        select=GenSelect(args.select_votes, args.select_group),
    )


def _by_confidence(args: argparse.Namespace, rule: Rule) -> ByConfidence:
    """Raises UserError if a flag needs the model's confidence and it is not measured."""
    if not 0 < args.keep_confident <= 1:
        raise UserError(f"--keep-confident {args.keep_confident}: give more than 0 and at most 1")
    asked = {
        f"--rule {args.rule}": needs_confidence(rule),
        f"--keep-confident {args.keep_confident:g}": args.keep_confident < 1,
        f"--abort-unsure {args.abort_unsure}": args.abort_unsure > 0,
        "--record-confidence": args.record_confidence,
    }
    flag = next((flag for flag, wanted in asked.items() if wanted), None)
    if flag and (why := why_unmeasured(args)):
        raise UserError(f"{flag}: {why}; leave one of the two out")
    for other, given in (("--tool", args.tool), ("--base-url", args.base_url)):
        if args.abort_unsure and given:
            raise UserError(
                f"--abort-unsure {args.abort_unsure}: an attempt with {other} is not ended so; leave one of the two out"
            )
    if args.abort_unsure and args.abort_unsure >= args.attempts:
        raise UserError(
            f"--abort-unsure {args.abort_unsure}: give less than --attempts {args.attempts}, or none is ended"
        )
    return ByConfidence(
        args.confidence_measure,
        args.keep_confident,
        args.confidence_window,
        args.abort_unsure,
        record=args.record_confidence,
    )


def why_unmeasured(args: argparse.Namespace) -> str:
    """Why the model's confidence in an attempt cannot be measured, a sentence; "" if it can."""
    if args.strategy in ("beam", "dvts"):
        return f"--strategy {args.strategy} writes in pieces, whose confidence is not measured"
    if args.base_url and args.tool:
        return "with --tool the confidence of a model behind --base-url is not measured"
    return ""


def _need_scorer(args: argparse.Namespace, flag: str, fix: str) -> None:
    if not args.scorer_model:
        raise UserError(f"{flag} needs scores; add --scorer and --scorer-model, or {fix}")


def _turns(args: argparse.Namespace) -> Turns:
    sampling = Sampling(
        temperature=args.temperature, top_p=args.top_p, max_tokens=args.max_tokens, seed=args.seed, **drawn(args)
    )
    instruction = with_tool(args.instruction, tool_settings(args))
    if args.agents == "one":
        return one_solver(instruction, sampling)
    return panel(find_agents(args.agents), instruction, sampling)


def _strategy(args: argparse.Namespace, aggregation: Aggregation) -> Strategy:
    steps = Steps(
        width=args.width,
        depth=args.depth,
        step_tokens=args.step_tokens,
        separator=_separator(args) or BLANK_LINE,
        aggregation=aggregation,
    )
    strategy = _of_steps(args.strategy, steps)
    if args.strategy in ("beam", "dvts") and args.base_url:
        raise UserError(
            f"--strategy {args.strategy}: it continues what was begun, which --base-url cannot; leave it out"
        )
    if args.strategy in ("beam", "dvts") and args.tool:
        raise UserError(
            f"--strategy {args.strategy}: it cuts attempts into steps, and code has to run within one of them; leave "
            "out --strategy or --tool"
        )
    if args.strategy != "independent":
        _need_scorer(args, f"--strategy {args.strategy}", "leave it out")
    if args.refine:
        _need_scorer(args, f"--refine {args.refine}", "leave it out")
        strategy = refined(strategy, args.refine, aggregation)
    return strategy


def _separator(args: argparse.Namespace) -> str | None:
    return args.separator and args.separator.replace("\\n", "\n")


def limits(args: argparse.Namespace) -> Limits:
    """Of one problem."""
    return Limits(tokens=args.tokens, attempts=args.attempts, seconds=args.seconds)


def settings(args: argparse.Namespace, key_flag: str = "--api-key-env") -> "RerankerSettings":
    """The `RerankerSettings`. Raises UserError for a model or a flag that cannot work; nothing is loaded yet."""
    from openrlhf_math.colocation.layout import find_device
    from openrlhf_math.modeling.model_folder import check_model
    from openrlhf_math.rerank.reranker import RerankerSettings
    from openrlhf_math.rerank.sampling_engine import SamplerSettings

    tool, asked = tool_settings(args), endpoint_model(args, key_flag)
    check_date_used(args)
    engine_args(args)  # or it would be ignored with --base-url
    if tool and asked:
        if tool.form == "template":
            raise UserError(
                "--tool-form template: a model behind --base-url is shown messages; choose --tool-form block"
            )
        asked = replace(asked, tool=tool)
    if not asked:
        check_temperature(args.temperature)
        for agent in find_agents(args.agents):
            check_temperature(agent.temperature, f"--agents {args.agents}: {agent.name}: temperature")
        check_model("--model", args.model)
    device = find_device() if args.device == "auto" else args.device
    memory = 0.8 if args.share_device else 0.9  # what sleeps keeps a little
    scorer = scorer_settings(args, device, memory)
    under_way = (args.attempt_concurrency or args.attempts) * args.problem_concurrency
    with in_flags(timeout_seconds="--timeout", replicas="--samplers"):
        rewards = RewardConfig(style=args.style, timeout_seconds=args.timeout, workers=args.workers)
        sampler = asked or SamplerSettings(
            model=args.model,
            device=device,
            tensor_parallel=args.tensor_parallel,
            max_context=args.max_context,
            replicas=args.samplers,
            max_concurrency=min(max(64, under_way), MAX_CONCURRENCY),
            memory=memory,
            engine_args=engine_args(args),
            tool=tool,
        )
    try:
        return RerankerSettings(sampler, scorer, rewards, shared=args.share_device)
    except ValueError as error:
        raise UserError(f"--share-device: {error}; leave it out") from None


def scorer_settings(
    args: argparse.Namespace, device: str, memory: float = 0.9
) -> "ScorerSettings | AskedScorerSettings | None":
    """The `ScorerSettings` or `AskedScorerSettings`, None without a scorer.

    Raises UserError for a model or a flag that cannot work. memory: share of a GPU's that an engine takes.
    """
    from openrlhf_math.modeling.model_folder import check_model
    from openrlhf_math.rerank.scoring_engine import ScorerSettings

    if bool(args.scorer) != bool(args.scorer_model):
        missing, there = ("--scorer", "--scorer-model") if args.scorer_model else ("--scorer-model", "--scorer")
        raise UserError(f"{there} is given without {missing}; a scorer needs a model and its kind")
    if not args.scorer_model:
        return None
    if args.scorer in ASKED:
        return asked_scorer(args)
    if getattr(args, "scorer_base_url", None):
        raise UserError(f"--scorer-base-url goes with --scorer {' or '.join(ASKED)}, not with {args.scorer}")
    find_scorer(args.scorer)
    check_model("--scorer-model", args.scorer_model)
    with in_flags(tensor_parallel="--scorer-tensor-parallel", replicas="--scorers"):
        return ScorerSettings(
            kind=args.scorer,
            model=args.scorer_model,
            device=device,
            tensor_parallel=args.scorer_tensor_parallel,
            replicas=args.scorers,
            separator=_separator(args),
            memory=memory,
        )


def check_there(args: argparse.Namespace) -> str | None:
    """The date that chat templates write, None if none does. Raises UserError for a model that is to be loaded and
    cannot be read: in one sentence, before Ray starts."""
    from openrlhf_math.colocation.layout import find_device
    from openrlhf_math.data.chat_date import checked_date
    from openrlhf_math.modeling.model_folder import load_tokenizer
    from openrlhf_math.modeling.model_kind import check_engine, check_positions, read_config

    device = find_device() if args.device == "auto" else args.device
    tokenizers = []
    if not args.base_url:
        read_config("--model", args.model)
        tokenizer = load_tokenizer("--model", args.model, True, "choose a chat model")
        check_template_variables(args, tokenizer)
        tokenizers.append(tokenizer)
        check_engine("--model", args.model, device)
        if args.max_context:
            check_positions("--model", args.model, f"--max-context {args.max_context}", args.max_context)
    if args.scorer_model and args.scorer not in ASKED:
        read_config("--scorer-model", args.scorer_model)
        tokenizers.append(load_tokenizer("--scorer-model", args.scorer_model, False, ""))
        check_engine("--scorer-model", args.scorer_model, device)
    return checked_date(args.chat_date, args.model, *tokenizers)


def context_of(model: str) -> int | None:
    """Tokens the model reads, None if its configuration does not say."""
    from openrlhf_math.modeling.model_kind import read_config

    return getattr(read_config("--model", model).get_text_config(), "max_position_embeddings", None)


def _stop(args: argparse.Namespace) -> Stop:
    if args.no_early_stop:
        return never
    if args.confidence in (None, 1):
        return cannot_lose
    try:
        return confident(args.confidence)
    except ValueError:
        raise UserError(f"--confidence {args.confidence}: give more than 0.5 and at most 1") from None


def _of_steps(name: str, steps: Steps) -> Strategy:
    """What the function of that name makes of them. Raises UserError for a user's that makes no strategy."""
    make = find_strategy(name)
    try:
        strategy = make(steps)
    except Exception as error:  # whatever a function raises that is for something else
        raise UserError(f"--strategy {name}: {NO_STRATEGY} ({type(error).__name__}: {brief(error, 200)})") from error
    if not callable(strategy):
        raise UserError(f"--strategy {name}: {NO_STRATEGY}, it returns {type(strategy).__name__}")
    return strategy


def _check_numbers(args: argparse.Namespace) -> None:
    at_least(1, args, *AT_LEAST_ONE)
    if args.attempts > MOST_ATTEMPTS:
        raise UserError(f"--attempts {args.attempts}: give at most {MOST_ATTEMPTS:,}")
    at_least(0, args, "refine", "abort_unsure")
    at_least(2, args, "select_group")
    if args.select_votes > MOST_VOTES:
        raise UserError(f"--select-votes {args.select_votes}: give at most {MOST_VOTES}")
    if not 0 <= args.temperature < float("inf"):
        raise UserError(f"--temperature {args.temperature}: give 0 (greedy) or more")
    if not 0 < args.top_p <= 1:
        raise UserError(f"--top-p {args.top_p}: give more than 0 and at most 1")
    if not 0 < args.seconds < float("inf"):
        raise UserError(f"--seconds {args.seconds}: give more than 0, and a number")
