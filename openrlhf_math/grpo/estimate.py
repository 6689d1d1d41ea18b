"""`--dry-run`: what each phase of a step takes of a GPU: memory, bytes that travel, and the shortest possible time.

Memory is counted from shapes. Times are floors: bytes divided by the full rate of memory or link, operations by the
full rate of bfloat16 matrix products. How far above them a run is depends on kernels; see docs/recipes.md.
"""

import math
from dataclasses import dataclass, field

from openrlhf_math.grpo.arguments import GRPOArguments
from openrlhf_math.grpo.driver import devices_of
from openrlhf_math.grpo.gpus import GPUS, Gpu
from openrlhf_math.grpo.settings import old_log_probs_needed, trained_parameters
from openrlhf_math.patches.remote_code import remote_code_trusted

GIB = 2**30
BF16, FP32 = 2, 4
ADAM = 3 * FP32  # master weights and two moments
# Weights that ZeRO-3 keeps gathered at most (DeepSpeed's stage3_max_live_parameters), where a model has as many.
LIVE_PARAMETERS = 1_000_000_000
# CUDA's context, NCCL's buffers and the chunks of the output head.
FIXED_BYTES = 3 * GIB


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a dense decoder: what its memory and its traffic depend on."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int

    @property
    def kv_bytes(self) -> int:
        """Of a token's keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_size * BF16

    def activation_bytes(self, checkpointing: bool) -> int:
        """Of a trained token, for the backward pass.

        Each layer keeps the inputs of its products and norms: its input, twice in float32 for the norms, queries, keys,
        values, the attention's output, and four of the inner size for SwiGLU. With checkpointing each keeps only its
        input, and one layer at a time the rest. After https://arxiv.org/abs/2205.05198, section 4, for layers without
        dropout and attention that keeps no scores.
        """
        wide = self.hidden * (4 * BF16 + 2 * FP32)
        heads = (2 * self.heads + 2 * self.kv_heads) * self.head_size * BF16
        layer = wide + heads + 4 * self.inner * BF16
        return self.layers * self.hidden * BF16 + layer if checkpointing else self.layers * layer


# Models of the recipes, whose configuration a dry run does not fetch from the hub.
KNOWN = {
    "Qwen2.5-0.5B": Shape(24, 896, 14, 2, 64, 4864, 151936),
    "Qwen2.5-1.5B": Shape(28, 1536, 12, 2, 128, 8960, 151936),
    "Qwen2.5-Math-1.5B": Shape(28, 1536, 12, 2, 128, 8960, 151936),
    "DeepSeek-R1-Distill-Qwen-1.5B": Shape(28, 1536, 12, 2, 128, 8960, 151936),
    "Qwen2.5-7B": Shape(28, 3584, 28, 4, 128, 18944, 152064),
    "Qwen2.5-Math-7B": Shape(28, 3584, 28, 4, 128, 18944, 152064),
    "DeepSeek-R1-Distill-Qwen-7B": Shape(28, 3584, 28, 4, 128, 18944, 152064),
    "Qwen2.5-32B": Shape(64, 5120, 40, 8, 128, 27648, 152064),
    "DeepSeek-R1-Distill-Qwen-32B": Shape(64, 5120, 40, 8, 128, 27648, 152064),
}


def shape_of(model: str) -> Shape | None:
    """Of a model's directory, a model in the hub's cache, or one of KNOWN; None for others and for odd decoders."""
    name = model.rstrip("/").rsplit("/", 1)[-1]
    known = KNOWN.get(name.removesuffix("-Instruct"))
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            model, local_files_only=True, trust_remote_code=remote_code_trusted()
        ).get_text_config()
        heads = config.num_attention_heads
        return Shape(
            config.num_hidden_layers,
            config.hidden_size,
            heads,
            getattr(config, "num_key_value_heads", None) or heads,
            getattr(config, "head_dim", None) or config.hidden_size // heads,
            config.intermediate_size,
            config.vocab_size,
        )
    except (OSError, ValueError, AttributeError):
        return known


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a step, on the GPU that has most to do in it.

    memory: bytes by what they are. wire: bytes that this GPU receives, by the link. seconds: no step takes less.
    """

    name: str
    memory: dict[str, float] = field(default_factory=dict)
    wire: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def held(self) -> float:
        return sum(self.memory.values())


def phases(args: GRPOArguments, shape: Shape, gpu: Gpu) -> list[Phase]:
    """The phases of a step in their order, at the completion limit: every completion is as long as it may be."""
    return [_generation(args, shape, gpu), *_moves(args, gpu), _training(args, shape, gpu), _transfer(args, gpu)]


def _generation(args: GRPOArguments, shape: Shape, gpu: Gpu) -> Phase:
    split = args.vllm.tensor_parallel_size
    weights, token = BF16 * args.math.parameters / split, shape.kv_bytes / split
    cache = max(0.0, args.vllm.gpu_memory_utilization * gpu.memory - weights - FIXED_BYTES)
    length = args.rollout.max_new_tokens or args.data.max_len
    prompt = max(0, args.data.max_len - length)
    wanted = -(-args.rollout.batch_size * args.rollout.n_samples_per_prompt // args.vllm.num_engines)
    max_concurrency = max(1, min(wanted, int(cache / (token * (prompt + length / 2)))))
    rounds = math.ceil(wanted / max_concurrency)
    # A decode step reads all weights, and the cache of every sequence, half full on the average.
    read = weights + max_concurrency * token * (prompt + length / 2)
    computed = 2 * args.math.parameters / split * max_concurrency
    step = max(read / gpu.bandwidth, computed / gpu.products)
    # Two all-reduces a layer, in which a GPU receives twice the share that the others have.
    reduced = 2 * shape.layers * shape.hidden * BF16 * 2 * (split - 1) / split * max_concurrency
    memory = {"weights": weights, f"KV cache for {max_concurrency} at once": cache, "other": FIXED_BYTES}
    if args.train.colocate_all:  # what is offloaded is Adam's, and the gradients, which are used up
        memory["policy"] = _weight_bytes(args) if args.ds.enable_sleep else _policy_bytes(args)
    wire = {"tensor parallel": reduced * rounds * length} if split > 1 else {}
    return Phase("generation", memory, wire, rounds * length * (step + reduced / gpu.link))


def _training(args: GRPOArguments, shape: Shape, gpu: Gpu) -> Phase:
    ranks, size = devices_of(args.actor), args.math.parameters
    tokens = args.rollout.batch_size * args.rollout.n_samples_per_prompt * args.data.max_len / ranks
    tokens_a_pass = min(args.train.max_tokens_per_gpu, tokens)
    passes = math.ceil(tokens / tokens_a_pass)
    checkpointing = args.actor.gradient_checkpointing_enable
    activations = tokens_a_pass * shape.activation_bytes(checkpointing)
    gathered = BF16 * min(size, LIVE_PARAMETERS) if args.ds.zero_stage == 3 and ranks > 1 else 0
    memory = {"states": _policy_bytes(args), "gathered": gathered, "activations": activations, "other": FIXED_BYTES}
    # Forward 2, backward 4 operations a parameter and token; a forward more for checkpointing, and for old
    # log-probabilities. Attention: 4 x hidden x length / 2 operations a token and layer, forward, and twice backward.
    times = (2 + 4 + 2 * checkpointing + 2 * old_log_probs_needed(args)) / 2
    forward = 2 * size + 2 * shape.layers * shape.heads * shape.head_size * args.data.max_len
    products = times * forward * tokens / gpu.products
    others = (ranks - 1) / ranks
    if args.ds.zero_stage == 3:  # weights for forward and backward of every pass, gradients back
        received = passes * (2 * BF16 * size + BF16 * trained_parameters(args)) * others
    else:  # gradients once a pass, new weights once a step
        received = (passes + 1) * BF16 * trained_parameters(args) * others
    update = 4 * FP32 * trained_parameters(args) / ranks / (gpu.bus if args.ds.adam_offload else gpu.bandwidth)
    wire = {"ZeRO": received} if ranks > 1 else {}
    return Phase("training", memory, wire, max(products, _gathered_seconds(args, received, gpu)) + update)


def _transfer(args: GRPOArguments, gpu: Gpu) -> Phase:
    ranks, size = devices_of(args.actor), args.math.parameters
    engine = BF16 * size / args.vllm.tensor_parallel_size
    gathered = BF16 * size * (ranks - 1) / ranks if args.ds.zero_stage == 3 else 0
    memory = {"weights of the engine": engine, "other": FIXED_BYTES}
    if args.train.colocate_all:
        memory["weights of the policy"] = _weight_bytes(args)
    else:
        gathered = max(gathered, engine)
    wire = {"weights": gathered} if gathered else {}
    return Phase("transfer", memory, wire, _gathered_seconds(args, gathered, gpu) + engine / gpu.bandwidth)


def _gathered_seconds(args: GRPOArguments, received: float, gpu: Gpu) -> float:
    """Of a collective in which each GPU receives so many bytes. What comes from other nodes enters a node once, over
    the network cards of all its GPUs."""
    nodes = args.actor.num_nodes
    outside = received * (nodes - 1) / nodes / args.actor.num_gpus_per_node
    return max(received / gpu.link, outside / gpu.network)


def _moves(args: GRPOArguments, gpu: Gpu) -> list[Phase]:
    """To the host's memory and back, where policy and engines take turns."""
    if not (args.train.colocate_all and args.ds.enable_sleep) or args.ds.adam_offload:
        return []
    there = ADAM * trained_parameters(args) / devices_of(args.actor)
    return [Phase("offload and reload", {}, {"host": there}, 2 * there / gpu.bus)]


def _policy_bytes(args: GRPOArguments) -> float:
    """Of a rank's weights, gradients and optimizer."""
    optimizer = 0 if args.ds.adam_offload else ADAM
    return _weight_bytes(args) + (BF16 + optimizer) * trained_parameters(args) / devices_of(args.actor)


def _weight_bytes(args: GRPOArguments) -> float:
    return BF16 * args.math.parameters / (devices_of(args.actor) if args.ds.zero_stage == 3 else 1)


def shortest_step(found: list[Phase], overlap: int) -> float:
    """Seconds. With overlap the shorter one of generation and training adds none."""
    seconds = {phase.name: phase.seconds for phase in found}
    return sum(seconds.values()) - (min(seconds["generation"], seconds["training"]) if overlap else 0)


def print_phases(args: GRPOArguments, kind: str) -> None:
    """Print a table of the phases on a kind of GPU, one of GPUS."""
    from rich.console import Console
    from rich.table import Table

    console, gpu, shape = Console(), GPUS[kind], shape_of(args.actor.model_name_or_path)
    if not shape or not args.math.parameters:
        console.print(f"memory and time of the phases: not known for {args.actor.model_name_or_path}, give a directory")
        return
    table = Table(title=f"A step on {kind}, at the completion limit", show_lines=True)
    for column in ("phase", "memory of a GPU", "GiB", "a GPU receives", "no less than"):
        table.add_column(column, justify="left" if column in ("phase", "memory of a GPU") else "right")
    found = phases(args, shape, gpu)
    for phase in found:
        parts = [f"{name} {value / GIB:.1f}" for name, value in phase.memory.items() if value]
        wire = [f"{name} {value / 1e9:,.1f} GB" for name, value in phase.wire.items()]
        held = f"{phase.held / GIB:.1f}" if phase.memory else ""
        table.add_row(phase.name, "\n".join(parts), held, "\n".join(wire), f"{phase.seconds:,.1f} s")
    console.print(table)
    console.print(
        f"no step takes less than {shortest_step(found, args.math.overlap):,.1f} s, at the full rates of the {kind}; "
        "docs/recipes.md has measured steps",
        soft_wrap=True,
    )
    for phase in found:
        if phase.held > gpu.memory:
            console.print(
                f"Note: {phase.name} needs {phase.held / GIB:.0f} GiB of a GPU, the {kind} has {gpu.memory / GIB:.0f}; "
                "more GPUs, --ds.zero_stage 3, --ds.adam_offload, --actor.gradient_checkpointing_enable or a lower "
                "--train.max_tokens_per_gpu take less",
                soft_wrap=True,
            )
