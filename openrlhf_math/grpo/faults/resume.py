"""Before a stopped run is resumed: is it the same run, which checkpoint is complete, what was recorded after it."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

from openrlhf_math.checkpoints.folder import GIB, age, check_same, settle
from openrlhf_math.data.problems import Problem
from openrlhf_math.errors import UserError
from openrlhf_math.former_names import UNGRADED_FILE
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.metrics import RECORDS
from openrlhf_math.grpo.settings import as_json, trained_parameters
from openrlhf_math.runs import records
from openrlhf_math.runs.rollouts import forget_after
from openrlhf_math.training.lora import check_base

ROWS = "problems"  # where config.json has what identifies them

# What may differ when a run is resumed: where files are, how fast it goes, how it is watched, how far it may go, and a
# reward's code, which may have been fixed.
FREE_SECTIONS = ("ckpt", "logger", "eval", "local_rank", "vllm", "objective", ROWS)  # objective: in words
FREE = (
    "data.prompt_dataset", "data.prompt_split", "data.max_len", "data.dataloader_num_workers",
    "rollout.max_new_tokens", "rollout.micro_batch_size", "rollout.max_tokens_per_gpu", "train.num_episodes",
    "train.max_tokens_per_gpu", "train.agent_func_path", "math.tool.kernels", "math.tool.isolation",
    "math.teacher.url", "math.teacher.key_env", "math.teacher.concurrency", "math.teacher.timeout",
    "math.teacher.tries",
)  # fmt: skip
# Of our own settings all are free but these.
FIXED = (
    "math.curriculum.", "math.device", "math.instruction", "math.judge.model", "math.judge.extra_body",
    "math.majority_labels", "math.reward_parts", "math.shared_prefix", "math.tool", "math.truncated", "math.teacher",
    "math.objective.rollout_correction", "math.objective.correct_below_ess", "math.objective.sapo_tau",
    "math.objective.loss_length", "math.engine_noise", "math.overlap",
)  # fmt: skip
FIXED_REWARDS = ("math.rewards.format_reward", "math.rewards.correct_reward", "math.rewards.style")


def is_free(name: str) -> bool:
    """Whether a setting may differ from what the run began with. name: dotted, as in config.json."""
    if name.startswith("math.") and name not in FREE:
        return not name.startswith((*FIXED, *FIXED_REWARDS))
    return name in FREE or name.split(".")[0] in FREE_SECTIONS


def training_sets(args: GRPOArguments) -> list[str]:
    return [spec.strip() for spec in args.data.prompt_dataset.split(",")]


def identity(sets: dict[str, list[Problem]], labels: dict[str, dict[int, dict[str, float]]]) -> dict:
    """What a resumed run must find again. sets, labels: problems and their further columns, by data set."""
    digest = hashlib.sha256()
    for spec, problems in sets.items():
        for problem in problems:
            row = [problem.problem, problem.answer, problem.source, labels.get(spec, {}).get(problem.row)]
            digest.update(json.dumps(row).encode())
    return {"rows": sum(map(len, sets.values())), "sha256": digest.hexdigest()}


def take_up(args: GRPOArguments, problems: dict) -> None:
    """With `--ckpt.load_enable`: check that the run is the one that began, settle on a checkpoint, and forget what was
    recorded after it. Without a checkpoint the run starts from the beginning. problems:
    `identity` of the training sets.

    Raises UserError for another run, and if there are checkpoints and none is whole.
    """
    run_dir, folder = args.math.run_dir, Path(args.ckpt.path)
    if args.train.enable_ema:
        raise UserError(
            "--ckpt.load_enable: --train.enable_ema keeps an average of the weights that OpenRLHF's checkpoints do not "
            "have, so the run cannot be resumed"
        )
    config = json.loads(as_json(args)) | {ROWS: problems}
    check_same(run_dir, config, is_free, ROWS, f"--data.prompt_dataset {args.data.prompt_dataset}")
    check_base(run_dir, args.actor.model_name_or_path, args.math.lora)
    tag = settle(folder / "_actor", folder / "_critic")
    args.ckpt.load_enable = tag is not None
    step = age(tag)[0] if tag else 0
    where = (
        f"resuming after step {step}, from {tag}"
        if tag
        else f"no checkpoint in {folder}: the run starts from the beginning"
    )
    print(where, flush=True)  # a log shows it whatever comes
    forget_after(run_dir, step)
    kept = {name: records.keep_until(run_dir / name, step) for name in (*RECORDS, UNGRADED_FILE)}
    if kept["metrics.jsonl"]:  # the time between a stop and a resumption does not count
        before = kept["metrics.jsonl"][-1]["seconds_since_start"]
        args.math = replace(args.math, started_at=args.math.started_at - before)


def check_room(args: GRPOArguments) -> None:
    """Raise UserError unless the checkpoints to come have room, where the model's size is known."""
    folder = Path(args.ckpt.path)
    if args.ckpt.save_steps == -1 or args.ckpt.disable_ds:
        return
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    disk = next(path for path in (folder, *folder.parents) if path.exists())
    room = shutil.disk_usage(disk).free + there
    needed = checkpoint_bytes(args) * (args.ckpt.max_num + 1)  # an old one goes when the next is whole
    if needed > room:
        raise UserError(
            f"--ckpt.path {folder}: {args.ckpt.max_num + 1} checkpoints take {needed / GIB:.3g} GiB, there is room for "
            f"{room / GIB:.3g}; name another disk, lower --ckpt.max_num, or go without: --ckpt.save_steps -1"
        )


def checkpoint_bytes(args: GRPOArguments) -> int:
    """Of one checkpoint: bf16 weights, fp32 weights and two Adam moments of what is trained. 0 if that is unknown."""
    return (2 + 4 + 8) * trained_parameters(args)
