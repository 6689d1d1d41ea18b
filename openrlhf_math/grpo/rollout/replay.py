"""`--math.replay`: steps on stored rollouts, without an engine, to look into a loss or an estimator.

Tokens, masks, the engine's log-probabilities and rewards are those of the files; advantages, loss and gradient are
computed again. The first step of a run, replayed with the model and the flags it began with, has the same gradient.
"""

from collections.abc import Collection
from pathlib import Path

from openrlhf_math.data.prompts import prompt_ids
from openrlhf_math.errors import UserError
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.problems.majority import SHARE, VOTES
from openrlhf_math.modeling.model_folder import NO_TEMPLATE, load_tokenizer
from openrlhf_math.runs.rollouts import MAJORITY, PART, files_at, read_step

FLAG, MODEL_FLAG = "--math.replay", "--actor.model_name_or_path"


def replay_files(args: GRPOArguments) -> list[Path]:
    """The files of the run's steps in order, checked against its settings.

    Raises UserError for a file of other groups, another tokenizer, a longer context, or without a part of the reward.
    """
    files = files_at(FLAG, Path(args.math.replay or ""))
    tokenizer = load_tokenizer(MODEL_FLAG, args.actor.model_name_or_path, False, NO_TEMPLATE)
    for path in files.values():
        rows = read_step(path)
        _check(rows, path, args)
        tokens = {row["prompt"]: row["prompt_tokens"] for row in rows}
        for prompt, ids in zip(tokens, prompt_ids(tokenizer, [*tokens], args.data.apply_chat_template), strict=True):
            if ids != tokens[prompt]:
                raise UserError(
                    f"{FLAG} {path}: the tokenizer of {MODEL_FLAG} {args.actor.model_name_or_path} makes other tokens "
                    f"of the prompt {prompt[:80]!r}; give the model that the run began with"
                )
    return list(files.values())


def check_problems(files: Collection[Path], prompts: Collection[str]) -> None:
    """Raise UserError for a prompt that is none of this run's: its rewards are of other problems or instructions.

    prompts: of the training problems.
    """
    for path in files:
        for row in read_step(path, ["step", "response", "reward", "prompt"]):
            if row["prompt"] not in prompts:
                raise UserError(
                    f"{FLAG} {path}: the prompt {row['prompt'][:80]!r} is of no problem of --data.prompt_dataset; give "
                    "the problems and the flags of the prompt that the run had"
                )


def _check(rows: list[dict], path: Path, args: GRPOArguments) -> None:
    batch, size = args.rollout.batch_size, args.rollout.n_samples_per_prompt
    groups = [row["group"] for row in rows]
    kept = sorted(set(groups))
    if len(kept) != batch or groups != [group for group in kept for _ in range(size)]:
        raise UserError(
            f"{FLAG} {path} has {len(rows)} completions of {len(kept)} prompts, and --rollout.batch_size {batch} with "
            f"--rollout.n_samples_per_prompt {size} wants {batch * size} of {batch}; give those of the run"
        )
    longest = max(len(row["prompt_tokens"]) + len(row["response_tokens"]) for row in rows)
    if longest > args.data.max_len:
        raise UserError(f"{FLAG} {path}: a row has {longest} tokens, more than --data.max_len {args.data.max_len}")
    for name, _ in args.math.reward_parts.weights if args.math.reward_parts else ():
        if PART + name not in rows[0]:
            raise UserError(f"{FLAG} {path} has no {PART}{name}, which --math.rewards names; leave that out")


def response_of(row: dict, args: GRPOArguments) -> dict:
    """A row as an executor gives a rollout."""
    start = len(row["prompt_tokens"])
    parts = {name: value for name, value in row.items() if name.startswith(PART)}
    weights = args.math.reward_parts.weights if args.math.reward_parts else ()
    reward = sum(weight * parts[PART + name] for name, weight in weights) if weights else row["reward"]
    rates = {}
    if row["outcome"] is not None:
        outcomes = {"accuracy": "correct", "ungraded_rate": "ungraded"}
        rates = {name: float(row["outcome"] == outcome) for name, outcome in outcomes.items()}
    by = row["graded_by"]
    if args.math.majority_labels:
        rates |= {SHARE: float(by == MAJORITY), VOTES: float(by == MAJORITY and row["outcome"] == "correct")}
    if args.math.judge:
        rates["judged_rate"] = float(by == "judge")
    log_probs = row["log_probs"]
    grade = {"outcome": row["outcome"], "answer": row["extracted"], "reason": row["reason"], "by": by}
    return {
        "prompt": row["prompt"],
        "label": row["gold"],
        "observation_tokens": row["prompt_tokens"] + row["response_tokens"],
        "action_ranges": [(start + first, start + last) for first, last in row["actions"]],
        "rollout_log_probs": None if log_probs is None else [0.0] * start + log_probs,
        "truncated": row["truncated"],
        "reward": reward,
        "scores": reward,
        "text": row["response"],
        "grade": grade,
        "extra_logs": rates | parts,
    }
