"""Seconds and GB/s of handing new weights to a rollout engine on the CPU: ours, upstream's way, and memory's own speed.

    python tests/benchmarks/weight_transfer.py [--models tiny 135m] [--repeat 5] [--buckets-mib 16 64 256]

ours        one `WeightTransfer.send`, as in every step of a run, for several sizes of bucket
upstream's  one Ray call a parameter that carries the tensor, waited for before the next, as OpenRLHF's
            `update_weight`; loaded with what works on vLLM's CPU backend, the layerwise reload
copy        torch's copy_ of as many bytes within one process; into kept shared memory; into a fresh segment

All on one engine in one process's session, alternating; the median of `repeat` rounds. Models have random weights.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import openrlhf_math  # noqa: F401  before OpenRLHF
from openrlhf_math.colocation.layout import enter_environment

SHAPES = {
    "tiny": None,  # the tiny world's model
    "135m": {
        "num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
        "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True, "head_dim": 64,
        "max_position_embeddings": 2048,
    },
}  # fmt: skip


def write_model(name: str, directory: Path) -> Path:
    """A model with random weights and the tiny world's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from openrlhf_math.data.tiny_world import write_tiny_world

    write_tiny_world(directory / "world", seed=0)
    if SHAPES[name] is None:
        return directory / "world" / "model"
    model = LlamaForCausalLM(LlamaConfig(**SHAPES[name])).to(torch.bfloat16)
    model.save_pretrained(directory / name)
    AutoTokenizer.from_pretrained(directory / "world" / "model").save_pretrained(directory / name)
    return directory / name


def start_engine(path: Path):
    """A rollout actor with one more method, upstream's way."""
    import ray
    import torch

    from openrlhf_math.grpo import default_agent
    from openrlhf_math.grpo.rollout.rollout_actor import MathRolloutActor
    from openrlhf_math.rewards import RewardConfig

    class Engine(MathRolloutActor):
        async def update_weight(self, name, weight) -> None:
            data = weight.flatten().view(torch.uint8).numpy().tobytes()  # vLLM's messages carry bytes, not tensors
            await self.llm.collective_rpc(load_one, args=(name, list(weight.shape), data))

    def load_one(worker, name, shape, data) -> None:
        weight = torch.frombuffer(bytearray(data), dtype=torch.bfloat16).view(shape)
        worker.model_runner.model.load_weights([(name, weight)])

    actor = ray.remote(Engine).options(num_gpus=0.2).remote(
        model=str(path), device="cpu", colocated=True, sequences=8, rewards=RewardConfig(style="think"), num_gpus=0.2,
        dtype="bfloat16", max_model_len=256, seed=0, distributed_executor_backend="uni",
        agent_func_path=default_agent.__file__, worker_extension_cls="replaced by ours",
    )  # fmt: skip
    ray.get(actor.used_bytes.remote())
    return actor


def one_call_a_parameter(model, engine) -> None:
    import ray

    ray.get(engine.start_weight_update.remote())
    for name, parameter in model.named_parameters():
        ray.get(engine.update_weight.remote(name, parameter.detach()))
    ray.get(engine.finish_weight_update.remote())


def memory_copies(size: int) -> dict[str, Callable[[], None]]:
    import torch

    source, target = (torch.ones(size, dtype=torch.uint8) for _ in range(2))
    kept = fresh_segment(size)
    return {
        "copy: torch copy_": lambda: target.copy_(source),
        "copy: into kept shared memory": lambda: kept.copy_(source),
        "copy: into a fresh segment": lambda: fresh_segment(size).copy_(source),
    }


def fresh_segment(size: int):
    """Shared memory without pages yet, uint8 [size], gone with the tensor."""
    import torch

    descriptor, path = tempfile.mkstemp(prefix="bench_openrlhf_math_", dir="/dev/shm")
    os.ftruncate(descriptor, size)
    os.close(descriptor)
    memory = torch.from_file(path, shared=True, size=size, dtype=torch.uint8)
    os.unlink(path)
    return memory


def measure(ways: dict[str, Callable[[], None]], repeat: int) -> dict[str, float]:
    """Median seconds of each way after a round to warm up."""
    seconds = {name: [] for name in ways}
    for _ in range(repeat + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def benchmark(name: str, repeat: int, buckets_mib: list[int]) -> None:
    import ray
    import torch
    from transformers import AutoModelForCausalLM

    from openrlhf_math.colocation.weight_transfer import WeightTransfer

    args = SimpleNamespace(
        math=SimpleNamespace(device="cpu", engine_noise=0.0),
        ds=SimpleNamespace(zero_stage=2, tensor_parallel_size=1),
        train=SimpleNamespace(colocate_all=True),
        vllm=SimpleNamespace(num_engines=1, tensor_parallel_size=1, enable_prefix_caching=True),
    )
    with tempfile.TemporaryDirectory() as directory:
        path = write_model(name, Path(directory))
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
        engine = start_engine(path)
        ways, size = {}, 0
        for mib in buckets_mib:
            # An engine knows one handshake at a time, so each size shakes hands again, outside of what is timed.
            transfer = WeightTransfer.open(model, [engine], args, rank=0, bucket_bytes=mib * 2**20)
            size = transfer.size
            ways |= {f"ours, buckets of {mib} MiB": measure({"": transfer.send}, repeat)[""]}
        ways |= measure(
            {"upstream's, one call a parameter": lambda: one_call_a_parameter(model, engine), **memory_copies(size)},
            repeat,
        )
        ray.kill(engine)
    parameters = len(list(model.named_parameters()))
    print(f"\n{name}: {size / 1e6:.1f} MB in {parameters} parameters, median of {repeat}")
    print(f"{'':36}{'seconds':>10}{'GB/s':>10}{'times ours':>12}")
    ours = ways[f"ours, buckets of {buckets_mib[-1]} MiB"]
    for way, seconds in ways.items():
        print(f"{way:36}{seconds:>10.4f}{size / seconds / 1e9:>10.3f}{seconds / ours:>12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(SHAPES), default=list(SHAPES))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--buckets-mib", type=int, nargs="+", default=[16, 64, 256], help="the last is the run's own")
    options = parser.parse_args()

    parameters = 0 if "135m" in options.models else 1_000_000
    enter_environment("cpu", parameters)
    from openrlhf_math.colocation.layout import worker_environment
    from openrlhf_math.grpo.driver import start_ray

    start_ray(
        SimpleNamespace(
            math=SimpleNamespace(device="cpu", verbose=False),
            actor=SimpleNamespace(num_nodes=1, num_gpus_per_node=1),
            vllm=SimpleNamespace(num_engines=1, tensor_parallel_size=1),
            train=SimpleNamespace(colocate_all=True, colocate_actor_ref=False),
            algo=SimpleNamespace(kl=SimpleNamespace(init_coef=0.0)),
        ),
        worker_environment("cpu", parameters),
    )
    for name in options.models:
        benchmark(name, options.repeat, options.buckets_mib)


if __name__ == "__main__":
    main()
