"""Flags of OpenRLHF that are checked before Ray starts: the critic's, devices', Weights & Biases' key, extras.

An extra is a package that only some flags need: flash-attn, which OpenRLHF's ring attention and packing use, or Liger.
"""

import importlib.util
import math
import os
import sys
from importlib.util import find_spec
from types import SimpleNamespace

from openrlhf_math.errors import UserError
from openrlhf_math.modeling import SHARED_PREFIX

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


def check_installed(args: SimpleNamespace) -> None:
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
