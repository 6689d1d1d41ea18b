"""Flags of other OpenRLHF releases, as its published scripts have them, in the names of the release that is pinned.

OpenRLHF 0.8 to 0.10 have names with underscores (`--actor_num_nodes`), later ones have sections (`--actor.num_nodes`),
and the newest snapshot has `--fsdp.NAME` where the pinned release has `--ds.NAME`. A flag whose words are those of one
flag of the pinned release becomes that flag; what was renamed otherwise is in the tables here.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Rewrite = Callable[[list[str]], list[str]]  # from a flag's values to the arguments that replace it


def _to(*flags: str) -> Rewrite:
    return lambda values: [word for flag in flags for word in (f"--{flag}", *values)]


def _set(*words: str) -> Rewrite:
    return lambda values: list(words)


CORRECTION = "--algo.advantage.is_correction_level", "--algo.advantage.is_correction_mode"
CORRECTIONS = {
    "tis": ("token", "clip"),
    "icepop": ("token", "mask"),
    "seq-mask-tis": ("seq", "mask"),
}


def _correction(values: list[str]) -> list[str]:
    pair = CORRECTIONS.get(" ".join(values))
    return [word for each in zip(CORRECTION, pair, strict=True) for word in each] if pair else []


COMMON: dict[str, Rewrite] = {
    "save_path": _to("ckpt.output_dir"),
    "save_hf_ckpt": _to("ckpt.save_hf"),
    "disable_ds_ckpt": _to("ckpt.disable_ds"),
    "max_ckpt_num": _to("ckpt.max_num"),
    "max_ckpt_mem": _to("ckpt.max_mem"),
    "load_checkpoint": _to("ckpt.load_enable"),
    "use_ds_universal_ckpt": _to("ds.use_universal_ckpt"),
    "micro_train_batch_size": _to("train.micro_batch_size"),
    "bf16": _set("--ds.param_dtype", "bf16"),
    "flash_attn": _set("--ds.attn_implementation", "flash_attention_2"),
    "ring_head_stride": _to("ds.ring_attn_head_stride"),
    "full_determinism": _to("train.full_determinism_enable"),
    "use_wandb": _to("logger.wandb.key"),
    "use_tensorboard": _to("logger.tensorboard_dir"),
}
GRPO: dict[str, Rewrite] = COMMON | {
    "pretrain": _to("actor.model_name_or_path"),
    "reward_pretrain": _to("reward.model_name_or_path"),
    "critic_pretrain": _to("critic.model_name_or_path"),
    "remote_rm_url": _to("reward.remote_url"),
    "prompt_data": _to("data.prompt_dataset"),
    "prompt_data_probs": _to("data.prompt_probs"),
    "micro_rollout_batch_size": _to("rollout.micro_batch_size"),
    "n_samples_per_prompt": _to("rollout.n_samples_per_prompt"),
    "temperature": _to("rollout.temperature"),
    "actor_learning_rate": _to("actor.adam.lr"),
    "critic_learning_rate": _to("critic.adam.lr"),
    "adam_betas": _to("actor.adam.betas", "critic.adam.betas"),
    "l2": _to("actor.adam.weight_decay", "critic.adam.weight_decay"),
    "max_norm": _to("actor.max_norm", "critic.max_norm"),
    "lr_scheduler": _to("actor.lr_scheduler", "critic.lr_scheduler"),
    "lr_warmup_ratio": _to("actor.lr_warmup_ratio", "critic.lr_warmup_ratio"),
    "init_kl_coef": _to("algo.kl.init_coef"),
    "use_kl_loss": _to("algo.kl.use_loss"),
    "entropy_loss_coef": _to("actor.entropy_coef"),
    "gradient_checkpointing": _to("actor.gradient_checkpointing_enable"),
    "gradient_checkpointing_use_reentrant": _to("actor.gradient_checkpointing_reentrant"),
    "freezing_actor_steps": _to("critic.freezing_steps"),
    "normalize_reward": _to("reward.normalize_enable"),
    "ref_reward_offload": _set("--ref.offload", "--reward.offload"),
    "no_advantage_std_norm": _to("algo.advantage.no_std_norm"),
    "dynamic_filtering": _to("algo.dynamic_filtering_enable"),
    "dynamic_filtering_reward_range": _to("algo.dynamic_filtering_range"),
    "use_dynamic_batch": _to("train.dynamic_batch_enable"),
    "colocate_all_models": _to("train.colocate_all"),
    "deepspeed_enable_sleep": _to("ds.enable_sleep"),
    "async_train": _to("train.async_enable"),
    "partial_rollout": _to("train.partial_rollout_enable"),
    "enable_vllm_is_correction": lambda values: _correction(["tis"]),
    "vllm_is_correction_type": _correction,
    "vllm_is_truncated_threshold": _to("algo.advantage.is_correction_threshold"),
    "use_icepop": _set(CORRECTION[1], "mask"),
    "actor_init_on_gpu": _set(),  # later releases always do
}
GRPO |= {
    "vllm_enable_is_correction": GRPO["enable_vllm_is_correction"],
    "algo.advantage.is_correction_enable": GRPO["enable_vllm_is_correction"],
    "algo.advantage.is_correction_type": _correction,
    "use_vllm_is_correction": GRPO["enable_vllm_is_correction"],
}
SFT: dict[str, Rewrite] = COMMON | {
    "pretrain": _to("model.model_name_or_path"),
    "dataset": _to("data.dataset"),
    "dataset_split": _to("data.dataset_split"),
    "learning_rate": _to("adam.lr"),
    "l2": _to("adam.weight_decay"),
    "gradient_checkpointing": _to("model.gradient_checkpointing_enable"),
    "gradient_checkpointing_use_reentrant": _to("model.gradient_checkpointing_reentrant"),
    "pretrain_mode": _to("model.pretrain_mode_enable"),
    "aux_loss_coef": _to("model.aux_loss_coef"),
}
# Releases up to 0.10 bound prompt and completion each, later ones the whole and, if asked for, the completion.
PROMPT_LENGTH, COMPLETION_LENGTH, OLD_LENGTH = "prompt_max_len", "generate_max_len", 1024


# What only a critic reads, and what gives one.
RECIPE = "--math.recipe"


@dataclass(frozen=True, slots=True)
class Translated:
    """arguments: in the pinned release's names. changes: old flags with what took their place, without plain values."""

    arguments: list[str]
    changes: dict[str, str]


def translated(arguments: Sequence[str], parser: argparse.ArgumentParser, table: dict[str, Rewrite]) -> Translated:
    """The command line with old names replaced. Any other unknown one stays, for the parser to refuse."""
    known = {option for action in parser._actions for option in action.option_strings}
    dotted = [option[2:] for option in known if option.startswith("--") and not option.startswith("--no-")]
    found, changes, lengths = [], {}, {}
    for flag, values in _split(arguments):
        name = flag.removeprefix("--")
        if not flag.startswith("--") or flag in known:
            found += [flag, *values] if flag else values
            continue
        if table is GRPO and name in (PROMPT_LENGTH, COMPLETION_LENGTH) and len(values) == 1 and values[0].isdecimal():
            lengths[name] = int(values[0])
            continue
        if name in table:
            new = table[name](values)
        elif same := _same_words(name, dotted):
            new = [same, *values]
        else:
            found += [flag, *values]
            continue
        found += new
        shown = [word for word in new if word not in values]  # a key is not repeated
        changes[flag] = " ".join(shown) or "no effect in this release"
    if lengths:
        completion = lengths.get(COMPLETION_LENGTH, OLD_LENGTH)
        total = lengths.get(PROMPT_LENGTH, OLD_LENGTH) + completion
        new = ["--data.max_len", str(total), "--rollout.max_new_tokens", str(completion)]
        found += new
        changes[" ".join(f"--{name}" for name in lengths)] = " ".join(new)
    return Translated(found, changes)


def _split(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag with the values behind it; `--flag=value` is taken apart. A number below 0 is a value."""
    flag = ""
    values: list[str] = []
    for word in arguments:
        if word.startswith("--"):
            if flag or values:
                yield flag, values
            flag, equals, value = word.partition("=")
            values = [value] if equals else []
        else:
            values.append(word)
    if flag or values:
        yield flag, values


def _same_words(name: str, dotted: list[str]) -> str:
    """The one flag whose words are these, or end with these; "" if there are several, or if there is none."""
    words = name.replace(".", "_")
    if name.startswith("fsdp."):
        words = f"ds_{words.removeprefix('fsdp_')}"
    exact = [flag for flag in dotted if flag.replace(".", "_") == words]
    ends = [flag for flag in dotted if flag.replace(".", "_").endswith(f"_{words}")]
    flags = exact or ends
    return f"--{flags[0]}" if len(flags) == 1 else ""


def wants_upstream(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for OpenRLHF's own defaults."""
    return dict(_split(arguments)).get(RECIPE) == ["none"]


def given_flags(arguments: Sequence[str]) -> list[str]:
    """The flags of a command line, as they are typed."""
    return [flag for flag, _ in _split(arguments) if flag]
