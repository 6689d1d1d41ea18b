"""`sft --dry-run`: the resolved configuration, and the memory a process would need."""

import json
from types import SimpleNamespace

from openrlhf_math.data import chat_date
from openrlhf_math.modeling.families import Family
from openrlhf_math.sft.inputs import settings_of
from openrlhf_math.sft.settings import data_parallel_ranks, processes
from openrlhf_math.training.lora import lora_line

GIB = 2**30


def model_state_bytes(
    parameters: int, ranks: int, zero_stage: int, offload: bool, adapters: int | None = None
) -> float:
    """Bytes of model states on each device. adapters: their parameters, if they alone are trained.

    Mixed precision keeps bf16 weights and gradients (2 bytes each a parameter), fp32 weights and two Adam moments (12).
    ZeRO shards the last from stage 1 on, gradients from stage 2, weights from stage 3; offloaded, the 12 lie in CPU
    memory. ZeRO, https://arxiv.org/abs/1910.02054, section 3.
    """
    trained = parameters if adapters is None else adapters
    weights, gradients, adam = 2.0 * (parameters + (adapters or 0)), 2.0 * trained, 12.0 * trained
    if zero_stage >= 1:
        adam /= ranks
    if zero_stage >= 2:
        gradients /= ranks
    if zero_stage >= 3:
        weights /= ranks
    return weights + gradients + (0 if offload else adam)


def print_plan(args: SimpleNamespace, family: Family | None = None) -> None:
    """Print what a run would do; start nothing. family: of the model, None if not looked up."""
    print(json.dumps(settings_of(args), indent=2))
    ranks = data_parallel_ranks(args.ds.ring_attn_size, args.ds.tensor_parallel_size)
    micro_batches = args.train.batch_size // (args.train.micro_batch_size * ranks)
    print(f"processes: {processes()} ({args.math.device}), {ranks} with their own rows, ZeRO-{args.ds.zero_stage}")
    print(
        f"a step: {args.train.batch_size} rows of at most {args.data.max_len} tokens, {micro_batches} micro batch(es) "
        f"of {args.train.micro_batch_size} a process; loss on the completions"
    )
    print(path_line(args, family))
    if args.math.chat_date:
        print(chat_date.line(args.math.chat_date))
    size = args.math.parameters
    if size:
        adapters = args.math.lora.parameters if args.math.lora else None
        states = model_state_bytes(size, ranks, args.ds.zero_stage, args.ds.adam_offload, adapters)
        where = ", Adam's in CPU memory" if args.ds.adam_offload else ""
        print(f"model states: {states / GIB:.1f} GiB on each device{where}; activations and logits come on top")
    if args.math.lora:
        print(lora_line(args.math.lora, size, args.ckpt.output_dir))
    saves = args.ckpt.save_steps
    print(f"checkpoints: {f'every {saves} steps' if saves > 0 else 'none, a kill loses the run (--ckpt.save_steps)'}")


def path_line(args: SimpleNamespace, family: Family | None) -> str:
    """How batches go through the model."""
    if args.ds.ring_attn_size > 1:
        return (
            f"training: rows of a micro batch packed into one, which {args.ds.ring_attn_size} processes share by ring "
            "attention; all logits are kept"
        )
    if family is None or family.shares_prompts:
        return "training: rows of a micro batch packed into one without padding, without logits kept"
    return f"training: a row for each sequence, without logits kept: {family.why_rows()}"
