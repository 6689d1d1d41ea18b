"""Flags that are checked before Ray starts: ranges of numbers, the critic's, devices', Weights & Biases', extras.

An extra is a package that only some flags need: flash-attn, which OpenRLHF's ring attention and packing use, or Liger.
"""

import argparse
import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from openrlhf_math.arguments import RLArguments, SFTArguments
from openrlhf_math.data.chat_date import FLAG as DATE_FLAG
from openrlhf_math.data.chat_date import add_date_flag
from openrlhf_math.errors import UserError
from openrlhf_math.modeling import SHARED_PREFIX
from openrlhf_math.rewards.outcome import LEAST_MEMORY
from openrlhf_math.training.schedule import SCHEDULERS

HAS_CRITIC = "gae"
CRITIC_FLAG = f"--algo.advantage.estimator {HAS_CRITIC}"  # what asks for a critic
# Flags that nothing reads without one, and their plain values.
OF_A_CRITIC = {"critic.model_name_or_path": None, "critic.freezing_steps": -1}


def settle_critic(flags: dict) -> None:
    """Name the critic's model where OpenRLHF would choose it later. flags: by dotted name, changed in place.

    Raises UserError for flags of a critic where there is none.
    """
    if flags["algo.advantage.estimator"] != HAS_CRITIC:
        for name, plain in OF_A_CRITIC.items():
            if flags[name] not in (plain, None):
                raise UserError(f"--{name} {flags[name]}: only {CRITIC_FLAG} has a critic; leave the flag out")
        return
    if flags["critic.model_name_or_path"] is None:
        scored = flags["reward.model_name_or_path"] if not _is_graded(flags) else None
        flags["critic.model_name_or_path"] = scored.split(",")[0] if scored else flags["actor.model_name_or_path"]


def _is_graded(flags: dict) -> bool:
    """Whether rewards come from an agent or a server, and not from a model of this run."""
    return bool(flags["train.agent_func_path"] or flags["reward.remote_url"])


def has_reward_model(flags: dict) -> bool:
    """Whether a model of this run gives the rewards, which are unknown until the batch is complete."""
    return bool(flags["reward.model_name_or_path"]) and not _is_graded(flags)


def check_frozen_steps(frozen: int, batches: int) -> None:
    """Raise UserError if the policy is never trained. frozen: `--critic.freezing_steps`. batches: of the run."""
    if frozen >= 0 and frozen + 1 >= batches:
        raise UserError(
            f"--critic.freezing_steps {frozen} trains the critic alone in the first {frozen + 1} steps, and the run "
            f"has {batches}; lower it"
        )


def check_shares(flag: str, shares: str | None, sets_flag: str, sets: str) -> None:
    """Raise UserError unless there is a probability for each of several sets, and they add up to 1.

    shares, sets: separated by commas; shares None for none.
    """
    if shares is None:
        return
    number = len(sets.split(","))
    try:
        found = [float(one) for one in shares.split(",")]
    except ValueError:
        found = []
    if len(found) != number or not all(0 < one <= 1 for one in found) or abs(sum(found) - 1) > 1e-6:
        raise UserError(
            f"--{flag} {shares}: give a share above 0 for each of the {number} sets of --{sets_flag}, 1 in all"
        )


ON_A_CPU = ("eager", "sdpa")  # of Transformers' attention, forward and backward


def check_parallel(flags: dict, processes: int) -> None:
    """Raise UserError unless rings and tensor-parallel groups divide the training processes. flags: by dotted name."""
    names = [name for name in ("ds.ring_attn_size", "ds.tensor_parallel_size") if flags[name] > 1]
    if processes % math.prod(flags[name] for name in names):
        given = " times ".join(f"--{name} {flags[name]}" for name in names)
        raise UserError(f"{given} does not divide the {processes} training process(es); lower it")


def check_kernels(flags: dict, device: str, padded: bool) -> None:
    """Raise UserError for kernels that do not run on a device. padded: whether `--ds.attn_implementation` is used."""
    if flags["ds.use_liger_kernel"] and device == "cpu":
        raise UserError("--ds.use_liger_kernel: Liger's kernels do not run on a CPU; leave it out")
    if flags["ds.param_dtype"] == "fp16" and device == "cpu":
        raise UserError("--ds.param_dtype fp16: DeepSpeed does not train in fp16 on a CPU; take bf16")
    attention = flags["ds.attn_implementation"]
    if not padded:
        return
    if attention == SHARED_PREFIX:
        raise UserError(f"--ds.attn_implementation {attention} is for rows without padding; leave it out")
    if device == "cpu" and attention not in ON_A_CPU:
        raise UserError(f"--ds.attn_implementation {attention} does not run on a CPU; give {' or '.join(ON_A_CPU)}")


def check_placement(flags: dict, reference: bool) -> None:
    """Raise UserError where models that share devices want more than there are.

    flags: by dotted name, of `grpo`. reference: whether there is a reference model, or a teacher in its place.
    """
    shares_all = flags["train.colocate_all"]
    nodes, devices = size = _size(flags, "actor")
    if shares_all:
        engines, each = flags["vllm.num_engines"], flags["vllm.tensor_parallel_size"]
        if engines * each != nodes * devices:
            raise UserError(
                f"--vllm.num_engines {engines} and --vllm.tensor_parallel_size {each}: engines share the policy's "
                f"{nodes * devices} device(s) and must fill them; change one of these or --actor.num_gpus_per_node"
            )
    if reference and (shares_all or flags["train.colocate_actor_ref"]):
        _check_fits("ref", _size(flags, "ref") == size, size)
    for model in ("critic", "reward") if shares_all else ():
        if flags[f"{model}.model_name_or_path"]:
            _check_fits(model, math.prod(_size(flags, model)) <= nodes * devices, size)


def _size(flags: dict, model: str) -> tuple[int, int]:
    """Nodes, and devices of each."""
    return flags[f"{model}.num_nodes"], flags[f"{model}.num_gpus_per_node"]


def _check_fits(model: str, fits: bool, size: tuple[int, int]) -> None:
    if not fits:
        raise UserError(
            f"--{model}.num_nodes and --{model}.num_gpus_per_node: this model shares the policy's devices, {size[0]} "
            f"node(s) of {size[1]}; leave both out"
        )


WANDB_FLAG = "logger.wandb.key"
WANDB_VARIABLE = "WANDB_API_KEY"
FROM_ENVIRONMENT = "env"  # the value of the flag that leaves the key out of the command line
HIDDEN = "hidden"
WANDB_HELP = (
    f"log to Weights & Biases, too, with this key; {FROM_ENVIRONMENT} takes the one in ${WANDB_VARIABLE} or of `wandb "
    "login`, and no one sees it in the list of processes"
)


def hide_wandb_key(flags: dict) -> None:
    """Leave only in `flags` that there is a key. Raises UserError if wandb is not installed, or has no key to go by."""
    key = flags[WANDB_FLAG]
    if not key:
        return
    if find_spec("wandb") is None:
        raise UserError(
            f"--{WANDB_FLAG}: wandb is not installed; pip install wandb, or leave the flag out: metrics.jsonl and "
            "TensorBoard's records are written in any case"
        )
    if key not in (FROM_ENVIRONMENT, HIDDEN):
        os.environ[WANDB_VARIABLE] = key
        sys.argv[:] = [word.replace(key, FROM_ENVIRONMENT) for word in sys.argv]  # wandb stores the command line
    elif not _known_key():
        if os.environ.get("WANDB_MODE") != "offline":
            raise UserError(
                f"--{WANDB_FLAG} {FROM_ENVIRONMENT}: there is no key; set ${WANDB_VARIABLE}, run `wandb login`, or set "
                "WANDB_MODE=offline"
            )
        os.environ[WANDB_VARIABLE] = HIDDEN  # or OpenRLHF would ask wandb to log in
    flags[WANDB_FLAG] = HIDDEN


def _known_key() -> bool:
    if os.environ.get(WANDB_VARIABLE):
        return True
    import wandb

    return bool(wandb.api.api_key)  # of `wandb login`, in ~/.netrc


PACKAGES = {"flash_attn": "flash-attn", "ring_flash_attn": "ring-flash-attn"}
LIGER = "liger_kernel"


def check_installed(args: SFTArguments | RLArguments) -> None:
    """Raise UserError if a run needs packages that are not installed. args: resolved settings of `grpo` or `sft`."""
    if args.ds.use_liger_kernel and importlib.util.find_spec(LIGER) is None:
        raise UserError(
            "--ds.use_liger_kernel needs liger-kernel, not installed here: install it or leave the flag out"
        )
    ring = args.ds.ring_attn_size
    if ring > 1:
        flag, modules = f"--ds.ring_attn_size {ring}", list(PACKAGES)
    elif args.ds.packing_samples:
        dynamic = getattr(args.train, "dynamic_batch_enable", False)  # OpenRLHF switches packing on with it
        flag, modules = "--train.dynamic_batch_enable" if dynamic else "--ds.packing_samples", ["flash_attn"]
    elif args.ds.attn_implementation == "flash_attention_2":
        flag, modules = "--ds.attn_implementation flash_attention_2", ["flash_attn"]
    else:
        return
    missing = [PACKAGES[module] for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"{flag} needs {' and '.join(missing)}, not installed here: make flash-attn (on a machine with NVIDIA "
            "devices), or leave the flag out"
        )


def json_object(text: str) -> dict:
    """The type of a flag. Raises ArgumentTypeError for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object; give one such as '{{\"name\": 1}}'")
    return value


TEMPLATE_FLAG = "--chat-template-kwargs"


def add_template_flags(group: argparse._ArgumentGroup) -> None:
    """Of the commands that train."""
    group.add_argument(
        TEMPLATE_FLAG,
        dest="math.chat_template_kwargs",
        type=json_object,
        default={},
        metavar="JSON",
        help="variables of the model's chat template, such as '{\"enable_thinking\": false}'",
    )
    add_date_flag(group, "math.chat_date")


def check_template_used(flags: dict, ours: dict) -> None:
    """Raise UserError for flags of a chat template where there is none. ours: those of this package."""
    for flag, value in ((TEMPLATE_FLAG, ours["math.chat_template_kwargs"]), (DATE_FLAG, ours["math.chat_date"])):
        if value and not flags["data.apply_chat_template"]:
            raise UserError(f"{flag}: --no-data.apply_chat_template renders prompts without the chat template")


@dataclass(frozen=True)
class Rule:
    """words: the values that `holds` is true for. NaN must not hold, which no comparison does."""

    words: str
    holds: Callable[[float], bool]


COUNT = Rule("1 or more", lambda value: value >= 1)
NOT_BELOW_ZERO = Rule("0 or more", lambda value: value >= 0)
INTERVAL = Rule("a number of steps, or -1", lambda value: value >= 1 or value == -1)
POSITIVE = Rule("a finite number above 0", lambda value: 0 < value < math.inf)
ABOVE_ZERO = Rule("a number above 0", lambda value: value > 0)
NOT_NEGATIVE = Rule("a finite number, 0 or more", lambda value: 0 <= value < math.inf)
FINITE = Rule("a finite number", math.isfinite)
NUMBER = Rule("a number", lambda value: value == value)
SHARE = Rule("a number from 0 to 1", lambda value: 0 <= value <= 1)
BELOW_ONE = Rule("a number from 0 to below 1", lambda value: 0 <= value < 1)

OPTIMISER = {
    "muon.lr": POSITIVE, "muon.momentum": BELOW_ONE, "muon.ns_steps": COUNT, "adam.lr": POSITIVE,
    "adam.betas": BELOW_ONE, "adam.eps": POSITIVE, "adam.weight_decay": NOT_NEGATIVE, "lr_warmup_ratio": SHARE,
    "min_lr_ratio": SHARE, "max_norm": NOT_NEGATIVE,
}  # fmt: skip

COUNTS = (
    "actor.num_nodes", "actor.num_gpus_per_node", "critic.num_nodes", "critic.num_gpus_per_node", "ref.num_nodes",
    "ref.num_gpus_per_node", "reward.num_nodes", "reward.num_gpus_per_node", "vllm.num_engines",
    "vllm.tensor_parallel_size", "ds.zpg", "ds.tensor_parallel_size", "ds.ring_attn_size", "ds.ring_attn_head_stride",
    "train.batch_size", "train.micro_batch_size", "train.max_epochs", "train.num_episodes", "train.max_tokens_per_gpu",
    "train.async_queue_size", "rollout.batch_size", "rollout.micro_batch_size",
    "rollout.n_samples_per_prompt", "rollout.max_new_tokens", "rollout.max_tokens_per_gpu", "data.max_len",
    "data.max_samples", "eval.n_samples_per_prompt", "ds.lora.alpha", "ckpt.max_num", "algo.kl.horizon",
    "math.grading_workers",
)  # fmt: skip

MOST_TEMPERATURE = 2  # that vLLM takes
SAMPLING = {
    "rollout.temperature": Rule(
        f"more than 0 and at most {MOST_TEMPERATURE}: a group teaches by the differences of its completions",
        lambda value: 0 < value <= MOST_TEMPERATURE,
    ),
    "rollout.top_p": Rule(
        "1, or leave it out: the trainer's log-probabilities are of all tokens, those of a cut-off distribution differ",
        lambda value: value == 1,
    ),
    "eval.temperature": Rule(f"0 to {MOST_TEMPERATURE}", lambda value: 0 <= value <= MOST_TEMPERATURE),
    "data.max_images_per_prompt": Rule(
        "0, or leave it out: problems are text, no pictures are read", lambda value: value == 0
    ),
}

LOSS = {
    **dict.fromkeys(("actor.eps_clip", "actor.eps_clip_low_high", "critic.value_clip", "algo.kl.target"), POSITIVE),
    **dict.fromkeys(("algo.kl.init_coef", "actor.aux_loss_coef", "model.aux_loss_coef"), NOT_NEGATIVE),
    **dict.fromkeys(("algo.advantage.gamma", "algo.advantage.lambd"), SHARE),
    **dict.fromkeys(("reward.clip_range", "algo.dynamic_filtering_range"), NUMBER),
    "algo.advantage.is_correction_threshold": NOT_BELOW_ZERO,
    "actor.entropy_coef": FINITE,
    "actor.dual_clip": Rule("a finite number above 1", lambda value: 1 < value < math.inf),
    "critic.freezing_steps": Rule("a number of steps, or -1", lambda value: value >= -1),
    "reward.overlong_buffer_len": POSITIVE,
    "reward.overlong_penalty_factor": NOT_NEGATIVE,
    "reward.stop_properly_penalty_coef": Rule("a finite number, 1 at the most", lambda value: -math.inf < value <= 1),
}

RULES = {
    **dict.fromkeys(COUNTS, COUNT),
    **{f"{part}{name}": rule for part in ("actor.", "critic.", "") for name, rule in OPTIMISER.items()},
    "rollout.vllm_generate_batch_size": NOT_BELOW_ZERO,  # 0: as many as a batch
    **SAMPLING,
    **LOSS,
    **dict.fromkeys(("data.dataloader_num_workers", "ds.lora.rank"), NOT_BELOW_ZERO),
    **dict.fromkeys(("ckpt.save_steps", "eval.steps", "logger.logging_steps"), INTERVAL),
    "ds.zero_stage": Rule("0, 1, 2 or 3", lambda value: value in (0, 1, 2, 3)),
    "ds.lora.dropout": BELOW_ONE,
    "ckpt.max_mem": ABOVE_ZERO,
    "train.seed": Rule("0 to 2^32 - 1", lambda value: 0 <= value < 1 << 32),
    "train.ema_beta": BELOW_ONE,
    "vllm.gpu_memory_utilization": Rule("a share above 0, 1 at the most", lambda value: 0 < value <= 1),
    **dict.fromkeys(("math.format_reward", "math.correct_reward"), FINITE),
    **dict.fromkeys(("math.max_bad_golds", "math.max_bad_rows"), SHARE),
    "math.max_logprob_gap": ABOVE_ZERO,
    "math.engine_noise": NOT_NEGATIVE,
    "math.correct_below_ess": Rule("a share above 0, 1 at the most", lambda value: 0 < value <= 1),
    "math.sapo_tau": POSITIVE,
    "math.loss_length": COUNT,
    "math.teacher_coef": POSITIVE,
    **dict.fromkeys(("math.teacher_concurrency", "math.teacher_tries"), COUNT),
    "math.teacher_timeout": POSITIVE,
    "math.reward_coef": NOT_NEGATIVE,
    "math.grading_seconds": POSITIVE,
    "math.grading_gib": Rule(
        f"{LEAST_MEMORY / 2**30:g} or more", lambda value: LEAST_MEMORY / 2**30 <= value < math.inf
    ),
}

# Flags with a lower and an upper bound.
PAIRS = ("reward.clip_range", "algo.dynamic_filtering_range", "algo.advantage.is_correction_threshold")


def check_values(flags: dict) -> None:
    """flags: by name, without dashes; None where nothing was given. Raises UserError for a value that cannot work."""
    for name, value in flags.items():
        if name in RULES and value is not None:
            _check(name, value)
        if name.split(".")[-1] == "lr_scheduler" and value not in SCHEDULERS:
            raise UserError(f"--{name} {value}: give one of {', '.join(SCHEDULERS)}")
    correct, format_only = flags.get("math.correct_reward"), flags.get("math.format_reward")
    if correct is not None and format_only > correct:
        raise UserError(
            f"--math.format_reward {format_only:g} is above --math.correct_reward {correct:g}, so a right answer would "
            "be a loss; lower it"
        )


def _check(name: str, value: Any) -> None:
    values: list[Any] = list(value) if isinstance(value, Iterable) else [value]
    shown = " ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in values)
    if not all(map(RULES[name].holds, values)):
        raise UserError(f"--{name} {shown}: give {RULES[name].words}")
    if name in PAIRS and len(values) == 2 and not values[0] < values[1]:
        raise UserError(f"--{name} {shown}: give a lower bound and a higher one")
