"""`prm train --dry-run`: the resolved configuration, and the memory a process would need."""

import json
from types import SimpleNamespace

from openrlhf_math.sft.inputs import settings_of
from openrlhf_math.sft.plan import GIB, model_state_bytes
from openrlhf_math.sft.settings import processes


def print_plan(args: SimpleNamespace) -> None:
    """Print what a run would do; start nothing."""
    print(json.dumps(settings_of(args), indent=2))
    ranks = processes()
    micro_batches = args.train.batch_size // (args.train.micro_batch_size * ranks)
    print(f"processes: {ranks} ({args.math.device}), ZeRO-{args.ds.zero_stage}")
    print(
        f"a step: {args.train.batch_size} solutions of at most {args.data.max_len} tokens, {micro_batches} micro "
        f"batch(es) of {args.train.micro_batch_size} a process, each one row without padding; loss at the step tags"
    )
    print(f"attention: {args.ds.attn_implementation}")
    if args.math.parameters:
        states = model_state_bytes(args.math.parameters, ranks, args.ds.zero_stage, args.ds.adam_offload)
        where = ", Adam's in CPU memory" if args.ds.adam_offload else ""
        print(f"model states: {states / GIB:.1f} GiB on each device{where}; activations come on top")
    saves = args.ckpt.save_steps
    print(f"checkpoints: {f'every {saves} steps' if saves > 0 else 'none, a kill loses the run (--ckpt.save_steps)'}")
