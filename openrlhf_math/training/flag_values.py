"""Valid ranges of numeric flags, checked before use."""

import argparse
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from openrlhf_math.data.chat_date import FLAG as DATE_FLAG
from openrlhf_math.data.chat_date import add_date_flag
from openrlhf_math.errors import UserError
from openrlhf_math.rewards.outcome import LEAST_MEMORY


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
