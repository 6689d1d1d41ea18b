"""How processes, threads and engine memory are laid out on a device."""

import os
from pathlib import Path

# Below this many parameters a matrix product is too small to share among threads.
ONE_THREAD_PARAMETERS = 30_000_000


def find_device() -> str:
    """"cuda" if this machine has an NVIDIA device, else "cpu". Asks the driver, so that torch is not imported."""
    return "cuda" if Path("/dev/nvidiactl").exists() else "cpu"


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
    }
    if device == "cuda":
        return environment
    threads = 1 if 0 < parameters < ONE_THREAD_PARAMETERS else cores()
    return environment | {
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        # Ray gives an actor one OpenMP thread unless told otherwise.
        "OMP_NUM_THREADS": str(threads),
        # vLLM's CPU backend would pin its threads and leave a core idle; generation and training take turns.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1" if threads == 1 else "4",  # GiB
        # Compiling costs 20 s at the first generation, which only a long run earns back.
        "TORCHDYNAMO_DISABLE": os.environ.get("TORCHDYNAMO_DISABLE", "1"),
    }


def engine_arguments(device: str) -> dict[str, object]:
    """vLLM engine arguments that replace OpenRLHF's."""
    arguments: dict[str, object] = {
        "worker_extension_cls": "openrlhf_math.colocation.vllm_worker.WorkerExtension",
        "logprobs_mode": "processed_logprobs",  # with the temperature, as the trainer computes them
    }
    if device == "cpu":
        arguments |= {"enforce_eager": True, "enable_sleep_mode": False}
    return arguments
