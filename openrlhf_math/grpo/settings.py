"""From flags to the settings of a run: computed values, checks with a sentence, OpenRLHF's nested namespace."""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from openrlhf_math.colocation.layout import attention, find_device
from openrlhf_math.data.prompts import check_template
from openrlhf_math.errors import UserError, in_flags
from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.curriculum_settings import CurriculumSettings, curriculum
from openrlhf_math.grpo.faults.watchdog import FaultSettings, faults
from openrlhf_math.grpo.flags import UPSTREAM_COMMAND
from openrlhf_math.grpo.generation import Generation, check_overlap, read_generation
from openrlhf_math.grpo.objective import PROPORTIONAL, Objective, described, loss_length, settle_objective
from openrlhf_math.grpo.problems.completion_limit import LimitSettings, completion_limit
from openrlhf_math.grpo.reward_parts import RewardParts, read_parts
from openrlhf_math.grpo.rollout.teacher import Teacher, is_loaded, teacher
from openrlhf_math.grpo.rollout.tool_turns import RolloutTool, instruction, tool
from openrlhf_math.modeling import SHARED_PREFIX
from openrlhf_math.modeling.model_folder import count_parameters
from openrlhf_math.patches.parsers import load_parser, nest
from openrlhf_math.rewards import RewardConfig
from openrlhf_math.runs.rollouts import NOTHING, Keeping, read_keeping
from openrlhf_math.training.flag_checks import (
    CRITIC_FLAG,
    check_kernels,
    check_parallel,
    check_placement,
    check_shares,
    check_values,
    hide_wandb_key,
    settle_critic,
)
from openrlhf_math.training.lora import Lora
from openrlhf_math.training.lora import check_flags as check_lora_flags

if TYPE_CHECKING:  # what it imports takes a while
    from openrlhf_math.rerank.answer_judge import JudgeSettings

# These compare a completion with the others of its group; alone it has nothing to learn from.
NEEDS_A_GROUP = ("grpo", "grpo_no_std", "rloo", "reinforce_baseline", "group_norm", "dr_grpo")

# Of OpenRLHF's estimators, those that divide by the standard deviation of the batch, and those that discount.
WHITENED = ("gae", "reinforce", "reinforce_baseline")
DISCOUNTED = ("gae", "reinforce")

KEEP_ROLLOUTS = "last:20"
ALL_PROBLEMS = int(1e8)  # OpenRLHF's default of --data.max_samples

# Flags with which OpenRLHF's own padded or flash-attn-packed batches are kept, and their plain values.
NEEDS_PADDED_BATCH = {
    "ds.ring_attn_size": 1,
    "critic.model_name_or_path": None,
    "reward.model_name_or_path": None,
}


@dataclass(frozen=True)
class MathSettings:
    """Our part of a run's settings: `args.math`, in addition to OpenRLHF's.

    shared_prefix: whether batches are rows without padding, a group's completions behind one copy of their prompt where
    the model allows it. wants_shared_prefix: the flag, auto, on or off.
    parameters: number of model parameters, 0 if unknown. started_at: Unix time. max_logprob_gap: nats a token.
    engine_noise: relative standard deviation of noise in the engine's weights; 0 except in experiments.
    truncated: a key of `completion_limit`'s table. lora: what is trained, None for all weights; found after the flags,
    in the configuration of the model. tool: what the model may call in its rollouts, None for nothing. teacher:
    what the policy learns from besides rewards, None for nothing. keep_rollouts: which steps' completions stay on disk.
    reward_parts: what the reward is the sum of, None for that of `rewards`. majority_labels: whether the majority of a
    group takes the place of a gold answer that is missing. judge: decides what the grader cannot; None without one.
    generation: see there. replay: rollouts to train on in place of an engine's, None for an engine. overlap: batches
    that are generated ahead of the one that is trained.
    """

    run_dir: Path
    device: str
    instruction: str
    rewards: RewardConfig
    max_bad_golds: float
    max_logprob_gap: float
    engine_noise: float
    shared_prefix: bool
    wants_shared_prefix: str
    parameters: int
    verbose: bool
    started_at: float
    curriculum: CurriculumSettings
    completion_limit: LimitSettings
    truncated: str
    faults: FaultSettings
    objective: Objective
    lora: Lora | None = None
    tool: RolloutTool | None = None
    keep_rollouts: Keeping = NOTHING
    reward_parts: RewardParts | None = None
    majority_labels: bool = False
    judge: "JudgeSettings | None" = None
    generation: Generation = field(default_factory=Generation)
    replay: str | None = None
    overlap: int = 0
    teacher: Teacher | None = None
    chat_date: str | None = None


def resolve(flat: argparse.Namespace) -> GRPOArguments:
    """The settings of a run as OpenRLHF wants them, with `args.math` ours.

    Raises UserError for values that cannot work, before anything heavy is imported.
    """
    flags = dict(vars(flat))
    ours = {name: flags.pop(name) for name in list(flags) if name.startswith("math.") or name == "vllm.args"}
    for name in ("dry_run", "plan_gpu"):
        flags.pop(name)
    check_values(flags | ours)
    check_overlap(flags, ours["math.overlap"])
    objective = settle_objective(flags, ours)
    check_template("--data.input_template", flags["data.input_template"], flags["data.apply_chat_template"])
    hide_wandb_key(flags)
    device = find_device() if ours["math.device"] == "auto" else ours["math.device"]
    run_dir = Path(ours["math.run_dir"]).absolute()
    settle_critic(flags)
    if ours["math.replay"]:
        _check_replay(flags, ours)
    generation = read_generation(flags, ours)
    wanted_tool, wanted_teacher, parts = tool(flags, ours), teacher(flags, ours), read_parts(flags, ours)
    if parts and ours["math.replay"]:
        _check_replayed_parts(flags)
    shared_prefix = _shares_prefix(flags, ours["math.shared_prefix"])
    limit = completion_limit(flags, ours)
    flags["rollout.max_new_tokens"] = limit.last  # what the context must hold
    objective = replace(objective, loss_length=loss_length(flags, ours["math.loss_length"], limit.last))
    filtering_range = flags["algo.dynamic_filtering_range"]
    flags["algo.dynamic_filtering_range"] = filtering_range or (-math.inf, math.inf)  # OpenRLHF checks it
    _compute(flags, device, run_dir, shared_prefix)
    _check(flags, wanted_teacher)
    check_placement(flags, reference=is_loaded(wanted_teacher) or flags["algo.kl.init_coef"] > 0)
    check_kernels(flags, device, padded=not shared_prefix)
    _check_accumulation(flags, shared_prefix or flags["train.dynamic_batch_enable"])
    check_lora_flags(flags)
    if flags["ds.lora.dropout"]:
        raise UserError(
            f"--ds.lora.dropout {flags['ds.lora.dropout']}: the policy that is trained would not be the one that "
            "generated; leave it out (sft takes it)"
        )

    _, resolve_upstream = load_parser(UPSTREAM_COMMAND)
    args = nest(argparse.Namespace(**flags))
    if not (args.train.agent_func_path or args.reward.remote_url or args.reward.model_name_or_path):
        args.train.agent_func_path = str(Path(__file__).with_name("default_agent.py"))
    try:
        args = resolve_upstream(args)
    except AssertionError as error:
        raise UserError(f"OpenRLHF refuses these flags: {error}") from None
    args.algo.dynamic_filtering_range = filtering_range  # JSON has no infinity
    if shared_prefix:  # after OpenRLHF's checks, which would add flash-attn's packing to it
        args.train.dynamic_batch_enable = True
        args.rollout.max_tokens_per_gpu = args.rollout.max_tokens_per_gpu or args.train.max_tokens_per_gpu
    args.math = MathSettings(
        run_dir=run_dir,
        device=device,
        instruction=instruction(ours["math.instruction"], wanted_tool),
        rewards=_rewards(ours),
        max_bad_golds=ours["math.max_bad_golds"],
        max_logprob_gap=ours["math.max_logprob_gap"],
        engine_noise=ours["math.engine_noise"],
        shared_prefix=shared_prefix,
        wants_shared_prefix=ours["math.shared_prefix"],
        parameters=count_parameters(args.actor.model_name_or_path),
        verbose=ours["math.verbose"],
        started_at=time.time(),
        curriculum=curriculum(flags, ours),
        completion_limit=limit,
        truncated=ours["math.truncated"],
        faults=faults(ours),
        objective=objective,
        tool=wanted_tool,
        reward_parts=parts,
        generation=generation,
        replay=ours["math.replay"],
        overlap=ours["math.overlap"],
        majority_labels=_majority(flags, ours["math.majority_labels"]),
        keep_rollouts=read_keeping(ours["math.keep_rollouts"] or ("none" if ours["math.replay"] else KEEP_ROLLOUTS)),
        teacher=wanted_teacher,
        chat_date=ours["math.chat_date"],
    )
    if args.math.replay:  # after OpenRLHF's checks; without an engine there are no penalties left to take
        args.vllm.num_engines = 0
        args.reward.overlong_buffer_len = args.reward.stop_properly_penalty_coef = None
    return args


def _rewards(ours: dict) -> RewardConfig:
    """Raises UserError, with the flag, for a value that cannot work."""
    fields = {
        "format_reward": "math.format_reward",
        "correct_reward": "math.correct_reward",
        "style": "math.answer_style",
        "timeout_seconds": "math.grading_seconds",
        "workers": "math.grading_workers",
    }
    given = {field: ours[flag] for field, flag in fields.items()}
    with in_flags(**{field: f"--{flag}" for field, flag in fields.items()}, memory_bytes="--math.grading_gib"):
        return RewardConfig(**given, memory_bytes=int(ours["math.grading_gib"] * 2**30))


def _check_replay(flags: dict, ours: dict) -> None:
    """Raise UserError for what a replay cannot do. All problems of the sets are known to it: files name the batches."""
    for name, why in (
        ("eval.dataset", "there is no engine to evaluate with"),
        ("ckpt.load_enable", "a replay is not resumed; run it again"),
        ("math.overlap", "no engine runs during training"),
    ):
        if (flags | ours)[name]:
            raise UserError(f"--{name} with --math.replay: {why}; leave one of the two out")
    flags["data.max_samples"] = ALL_PROBLEMS
    if flags["ckpt.save_steps"] is None:
        flags["ckpt.save_steps"] = -1


def _check_replayed_parts(flags: dict) -> None:
    """Raise UserError for a penalty of OpenRLHF's: a replay cannot take it off the sum of the parts again.

    It depends on the completion limit, which may have been another one in each step.
    """
    for name in ("overlong_buffer_len", "stop_properly_penalty_coef"):
        if flags[f"reward.{name}"] is not None:
            raise UserError(
                f"--reward.{name} with --math.replay and --math.rewards: the rewards are summed again from the stored "
                "parts, which do not have this penalty; leave --math.rewards out for the stored rewards, or leave the "
                "penalty out"
            )


def _majority(flags: dict, wish: bool) -> bool:
    """Raises UserError if a group cannot vote, or if it is not graded here."""
    if wish and flags["rollout.n_samples_per_prompt"] < 3:
        raise UserError("--math.majority_labels: a majority needs --rollout.n_samples_per_prompt of 3 or more")
    for name in ("reward.remote_url", "reward.model_name_or_path"):
        if wish and flags[name]:
            raise UserError(f"--{name} and --math.majority_labels both say what is right; leave one of them out")
    return wish


def _shares_prefix(flags: dict, wish: str) -> bool:
    """Whether to train on packed rows with shared prompts. Raises UserError if it is asked for and cannot be."""
    obstacle = padded_for(flags.get)
    if wish == "on" and obstacle:
        raise UserError(f"--math.shared_prefix on: {obstacle} needs padded batches; leave one of the two out")
    return wish != "off" and not obstacle


def padded_for(value_of: Callable[[str], object]) -> str | None:
    """The flag that needs padded batches, if one does. value_of: a flag's value, by its dotted name."""
    for name, plain in NEEDS_PADDED_BATCH.items():
        if value_of(name) not in (plain, None):
            return CRITIC_FLAG if name == "critic.model_name_or_path" else f"--{name}"
    return None


def _compute(flags: dict, device: str, run_dir: Path, shared_prefix: bool) -> None:
    """Fill in the flags whose default depends on others."""

    def default(name: str, value: object) -> None:
        if flags[name] is None:
            flags[name] = value

    samples = flags["rollout.batch_size"] * flags["rollout.n_samples_per_prompt"]
    default("train.batch_size", samples)  # one gradient step a batch
    default("actor.num_gpus_per_node", 1)
    default("ref.num_nodes", flags["actor.num_nodes"])  # on the policy's nodes, as OpenRLHF requires if colocated
    default("ref.num_gpus_per_node", flags["actor.num_gpus_per_node"])
    for model in ("critic", "reward"):
        default(f"{model}.num_nodes", flags["actor.num_nodes"])
        default(f"{model}.num_gpus_per_node", flags["actor.num_gpus_per_node"])
    devices = flags["actor.num_nodes"] * flags["actor.num_gpus_per_node"]
    default("vllm.num_engines", max(1, devices // flags["vllm.tensor_parallel_size"]))
    share = flags["train.batch_size"] // max(1, training_ranks(flags))
    micro_batch = next((size for size in (8, 4, 2) if share % size == 0), 1)
    default("train.micro_batch_size", micro_batch)
    default("rollout.micro_batch_size", flags["train.micro_batch_size"])
    colocated_on_gpu = device == "cuda" and flags["train.colocate_all"]
    default("vllm.enable_sleep", colocated_on_gpu)
    default("ds.enable_sleep", colocated_on_gpu)
    if shared_prefix:  # packed rows have their own attention, and no padding for flash-attn to take out
        flags["ds.attn_implementation"], flags["ds.packing_samples"] = SHARED_PREFIX, False
    default("ds.attn_implementation", attention(device, flags["data.max_len"]))
    flags["train.dynamic_batch_enable"] &= not shared_prefix  # see `resolve`
    default("train.max_tokens_per_gpu", 2048 if device == "cpu" else 16192)
    default("ckpt.path", str(run_dir / "checkpoints"))
    default("ckpt.output_dir", str(run_dir / "model"))
    default("logger.tensorboard_dir", str(run_dir / "tensorboard"))
    default("logger.wandb.run_name", run_dir.name)  # the same when the run is resumed
    if flags["ckpt.disable_ds"]:
        default("ckpt.save_steps", -1)


def _check(flags: dict, teacher: Teacher | None) -> None:
    for short, flag in (("model", "actor.model_name_or_path"), ("problems", "data.prompt_dataset")):
        if not flags[flag]:
            raise UserError(f"--{short} is missing: give a local path or a hub name")
    for flag in ("rollout.batch_size", "rollout.n_samples_per_prompt", "train.batch_size", "train.num_episodes",
                 "train.max_epochs"):  # fmt: skip
        if flags[flag] < 1:
            raise UserError(f"--{flag} {flags[flag]}: the run would take no optimizer step; give 1 or more")
    estimator, group = flags["algo.advantage.estimator"], flags["rollout.n_samples_per_prompt"]
    rewarded = teacher is None or teacher.reward_coef > 0
    if rewarded and estimator in NEEDS_A_GROUP and group < 2:
        raise UserError(
            f"--rollout.n_samples_per_prompt {group}: {estimator} compares the completions of a prompt with each "
            "other; give 2 or more"
        )
    _check_estimator(flags, estimator)
    samples = flags["rollout.batch_size"] * group
    if samples % flags["train.batch_size"]:
        raise UserError(
            f"--train.batch_size {flags['train.batch_size']} does not divide the {samples} completions of a rollout "
            f"(--rollout.batch_size {flags['rollout.batch_size']} times --rollout.n_samples_per_prompt {group}); "
            f"leave it out for one gradient step a batch"
        )
    generated = flags["rollout.vllm_generate_batch_size"]
    if generated and generated != flags["rollout.batch_size"]:
        raise UserError(
            f"--rollout.vllm_generate_batch_size {generated}: engines are asked for a batch at a time, this is "
            f"--rollout.batch_size {flags['rollout.batch_size']}; leave it out"
        )
    check_shares("data.prompt_probs", flags["data.prompt_probs"], "data.prompt_dataset", flags["data.prompt_dataset"])
    check_parallel(flags, flags["actor.num_nodes"] * flags["actor.num_gpus_per_node"])
    ranks = training_ranks(flags)
    if flags["train.batch_size"] % (flags["train.micro_batch_size"] * ranks):
        raise UserError(
            f"--train.micro_batch_size {flags['train.micro_batch_size']} on {ranks} training process(es) does not "
            f"divide --train.batch_size {flags['train.batch_size']}; choose a micro batch that does"
        )


def _check_accumulation(flags: dict, several: bool) -> None:
    """several: whether an optimizer step has as many micro-batches as its tokens need, see `MathStrategy`."""
    stage = flags["ds.zero_stage"]
    if several and flags["ds.deepcompile"] and stage in (1, 2):
        raise UserError(
            f"--ds.deepcompile: DeepSpeed does not add up micro-batches of unknown number with it and --ds.zero_stage "
            f"{stage}; give --ds.zero_stage 3, or leave it out"
        )
    if several and flags["ds.overlap_comm"] and stage == 1:
        raise UserError(
            f"--ds.overlap_comm: DeepSpeed does not add up micro-batches of unknown number with it and --ds.zero_stage "
            f"{stage}; give --ds.zero_stage 2 or 3, or leave it out"
        )


def _check_estimator(flags: dict, estimator: str) -> None:
    """Raise UserError for what an estimator does not do, where another result than the one asked for would come."""
    if flags["algo.advantage.no_std_norm"] and estimator not in WHITENED:
        raise UserError(
            f"--algo.advantage.no_std_norm: only {', '.join(WHITENED)} divide by the batch's standard deviation, this "
            f"is {estimator}; leave it out, or take grpo_no_std for advantages that are not divided by the group's"
        )
    if flags["algo.advantage.gamma"] != 1 and estimator not in DISCOUNTED:
        raise UserError(
            f"--algo.advantage.gamma {flags['algo.advantage.gamma']:g}: only {' and '.join(DISCOUNTED)} discount, this "
            f"is {estimator}; leave it out"
        )


def training_ranks(flags: dict) -> int:
    """Data-parallel training processes."""
    shape = ("actor.num_nodes", "actor.num_gpus_per_node", "ds.ring_attn_size", "ds.tensor_parallel_size")
    return data_parallel(*(flags[name] for name in shape))


def data_parallel(nodes: int, devices: int, ring: int, tensor: int) -> int:
    """Processes with their own batches. devices: of a node. ring, tensor: processes that share a batch."""
    return max(1, nodes * devices // (ring * tensor))


def data_parallel_ranks(args: GRPOArguments) -> int:
    """As `training_ranks`, of resolved settings."""
    policy, ds = args.actor, args.ds
    return data_parallel(policy.num_nodes, policy.num_gpus_per_node, ds.ring_attn_size, ds.tensor_parallel_size)


def steps_a_batch(args: GRPOArguments) -> int:
    """Optimizer steps of a rollout batch."""
    samples = args.rollout.batch_size * args.rollout.n_samples_per_prompt
    return samples // args.train.batch_size * args.train.max_epochs


def one_step_a_batch(args: GRPOArguments) -> bool:
    """Whether every rollout batch gives exactly one gradient step."""
    samples = args.rollout.batch_size * args.rollout.n_samples_per_prompt
    return samples == args.train.batch_size and args.train.max_epochs == 1


def old_log_probs_needed(args: GRPOArguments) -> bool:
    """Whether the step needs log-probabilities from before it.

    With one step a batch only a KL term can: in the reward, or as a loss with the unbiased gradient.
    """
    kl_reads_them = args.algo.kl.init_coef > 0 and (not args.algo.kl.use_loss or args.algo.kl.unbiased_gradient)
    return kl_reads_them or not one_step_a_batch(args)


def only_advantages_teach(args: GRPOArguments) -> bool:
    """Whether a completion with advantage 0 has no gradient: no entropy bonus, no KL loss, no loss of routers or of a
    user's own, no teacher."""
    if args.actor.policy_loss_type not in PROPORTIONAL or args.math.teacher:
        return False
    return not (args.actor.entropy_coef or args.algo.kl.init_coef or args.actor.aux_loss_coef)


def trained_parameters(args: GRPOArguments) -> int:
    """Parameters with gradients and an optimizer state, 0 if unknown."""
    return args.math.lora.parameters if args.math.lora else args.math.parameters


def as_json(args: GRPOArguments) -> str:
    """The settings as a JSON object of nested sections. Secrets are left out."""

    def plain(value: Any) -> Any:
        if isinstance(value, SimpleNamespace):
            return {key: plain(item) for key, item in vars(value).items()}
        return _as_plain(value) if isinstance(value, MathSettings) else value

    settings = plain(args)
    settings["logger"]["wandb"]["key"] = None
    settings["objective"] = described(args, steps_a_batch(args))
    return json.dumps(settings, indent=2, default=str)


def _as_plain(settings: MathSettings) -> dict:
    """Without the judge's key."""
    judge = settings.judge
    plain = asdict(replace(settings, judge=None))
    if judge:
        endpoint = judge.endpoint
        plain["judge"] = {"model": judge.model, "base_url": endpoint.base_url, "extra_body": endpoint.extra_body}
    return plain
