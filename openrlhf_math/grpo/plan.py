"""`--dry-run`: what a run would ask the cluster for."""

import functools
from dataclasses import dataclass
from typing import Any

from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.curriculum_settings import UNIFORM, CurriculumSettings
from openrlhf_math.grpo.driver import devices_of, devices_wanted
from openrlhf_math.grpo.faults.resume import checkpoint_bytes
from openrlhf_math.grpo.faults.stopping import SHARE
from openrlhf_math.grpo.generation import sampling_words
from openrlhf_math.grpo.objective import described
from openrlhf_math.grpo.problems.completion_limit import TRUNCATED, LimitSettings
from openrlhf_math.grpo.rollout.teacher import is_loaded
from openrlhf_math.grpo.rollout.tool_turns import PYTHON, RolloutTool
from openrlhf_math.grpo.settings import (
    as_json,
    old_log_probs_needed,
    one_step_a_batch,
    padded_for,
    steps_a_batch,
    trained_parameters,
)
from openrlhf_math.modeling.families import Family
from openrlhf_math.training.lora import lora_line

GIB = 2**30


@dataclass(frozen=True)
class PlannedActors:
    """A row of the plan. memory: bytes on each device, 0 if the model's size is unknown."""

    name: str
    count: int
    devices_each: int
    memory: float
    holds: str


def plan(args: GRPOArguments) -> list[PlannedActors]:
    """The actors a run creates, with the memory of their model states.

    ZeRO keeps bf16 weights and gradients (2 bytes each a parameter) and fp32 master weights and two Adam
    moments (12); stage 2 shards all but the weights over the ranks, stage 3 the weights too. With LoRA only the
    adapters have gradients and an optimizer state.
    ZeRO, https://arxiv.org/abs/1910.02054, section 3.
    """
    size, ranks = args.math.parameters, devices_of(args.actor)
    trained = trained_parameters(args)
    adapters = trained if args.math.lora else 0
    weights = 2 * (size + adapters) / (ranks if args.ds.zero_stage == 3 else 1)
    adapter_text = "adapters, their " if adapters else ""
    adam = "Adam (on the CPU)" if args.ds.adam_offload else "Adam"
    optimizer = 0 if args.ds.adam_offload else 12 * trained / ranks
    rows = [
        PlannedActors("trainer (single controller)", 1, 0, 0, "prompts, metrics, the loop"),
        PlannedActors(
            "policy (DeepSpeed)",
            ranks,
            1,
            weights + 2 * trained / ranks + optimizer,
            f"weights, {adapter_text}gradients, {adam}, ZeRO-{args.ds.zero_stage}",
        ),
    ]
    if args.vllm.num_engines:  # none with --math.replay
        rows.append(
            PlannedActors(
                "rollout (vLLM)",
                args.vllm.num_engines,
                args.vllm.tensor_parallel_size,
                2 * size / args.vllm.tensor_parallel_size,
                f"weights; KV cache up to {args.vllm.gpu_memory_utilization:.0%}",
            )
        )
    teacher = args.math.teacher
    if is_loaded(teacher):
        shards = devices_of(args.ref) if args.ds.zero_stage == 3 else 1
        rows.append(PlannedActors("teacher", devices_of(args.ref), 1, 2 * teacher.parameters / shards, "weights"))
    elif args.algo.kl.init_coef > 0:
        rows.append(PlannedActors("reference", devices_of(args.ref), 1, 2 * size, "weights"))
    if args.critic.model_name_or_path:
        rows.append(PlannedActors("critic (DeepSpeed)", devices_of(args.critic), 1, 0, "weights, gradients, Adam"))
    if not args.reward.remote_url:
        rows.append(PlannedActors("reward model", devices_of(args.reward), 1, 0, "weights"))
    return rows


def print_prompt(prompt: str) -> None:
    """Show a prompt as the model will see it, without what moves a terminal's cursor."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    Console().print(Panel(Text(prompt), title="The first prompt", title_align="left"))


def print_plan(args: GRPOArguments, problems: int | None = None, family: Family | None = None) -> None:
    """Print the resolved configuration and the plan; start nothing.

    problems: of an episode, None if not counted. family: the policy's, None if not looked up.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    print(as_json(args))
    objective = Table(title="What this run would minimise", show_header=False)
    for name, value in described(args, steps_a_batch(args)).items():
        objective.add_row(name, value)
    console.print(objective)
    table = Table(title="What this run needs")
    for column in ("actor", "count", "devices each", "memory each", "holds"):
        table.add_column(column)
    for row in plan(args):
        memory = f"{row.memory / GIB:.1f} GiB" if row.memory else "-"
        table.add_row(row.name, str(row.count), str(row.devices_each), memory, row.holds)
    console.print(table)
    console.print(
        f"devices: {devices_wanted(args)} ({args.math.device}), training and inference "
        f"{'take turns on the same ones' if args.train.colocate_all else 'on separate ones'}"
    )
    if args.math.overlap:
        console.print(
            f"overlap: engines generate a batch while the policy trains on the one before, so their weights are "
            f"{args.math.overlap} step older; a checkpoint has the batch that waits",
            soft_wrap=True,
        )
    console.print(f"reference model: {'yes' if args.algo.kl.init_coef > 0 else 'none (KL coefficient 0)'}")
    if args.math.replay:
        console.print(f"batches: the files of --math.replay {args.math.replay}", soft_wrap=True)
    elif problems is not None:
        console.print(rollouts_line(problems, args.rollout.batch_size, args.train.num_episodes))
    console.print(
        f"gradient steps a batch: {'one' if one_step_a_batch(args) else 'several'}; pass for old log-probabilities: "
        f"{'yes' if old_log_probs_needed(args) else 'skipped'}"
    )
    if args.math.lora:
        console.print(lora_line(args.math.lora, args.math.parameters, args.ckpt.output_dir), soft_wrap=True)
    console.print(path_line(args, family), soft_wrap=True)
    console.print(reward_line(args), soft_wrap=True)
    for line in sampling_words(args):
        console.print(line, soft_wrap=True, markup=False)
    console.print(curriculum_line(args.math.curriculum))
    console.print(limit_line(args.math.completion_limit, args.math.truncated))
    console.print(tool_line(args.math.tool, args.vllm.num_engines), soft_wrap=True)
    console.print(checkpoint_line(args))
    console.print(f"rollouts kept on disk: {args.math.keep_rollouts}")


def path_line(args: GRPOArguments, family: Family | None) -> str:
    """How batches go through the policy, and what is lost where rows are padded."""
    if args.math.shared_prefix:
        if family is None or family.shares_prompts:
            return "training: rows without padding, the completions of a group behind one copy of their prompt"
        return f"training: a row for each sequence, without logits kept: {family.why_rows()}"
    why = padded_for(functools.partial(of, args)) or "--math.shared_prefix off"
    return (
        f"training: padded batches, for {why}: prompts are computed for each completion, all logits are kept, and "
        "completions without advantage are computed, too"
    )


def of(args: GRPOArguments, flag: str) -> Any:
    """The value of a dotted flag."""
    return functools.reduce(getattr, flag.split("."), args)


def reward_line(args: GRPOArguments) -> str:
    """What a completion is paid."""
    if args.reward.remote_url != ["agent"]:
        return f"reward: of {', '.join(args.reward.remote_url or [str(args.reward.model_name_or_path)])}"
    paid = args.math.rewards
    words = f"{paid.correct_reward:g} if correct, {paid.format_reward:g} if wrong in correct format, else 0"
    words = f"reward: {args.math.reward_parts or words}"
    if args.math.judge:
        words += f"; {args.math.judge.model} judges what the grader cannot"
    if args.math.majority_labels:
        words += "; a majority takes the place of a missing gold answer"
    return words


def rollouts_line(prompts: int, batch_size: int, episodes: int) -> str:
    """How many rollout batches the problems make, and what is left out."""
    batches, rest = divmod(prompts, batch_size)
    words = f"problems: {prompts}, {batches} batches of {batch_size} an episode"
    left_out = f"; the last {rest} of an episode fill no batch and are left out" if rest else ""
    return f"{words}, {episodes} episodes{left_out}" if episodes > 1 else words + left_out


def curriculum_line(settings: CurriculumSettings) -> str:
    """What the run goes by when it draws problems."""
    words = [f"curriculum: {settings.name}"]
    if settings.stages:
        words.append(", ".join(f"up to difficulty {value:g} from step {step}" for step, value in settings.stages))
    if settings.difficulty_key:
        words.append(f"difficulty from column {settings.difficulty_key}")
    if settings.pass_rate_key:
        words.append(f"base pass rates from column {settings.pass_rate_key}")
    if settings.name not in (UNIFORM, "staged") and settings.learn:
        words.append("pass rates learned from rollouts")
    return "; ".join(words)


def limit_line(settings: LimitSettings, truncated: str) -> str:
    """What a completion may have, and what becomes of one that was cut off."""
    if settings.stages:
        limit = ", ".join(f"{tokens} tokens from step {step}" for step, tokens in settings.stages)
    elif settings.grow_at is not None:
        limit = (
            f"{settings.start} tokens, times {settings.grow_by:g} up to {settings.grow_to} when more than "
            f"{settings.grow_at:.0%} of {settings.grow_after} steps' are cut off"
        )
    else:
        limit = f"{settings.start} tokens" if settings.start else "as many tokens as the context holds"
    return f"completion limit: {limit}; one that was cut off is {TRUNCATED[truncated]}"


def tool_line(settings: RolloutTool | None, engines: int) -> str:
    """What the model may call, and what that may take of each engine's node."""
    if settings is None:
        return "tool: none"
    kernels = settings.kernels or "as many as half of a node's memory has room for:"
    return (
        f"tool: {PYTHON}, up to {settings.calls} calls a completion of {settings.seconds:g} s of CPU time each; "
        f"{kernels} interpreters of up to {settings.memory_mb} MiB for each of {engines} engines, isolation: "
        f"{settings.isolation}; the completion limit holds for the model's tokens and the tool's together"
    )


def checkpoint_line(args: GRPOArguments) -> str:
    """How often, how large, how many."""
    steps, size = args.ckpt.save_steps, checkpoint_bytes(args)
    if steps == -1:
        return "checkpoints: none, a kill loses the run (--ckpt.save_steps)"
    often = f"every {steps} steps" if steps else f"as often as saving takes no more than {SHARE:.0%} of the time"
    return f"checkpoints: {often}; {f'{size / GIB:.1f} GiB each, ' if size else ''}{args.ckpt.max_num} are kept"
