"""How processes share a machine: threads, engine memory and ports, the memory each holds, and its release."""

import contextlib
import ctypes
import difflib
import importlib.util
import os
import random
import resource
import socket
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil

from openrlhf_math.data import chat_date
from openrlhf_math.errors import UserError
from openrlhf_math.modeling.families import recurrent_layer
from openrlhf_math.patches.remote_code import VARIABLE as REMOTE_CODE
from openrlhf_math.patches.remote_code import remote_code_trusted

# Below this many parameters a matrix product is small: two threads help a batch of whole sequences, none a decode step,
# whose engine shares the cores with the process that feeds it.
SMALL_PARAMETERS = 30_000_000

# Tokens of a block of the CPU engines' KV cache, and the most memory a rollout engine's cache takes there.
CPU_BLOCK = 32
CPU_CACHE_BYTES = 4 << 30
CPU_SEQUENCES = 256  # at once in an engine, by default
UNKNOWN_CONTEXT = 4096  # of a model whose config does not say

# How long an OpenMP thread without work keeps its core, in turns of a loop: some microseconds. GNU's default is
# milliseconds, in which it takes the core from whatever else runs; two threads are then slower than one.
SPIN_COUNT = 2000

TASK_EVENTS = "RAY_task_events_report_interval_ms"
USAGE = "VLLM_NO_USAGE_STATS"

# Libraries that would write between the lines of a command's own display; the user's settings come first.
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

# Up to this many tokens plain matrix products beat PyTorch's fused attention on the CPU.
SHORT_CONTEXT = 512


def find_device() -> str:
    """ "cuda" if this machine has an NVIDIA device, else "cpu". Asks the driver, so that torch is not imported."""
    return "cuda" if Path("/dev/nvidiactl").exists() else "cpu"


def attention(device: str, context: int) -> str:
    """Transformers' attention implementation. context: most tokens of a sequence.

    PyTorch's fused attention for the CPU is made for long sequences: forward and backward over 150 tokens take it
    twice the time of plain matrix products, over 1000 tokens a third (`tests/benchmarks/attention.py`).
    """
    if device == "cuda":
        return "flash_attention_2" if importlib.util.find_spec("flash_attn") else "sdpa"
    return "eager" if context <= SHORT_CONTEXT else "sdpa"


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def worker_environment(device: str, parameters: int) -> dict[str, str]:
    """Environment variables of every Ray worker and vLLM process of a run.

    parameters: number of model parameters, 0 if unknown.
    """
    environment = {
        "TOKENIZERS_PARALLELISM": "true",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default, without its warning
        # Ray's head would keep 3.5 kB of every call, up to 100,000 of them, for a dashboard that shows them.
        TASK_EVENTS: os.environ.get(TASK_EVENTS, "0"),
        # vLLM would send a description of the machine and the model to its makers. VLLM_NO_USAGE_STATS=0 lets it.
        USAGE: os.environ.get(USAGE, "1"),
    }
    if remote_code_trusted():
        environment[REMOTE_CODE] = "1"
    if chat_date.VARIABLE in os.environ:
        environment[chat_date.VARIABLE] = os.environ[chat_date.VARIABLE]
    if device == "cuda":
        return environment
    environment |= {"VLLM_LOGGING_LEVEL": "ERROR", "TORCH_CPP_LOG_LEVEL": "ERROR"}  # they warn of not being a GPU
    small = _small(parameters)
    threads = 1 if small else cores()
    return environment | {
        "DS_ACCELERATOR": "cpu",
        # Ray gives an actor one OpenMP thread by default.
        "OMP_NUM_THREADS": str(threads),
        "GOMP_SPINCOUNT": str(SPIN_COUNT),
        # vLLM's CPU backend would pin its threads and leave a core idle; generation and training take turns.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # One engine process, not an engine and a worker: with "nobind" there are no threads to lay out for it.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # Compiling costs 20 s at the first generation, which pays off only in a long run.
        "TORCHDYNAMO_DISABLE": os.environ.get("TORCHDYNAMO_DISABLE", "1"),
    }


def training_threads(parameters: int, processes: int) -> int:
    """OpenMP threads of each of `processes` training processes on this machine's CPU."""
    share = max(1, cores() // processes)
    return min(2, share) if _small(parameters) else share


def _small(parameters: int) -> bool:
    return 0 < parameters < SMALL_PARAMETERS


def enter_environment(device: str, parameters: int, threads: int | None = None) -> dict[str, str]:
    """Give this process the workers' environment, for what runs in it, and return it. Call it before torch is
    imported: OpenMP reads its number of threads once.

    threads: OpenMP's on the CPU, where this process does something else than the workers.
    """
    environment = worker_environment(device, parameters)
    if threads and "OMP_NUM_THREADS" in environment:
        environment["OMP_NUM_THREADS"] = str(threads)
    os.environ.update(environment)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if "torch" in sys.modules and "OMP_NUM_THREADS" in environment:
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
    return environment


def transfer_backend(device: str, colocated: bool) -> str:
    """Which of vLLM's weight transfer engines brings the weights. colocated: engines share the policy's devices."""
    if device == "cpu":
        return "shared_memory"
    return "ipc" if colocated else "nccl"


def inference_arguments(device: str) -> dict[str, object]:
    """vLLM engine arguments for any generation on a device."""
    arguments: dict[str, object] = {
        "worker_extension_cls": "openrlhf_math.colocation.vllm_worker.WorkerExtension",
        "disable_log_stats": True,  # they are not read
        "trust_remote_code": remote_code_trusted(),
    }
    if device == "cpu":
        # vLLM shares whole blocks of a prompt only, and its 128 tokens are more than most prompts have. Its CPU
        # attention wants multiples of 32. Without a size for its cache it would take most of the machine's memory;
        # callers that know the number of sequences ask for less (`cache_bytes`).
        arguments |= {"enforce_eager": True, "block_size": CPU_BLOCK, "kv_cache_memory_bytes": CPU_CACHE_BYTES}
    return arguments


def cache_arguments(device: str, model: str, sequences: int, context: int | None) -> dict[str, object]:
    """vLLM engine arguments of a KV cache on the CPU that holds `sequences` of `context` tokens; empty on a GPU, where
    vLLM measures what is left. context: None for the model's own.

    vLLM takes all it is given, whether it needs it or not. The user's VLLM_CPU_KVCACHE_SPACE (GiB) comes first.
    """
    return {} if device == "cuda" else {"kv_cache_memory_bytes": cache_bytes(model, sequences, context)}


def cache_bytes(model: str, sequences: int, context: int | None) -> int:
    """Bytes of a bfloat16 KV cache that holds `sequences` of `context` tokens, though no more than CPU_CACHE_BYTES and
    enough for one. All of CPU_CACHE_BYTES for a model with recurrent layers, whose states are in the cache too.

    model: directory or hub name. A sequence: 2 (key, value) x layers x key heads x head size x tokens x 2 bytes.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model, trust_remote_code=remote_code_trusted()).get_text_config()
    if recurrent_layer(config):
        return CPU_CACHE_BYTES
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    token = 2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * size * 2
    tokens = context or getattr(config, "max_position_embeddings", None) or UNKNOWN_CONTEXT
    padded = -(-tokens // CPU_BLOCK) * CPU_BLOCK * token
    # vLLM keeps a block for itself.
    return max(min(sequences * padded, CPU_CACHE_BYTES), padded) + 2 * CPU_BLOCK * token


def check_engine_args(flag: str, given: Mapping[str, object], ours: Mapping[str, str]) -> None:
    """Raise UserError, which names `flag`, for a name that vLLM's engine does not have, a value of another type or out
    of the bounds that vLLM declares, or a name that is not for this flag.

    ours: names that are set otherwise, with the flag that does so, "" if none may. Imports vLLM if any are given.
    """
    for name in given.keys() & ours.keys():
        instead = f"; use {ours[name]}" if ours[name] else ""
        raise UserError(f"{flag}: {name} is set by this command{instead}")
    if not given:
        return
    from vllm import EngineArgs

    known = {field.name: field.type for field in fields(EngineArgs)}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise UserError(f"{flag}: vLLM's engine has no {name}{hint}")
        if fault := _type_error(known[name], value) or _bound_error(name, value):
            raise UserError(f"{flag}: {name} is {value!r:.60}; {fault[0].lower()}{fault[1:]:.300}")


def _type_error(declared: Any, value: object) -> str:
    """Why a value is none of the declared type, "" if it is, or if pydantic cannot say: a class of vLLM's own may be
    given as text."""
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    try:
        TypeAdapter(declared).validate_python(value, strict=not isinstance(value, dict | list))
    except ValidationError as error:
        found = error.errors()
        return "" if any(one["type"] in ("is_instance_of", "enum") for one in found) else found[0]["msg"]
    except PydanticSchemaGenerationError:
        return ""
    return ""


def _bound_error(name: str, value: object) -> str:
    """Why a number is out of the bounds that a class of vLLM's configuration gives to a field of this name, else ""."""
    import vllm.config
    from pydantic import TypeAdapter, ValidationError

    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    for config in filter(is_dataclass, vars(vllm.config).values()):
        field = getattr(config, "__pydantic_fields__", {}).get(name)
        if field is None or not field.metadata:
            continue
        try:
            TypeAdapter(Annotated[float, *field.metadata]).validate_python(value)
        except ValidationError as error:
            return error.errors()[0]["msg"]
    return ""


def engine_arguments(device: str, colocated: bool) -> dict[str, object]:
    """vLLM engine arguments of rollouts, in place of OpenRLHF's."""
    arguments = inference_arguments(device) | {
        "weight_transfer_config": {"backend": transfer_backend(device, colocated)},
        "logprobs_mode": "processed_logprobs",  # with the temperature, as the trainer computes them
    }
    if device == "cpu":
        arguments["enable_sleep_mode"] = False
    return arguments


def used_bytes(device: str) -> int:
    """On "cuda" what is taken of this process's device, by anyone; on "cpu" this process's resident memory."""
    if device == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info()
        return total - free
    return psutil.Process().memory_info().rss


def take_peak_bytes(device: str) -> int:
    """The most since the last call: on "cuda" what PyTorch reserved here, on "cpu" this process's resident memory."""
    if device == "cuda":
        import torch

        peak = torch.cuda.max_memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        return peak
    with open("/proc/self/status") as status:
        marks = [int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")]
    # A kernel that refuses to forget gives the peak since the process's start instead.
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    return marks[0] if marks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class HeapTrimmer:
    """Gives memory that was freed back to the system, once the heap has grown by `growth` beyond its smallest.

    glibc keeps what is freed, and tensors whose sizes differ from step to step leave it in pieces that fit no other:
    the demo's policy had grown to 2.3 GiB after 80 steps, and has 1.4 to 1.9 with this. The next step has to fetch
    again what was given back, so it is not done at every one.
    """

    def __init__(self, growth: float = 1.25) -> None:
        self.growth = growth
        self.trimmed: float = 0  # resident bytes after it was trimmed last

    def __call__(self) -> bool:
        """Whether it trimmed. Another C library than glibc has nothing to trim."""
        if self.trimmed and used_bytes("cpu") <= self.growth * self.trimmed:
            return False
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        self.trimmed = used_bytes("cpu")
        return True


# Below the ephemeral ports of Linux (32768 and up), which any connection of Ray may take before the port is bound, and
# above the ports that Ray gives its workers (10002 to 19999).
FIRST, LAST = 20000, 32767
TRIES = 100


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens on now. Raises OSError if the host cannot be listened on."""
    for port in random.Random().sample(range(FIRST, LAST + 1), TRIES):  # not of the run's seed: two runs would meet
        try:
            return bindable(host, port)
        except OSError:
            continue
    return bindable(host, 0)


def bindable(host: str, port: int) -> int:
    """The port, or any if it is 0. Raises OSError or OverflowError if it cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listening:
        return listening.getsockname()[1]
