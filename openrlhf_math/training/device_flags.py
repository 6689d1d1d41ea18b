"""Flags that ask devices for what they cannot do: checked before Ray, where OpenRLHF would fail late or wait."""

import math

from openrlhf_math.errors import UserError
from openrlhf_math.modeling import SHARED_PREFIX

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
    if shares_all and not flags["train.async_enable"]:
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
