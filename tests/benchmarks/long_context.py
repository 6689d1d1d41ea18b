"""Seconds and peak memory of attention over long completions, forward and backward, by the length of the completions.

    python tests/benchmarks/long_context.py [--shape smollm2 qwen2.5-1.5b] [--lengths 128 ... 8192] [--threads 2]
    python tests/benchmarks/long_context.py --model smollm2 --layers 4
    python tests/benchmarks/long_context.py --device cuda

8 completions behind one prompt of 500 tokens, bfloat16, random values. `matrices` is the packed row with all scores in
matrices, `packed` the packed row as it is trained, `fused` PyTorch's fused attention as Transformers calls it, one
sequence at a time without padding, with one backward pass for all. Memory is above that of the inputs. With --model it
is a whole model with random weights: `packed` and `padded` are the actor with and without prefix sharing, the latter
with as many rows at once as fit, and `fused` is the model itself, one sequence after the other, each with its own
backward pass; memory is above weights and gradients.

On a CPU each measurement is a separate process, in turns; the table has the best times and medians of memory.
`time x` is the first column's time divided by that of `packed`, `memory x` the memory of `packed` divided by that of
`fused`. A dash: it does not fit.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

import torch  # noqa: E402

import openrlhf_math  # noqa: E402, F401  its patches come before OpenRLHF

PROMPT, COMPLETIONS = 500, 8
MIB, GIB = 2**20, 2**30
LEAST_SECONDS = 1.0  # of a measurement: short ones are repeated
COPIES = 4  # of the scores that a backward pass needs at its peak, measured
WAYS = {"attention": ("matrices", "packed", "fused"), "model": ("padded", "packed", "fused")}


@dataclass(frozen=True)
class Shape:
    """Of the model in Hugging Face's configuration."""

    heads: int
    kv_heads: int
    size: int
    hidden: int
    intermediate: int
    layers: int
    vocabulary: int

    def config(self, layers: int):
        from transformers import Qwen2Config

        return Qwen2Config(
            vocab_size=self.vocabulary, hidden_size=self.hidden, intermediate_size=self.intermediate,
            num_hidden_layers=layers or self.layers, num_attention_heads=self.heads, num_key_value_heads=self.kv_heads,
            max_position_embeddings=32768, tie_word_embeddings=True,
        )  # fmt: skip


SHAPES = {
    "tiny": Shape(4, 2, 32, 128, 256, 4, 1000),
    "smollm2": Shape(9, 3, 64, 576, 1536, 30, 49152),
    "qwen2.5-1.5b": Shape(12, 2, 128, 1536, 8960, 28, 151936),
}


def main() -> None:
    args = parse()
    if args.measure:
        print(json.dumps(measure(args, *args.measure.split(":"))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for name in [args.model] if args.model else args.shape:
            if args.model:
                args.directory = save(SHAPES[name], args.layers, Path(directory))
            kind = "model" if args.model else "attention"
            print(header(name, kind, args), flush=True)
            for length in args.lengths:
                rows.append({"kind": kind, "shape": name, "length": length, "ways": row(args, kind, name, length)})
                print(line(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["smollm2", "qwen2.5-1.5b"], help="of attention")
    parser.add_argument("--model", choices=SHAPES, help="a whole model of this shape, with random weights")
    parser.add_argument("--layers", type=int, default=0, help="of the model (default: as many as it has)")
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--ways", nargs="+", help="some of the columns")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of processes in turns, on a CPU")
    parser.add_argument("--limit", type=float, default=5.0, help="GiB of score matrices that are still tried")
    parser.add_argument("--short", type=int, help="instead of attention.SHORT")
    parser.add_argument("--block", type=int, help="instead of attention.BLOCK")
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    return parser.parse_args()


def header(name: str, kind: str, args: argparse.Namespace) -> str:
    ways = args.ways or WAYS[kind]
    shape = SHAPES[name]
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} threads"
    title = f"{name}, {kind}: {shape.heads} heads of {shape.size}, {shape.kv_heads} of keys, bfloat16, {where}"
    names = [f"{way} {what}" for way in ways for what in ("s", "MiB")] + ["time x", "memory x"]
    return f"\n**{title}**\n\n| tokens | {' | '.join(names)} |\n|{'---:|' * (len(names) + 1)}"


def line(row: dict) -> str:
    cells = []
    for found in row["ways"].values():
        cells += [f"{found['seconds']:.3f}", f"{found['mib']:.0f}"] if "seconds" in found else ["-", "-"]
    one, packed, peer = next(iter(row["ways"].values())), row["ways"].get("packed", {}), row["ways"].get("fused", {})
    cells.append(f"{one['seconds'] / packed['seconds']:.2f}" if "seconds" in one and "seconds" in packed else "-")
    cells.append(f"{packed['mib'] / peer['mib']:.2f}" if "mib" in packed and peer.get("mib") else "-")
    return f"| {row['length']} | {' | '.join(cells)} |"


def row(args: argparse.Namespace, kind: str, name: str, length: int) -> dict:
    """Of each way: the best `seconds` and the median of `mib`, or `error`."""
    found: dict[str, list[dict]] = {way: [] for way in args.ways or WAYS[kind]}
    for _ in range(args.rounds if args.device == "cpu" else 1):
        for way, results in found.items():
            results.append(measured(args, kind, name, way, length))
    merged = {}
    for way, results in found.items():
        fit = [result for result in results if "seconds" in result]
        merged[way] = results[0]
        if fit:
            merged[way] = fit[0] | {
                "seconds": min(result["seconds"] for result in fit),
                "mib": statistics.median(result["mib"] for result in fit),
            }
    return merged


def measured(args: argparse.Namespace, kind: str, name: str, way: str, length: int) -> dict:
    shape = SHAPES[name]
    scores = COMPLETIONS * shape.heads * length * (PROMPT + length) * 2
    if way == "matrices" and args.device == "cpu" and COPIES * scores > args.limit * GIB:
        return {"error": "too large"}
    what = f"{kind}:{name}:{way}:{length}"
    if args.device == "cuda":
        try:
            return measure(args, *what.split(":"))
        except torch.OutOfMemoryError:
            return {"error": "out of memory"}
        finally:
            torch.cuda.empty_cache()
    options = [(flag, getattr(args, flag)) for flag in ("threads", "short", "block", "directory")]
    command = [sys.executable, __file__, "--measure", what]
    command += [text for flag, value in options if value is not None for text in (f"--{flag}", str(value))]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        return {"error": (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1][:300]}
    return json.loads(result.stdout.splitlines()[-1])


def measure(args: argparse.Namespace, kind: str, name: str, way: str, length: str) -> dict:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    from openrlhf_math.modeling import attention

    attention.SHORT = args.short if args.short is not None else attention.SHORT
    attention.BLOCK = args.block if args.block is not None else attention.BLOCK
    if kind == "model":
        return measure_model(args, SHAPES[name], way, int(length))
    attend = {"matrices": matrices, "packed": packed, "fused": fused}[way]
    tiny = attend(SHAPES[name], 8, args.device)
    tiny()  # loads what a first call loads
    return watched(attend(SHAPES[name], int(length), args.device), args.device)


def watched(run, device: str) -> dict:
    """Peak memory of the first call of `run` above what is held before, and seconds of the best."""
    before = held(device)
    seconds = [timed(run, device)]
    found = {"mib": (peak(device) - before) / MIB}
    while sum(seconds) < LEAST_SECONDS or len(seconds) < (2 if device == "cuda" else 1):
        seconds.append(timed(run, device))
    return found | {"seconds": min(seconds)}


def timed(run, device: str) -> float:
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def held(device: str) -> int:
    """Bytes held now; `peak` counts from here on."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: resets the peak of the resident set
    return resident("VmRSS")


def peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")


def resident(name: str) -> int:
    """Bytes of this process's memory, by its name in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def matrices(shape: Shape, length: int, device: str):
    from openrlhf_math.modeling import attention

    run = packed(shape, length, device)

    def of_matrices():
        with (
            mock.patch.object(attention, "SHORT", sys.maxsize),
            mock.patch.object(attention, "takes_varlen", lambda *_: False),
        ):
            run()

    return of_matrices


def packed(shape: Shape, length: int, device: str):
    """Forward and backward of a packed row's attention."""
    from openrlhf_math.modeling.attention import Scores, attend
    from openrlhf_math.modeling.packing import Layout, Piece
    from openrlhf_math.modeling.visibility import Visibility

    pieces = [Piece(0, PROMPT), *(Piece(PROMPT + n * length, length, 0, PROMPT) for n in range(COMPLETIONS))]
    layout = Layout(tuple(pieces), torch.device(device))
    states = inputs(shape, layout.tokens, device)
    slope = torch.randn(layout.tokens, shape.heads, shape.size, dtype=torch.bfloat16, device=device)

    def run():
        # As in a model, the heads come first in memory.
        rows = (each.transpose(0, 1) for each in states)
        attend(*rows, layout, Visibility(), Scores(shape.size**-0.5)).backward(slope)
        for each in states:
            each.grad = None

    return run


def fused(shape: Shape, length: int, device: str):
    """Transformers' own attention, one sequence at a time."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layer = SimpleNamespace(num_key_value_groups=shape.heads // shape.kv_heads, is_causal=True, training=True)
    sequences = [inputs(shape, PROMPT + length, device) for _ in range(COMPLETIONS)]
    slope = torch.randn(1, PROMPT + length, shape.heads, shape.size, dtype=torch.bfloat16, device=device)

    def run():
        attended = [sdpa_attention_forward(layer, *(x[None] for x in each), None)[0] for each in sequences]
        torch.autograd.backward(attended, [slope] * len(attended))
        for each in sequences:
            for state in each:
                state.grad = None

    return run


def inputs(shape: Shape, tokens: int, device: str) -> list[torch.Tensor]:
    """Query, key and value, [heads, tokens, size]."""
    return [
        torch.randn(heads, tokens, shape.size, dtype=torch.bfloat16, device=device, requires_grad=True)
        for heads in (shape.heads, shape.kv_heads, shape.kv_heads)
    ]


def save(shape: Shape, layers: int, directory: Path) -> str:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(shape.config(layers), dtype=torch.bfloat16).save_pretrained(directory)
    return str(directory)


def measure_model(args: argparse.Namespace, shape: Shape, way: str, length: int) -> dict:
    """As `watched`, with `probe_seconds` and `rows`, of sequences that go through the model together."""
    from transformers import AutoModelForCausalLM

    prompt = torch.randint(0, shape.vocabulary, (PROMPT,))
    sequences = torch.cat(
        [prompt.expand(COMPLETIONS, -1), torch.randint(0, shape.vocabulary, (COMPLETIONS, length))], 1
    )
    sequences = sequences.to(args.device)
    actions = torch.zeros(COMPLETIONS, PROMPT + length - 1, dtype=torch.bool, device=args.device)
    actions[:, PROMPT - 1 :] = True
    more = {}
    if way == "fused":
        model = AutoModelForCausalLM.from_pretrained(args.directory, dtype=torch.bfloat16, attn_implementation="sdpa")
        model.to(args.device).gradient_checkpointing_disable()
        choices = [1]
    else:
        from openrlhf_math.modeling.packed_actor import PackedActor

        implementation = "shared_prefix" if way == "packed" else "sdpa"
        model = PackedActor(args.directory, attn_implementation=implementation, param_dtype="bf16", temperature=1.0)
        model.to(args.device)
        start = time.perf_counter()
        model.choose_path()
        more = {"probe_seconds": time.perf_counter() - start, "path": model.path}
        choices = [COMPLETIONS] if way == "packed" else [COMPLETIONS, COMPLETIONS // 4, 1]
    model.train()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def step(rows: int) -> None:
        for first in range(0, COMPLETIONS, rows):
            batch, mask = sequences[first : first + rows], actions[first : first + rows]
            if way == "fused":
                logits = model(batch, use_cache=False).logits[:, PROMPT - 1 : -1].float()
                log_probs = logits.log_softmax(dim=-1).gather(2, batch[:, PROMPT:, None])
            else:
                log_probs = model(batch, mask, torch.ones_like(batch))
            (log_probs.sum() / length).backward()

    for rows in choices:
        try:
            return watched(lambda rows=rows: step(rows), args.device) | more | {"rows": rows}
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    return {"error": "out of memory"} | more


if __name__ == "__main__":
    main()
