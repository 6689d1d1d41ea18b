"""What a run reads, checked before anything starts: the model directory, the problem sets, and plugins.

A run's actors ask plugins for rewards later: Python files, which are checked without running them, and servers.
"""

import ast
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from openrlhf_math.data.chat_date import checked_date
from openrlhf_math.data.places import is_here, place_of
from openrlhf_math.data.problems import Problem, keep_parsable, read_problems
from openrlhf_math.data.prompts import Tokenizer, chat, check_variables, prompt_ids, prompt_text, with_variables
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.problems.majority import is_missing
from openrlhf_math.grpo.reward_parts import try_parts
from openrlhf_math.grpo.rollout.tool_turns import tools_of
from openrlhf_math.grpo.settings import steps_a_batch
from openrlhf_math.modeling.model_folder import NO_TEMPLATE, check_model, load_tokenizer
from openrlhf_math.modeling.model_kind import check_language_model, check_tokens, weight_names
from openrlhf_math.training.flag_checks import TEMPLATE_FLAG, check_frozen_steps
from openrlhf_math.training.schedule import trains_nothing

# Column of the run's prompts with the problem as its set gives it; no set's own column has a name like this.
PROBLEM = "math.problem"


def check_other_models(args: GRPOArguments) -> None:
    """Raise UserError if the critic's model or the reward model is neither a directory with a model nor a hub name."""
    for flag, models in (
        ("--critic.model_name_or_path", args.critic.model_name_or_path),
        ("--reward.model_name_or_path", None if args.reward.remote_url else args.reward.model_name_or_path),
    ):
        for model in (models or "").split(","):
            if model and model != args.actor.model_name_or_path:
                check_model(flag, model)
    reward = args.reward.model_name_or_path
    head = f"{args.ds.value_head_prefix}.weight"
    if reward and not args.reward.remote_url and (names := weight_names(reward)) and head not in names:
        raise UserError(
            f"--reward.model_name_or_path {reward}: it has no {head}, so its rewards would be drawn at random; give a "
            "model with one label that was trained to score, or the head's name with --ds.value_head_prefix"
        )


def load_problem_sets(args: GRPOArguments) -> dict[str, list[Problem]]:
    """The training sets (and the evaluation set) by name, only problems whose gold answer can be parsed.

    Raises UserError for a file, column or row at fault, or if too many golds are bad.
    """
    sets = {}
    training = len(_specs(args)) - bool(args.eval.dataset)
    for number, (spec, split) in enumerate(_specs(args)):
        votes = args.math.majority_labels and number < training
        needed = ("problem",) if votes else ("problem", "answer")
        problems = read_problems(spec, args.data.input_key, args.data.label_key, split, needed=needed)
        unlabelled = {problem.row for problem in problems if votes and is_missing(problem.answer)}
        labelled = [problem for problem in problems if problem.row not in unlabelled]
        kept, rejected = keep_parsable(labelled, args.math.max_bad_golds)
        if unlabelled:
            print(f"{len(unlabelled)} of {len(problems)} problems of {spec} have no gold answer: majorities label them")
            rows = unlabelled | {problem.row for problem in kept}
            kept = [problem for problem in problems if problem.row in rows]
        for problem in rejected[:5]:
            print(f"skipped: {spec} row {problem.row}: the gold answer {problem.answer!r} cannot be parsed")
        if rejected:
            print(f"skipped {len(rejected)} of {len(problems)} problems of {spec}: unparsable gold answers")
        sets[spec] = kept
    if count_prompts(args, sets) < args.rollout.batch_size:
        if args.data.max_samples < args.rollout.batch_size:
            few, more = f"--data.max_samples {args.data.max_samples} leaves fewer problems", "raise --data.max_samples"
        else:
            few = f"--data.prompt_dataset {args.data.prompt_dataset} has {count_prompts(args, sets)} problems, fewer"
            more = "add problems"
        batch_size = args.rollout.batch_size
        raise UserError(f"{few} than one batch (--rollout.batch_size {batch_size}); lower that or {more}")
    batches = count_prompts(args, sets) // args.rollout.batch_size * args.train.num_episodes
    check_frozen_steps(args.critic.freezing_steps, batches)
    steps = batches * steps_a_batch(args)
    if why := trains_nothing(steps, args.actor.lr_scheduler, args.actor.lr_warmup_ratio, "actor."):
        print(f"note: {why}")
    _check_best_metric(args, sets)
    return sets


def _check_best_metric(args: GRPOArguments, sets: dict[str, list[Problem]]) -> None:
    """Raise UserError for a name of which no evaluation has a metric: no checkpoint would ever be the best."""
    wanted = args.ckpt.best_metric_key
    if wanted in (None, "", "none") or not args.eval.dataset:
        return
    sources = sorted({problem.source for problem in sets[args.eval.dataset]})
    best = [f"eval_{source}_pass{k}" for source in sources for k in sorted({1, args.eval.n_samples_per_prompt})]
    others = [f"eval_{source}_{name}" for source in sources for name in ("response_length_mean", "truncated_rate")]
    if wanted not in [*best, *others, "eval_response_length_mean", "eval_truncated_rate"]:
        raise UserError(
            f"--ckpt.best_metric_key {wanted}: evaluations have no such metric; give {' or '.join(best[:6])}, or none "
            "to keep no best checkpoint"
        )


def _specs(args: GRPOArguments) -> list[tuple[str, str]]:
    """The training sets and the evaluation set, each with its split."""
    training = [(spec.strip(), args.data.prompt_split) for spec in args.data.prompt_dataset.split(",")]
    return training + ([(args.eval.dataset, args.eval.split)] if args.eval.dataset else [])


def can_be_counted(args: GRPOArguments) -> bool:
    """Whether all sets are files or folders of this machine, or should be, so that a dry run may read them."""
    return all(os.path.exists(place) or is_here(place) for place in (place_of(spec).place for spec, _ in _specs(args)))


def count_prompts(args: GRPOArguments, sets: dict[str, list[Problem]]) -> int:
    """Problems of an episode, at least: sets that are drawn from with probabilities may give some twice."""
    specs = [spec.strip() for spec in args.data.prompt_dataset.split(",")]
    return min(args.data.max_samples, sum(len(sets[spec]) for spec in specs))


def render_prompts(args: GRPOArguments, sets: dict[str, list[Problem]]) -> dict[str, list[str]]:
    """The prompts of each set as texts. The date that they have is set in the settings.

    Raises UserError if the model cannot be used, or if a prompt leaves no room for a completion within the context.
    """
    flag, model = "--actor.model_name_or_path", args.actor.model_name_or_path
    tokenizer = load_tokenizer(flag, model, args.data.apply_chat_template, NO_TEMPLATE)
    check_language_model(flag, model, ask_hub=True)
    check_variables(TEMPLATE_FLAG, model, args.math.generation.template_variables, tokenizer)
    with_variables(tokenizer, args.math.generation.template_variables)
    if args.data.apply_chat_template:
        args.math = replace(args.math, chat_date=checked_date(args.math.chat_date, model, tokenizer))
    tools = tools_of(args.math.tool, tokenizer, model)
    room = max(0, args.data.max_len - (args.rollout.max_new_tokens or 1))
    prompts = {}
    for spec, problems in sets.items():
        prompts[spec] = [_prompt(spec, problem, args, tokenizer, tools) for problem in problems]
        all_ids = prompt_ids(tokenizer, prompts[spec], args.data.apply_chat_template)
        rows = [problem.row for problem in problems]
        where = (f"{spec} row {row}" for row in rows)
        check_tokens(flag, model, tokenizer, zip(where, all_ids, strict=True))
        long = [(len(ids), row) for ids, row in zip(all_ids, rows, strict=True) if len(ids) > room]
        if long:
            length, row = long[0]
            raise UserError(
                f"{len(long)} prompts of {spec} are longer than the context leaves room for, the first in row {row} "
                f"({length} tokens, room for {room}); raise --data.max_len, lower --rollout.max_new_tokens or drop them"
            )
    return prompts


def check_rewards(args: GRPOArguments, sets: dict[str, list[Problem]], prompts: dict[str, list[str]]) -> None:
    """Raise UserError for an own part of the reward that fails on the first problem. prompts: of `render_prompts`."""
    if args.math.reward_parts:
        spec = args.data.prompt_dataset.split(",")[0].strip()
        limit = args.rollout.max_new_tokens or args.data.max_len
        try_parts(args.math.reward_parts, prompts[spec][0], sets[spec][0].answer, limit)


def training_prompts(args: GRPOArguments, prompts: dict[str, list[str]]) -> set[str]:
    """Of all training sets. prompts: of `render_prompts`."""
    return {prompt for spec in args.data.prompt_dataset.split(",") for prompt in prompts[spec.strip()]}


def _prompt(spec: str, problem: Problem, args: GRPOArguments, tokenizer: Tokenizer, tools: list[dict] | None) -> str:
    messages = chat(problem, args.math.instruction)
    try:
        return prompt_text(tokenizer, messages, args.data.apply_chat_template, args.data.input_template, tools)
    except UserError as error:
        raise UserError(f"{spec} row {problem.row}: {error}") from None


def write_prompts(
    args: GRPOArguments,
    sets: dict[str, list[Problem]],
    prompts: dict[str, list[str]],
    labels: dict[str, dict[int, dict[str, float]]],
) -> None:
    """Write the checked problems into the run directory and point OpenRLHF's flags at them.

    prompts: of `render_prompts`. OpenRLHF is to render nothing: it takes `<image>` in a problem for a picture, and
    braces in a template for fields. labels: more columns, by set and row.
    """
    paths = {}
    folder = args.math.run_dir / "prompts"
    folder.mkdir(parents=True, exist_ok=True)
    for number, (spec, problems) in enumerate(sets.items()):
        paths[spec] = folder / f"{number}.jsonl"
        with paths[spec].open("w") as file:
            for problem, prompt in zip(problems, prompts[spec], strict=True):
                row: dict[str, Any] = {args.data.input_key: prompt, args.data.label_key: problem.answer}
                row |= {"datasource": problem.source, PROBLEM: problem.text}
                row |= labels.get(spec, {}).get(problem.row, {})
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    args.data.prompt_dataset = ",".join(str(paths[spec.strip()]) for spec in args.data.prompt_dataset.split(","))
    args.data.prompt_split = "train"
    if args.eval.dataset:
        args.eval.dataset, args.eval.split = str(paths[args.eval.dataset]), "train"


AGENT, REWARD = "AgentExecutor", "reward_func"  # what OpenRLHF looks for in them
CONNECT_SECONDS = 10


def check_plugin_files(args: GRPOArguments) -> None:
    """Raise UserError for an agent or reward file that is missing, does not parse, or lacks what OpenRLHF looks for.

    For a reward server that does not listen, too.
    """
    if args.train.agent_func_path:
        _check("--train.agent_func_path", args.train.agent_func_path, AGENT)
        return  # the agent gives the reward
    for url in args.reward.remote_url or []:
        if url.endswith(".py"):
            _check("--reward.remote_url", url, REWARD)
        elif not url.startswith(("http://", "https://")):
            raise UserError(f"--reward.remote_url {url}: give a Python file, or an address that begins with http://")
        else:
            _check_listens(url)


def _check_listens(url: str) -> None:
    """Nothing is sent: a reward server's reply to a request without completions is unspecified."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--reward.remote_url {url}: cannot connect ({reason}); start the server first") from None


def _check(flag: str, path: str, name: str) -> None:
    try:
        tree = ast.parse(Path(path).read_bytes(), path)
    except OSError as error:
        raise UserError(f"{flag} {path}: the file cannot be read ({error.strerror})") from None
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{flag} {path}: it is not valid Python ({error})") from None
    if not path.endswith(".py"):
        raise UserError(f"{flag} {path}: OpenRLHF loads only files that end in .py; rename it")
    if not {name, "*"} & set(_names(tree)):
        raise UserError(f"{flag} {path}: it defines no {name}, which OpenRLHF looks for in it")


def _names(tree: ast.Module) -> Iterator[str]:
    """What the file may define at its top level, also under a condition or by import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (each.asname or each.name for each in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
