"""PyTorch's fused attention against plain matrix products on the CPU, by sequence length: `layout.attention` chooses.

    python tests/benchmarks/attention.py [--threads 1]

Forward and backward in bfloat16, causal, heads that share keys as Qwen2.5's do; about as many tokens in each row.
"""

import argparse
import time

import torch
from torch.nn import functional as F

TOKENS = 8192
HEADS, KV_HEADS, SIZE = 4, 2, 64


def fused(query, key, value):
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)


def plain(query, key, value):
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    hidden = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, float("-inf")).softmax(-1, dtype=torch.float32).to(query.dtype) @ value


def seconds(attention, length: int) -> float:
    """The best of three."""
    batch = TOKENS // length
    tensors = [
        torch.randn(batch, heads, length, SIZE, dtype=torch.bfloat16, requires_grad=True)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]
    times = []
    for _ in range(4):  # the first warms up
        start = time.perf_counter()
        output = attention(*tensors)
        output.backward(torch.ones_like(output))
        times.append(time.perf_counter() - start)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    print(" length  fused ms  plain ms  fused/plain")
    for length in (64, 128, 256, 512, 1024, 2048):
        times = [seconds(attention, length) for attention in (fused, plain)]
        print(f"{length:>7}  {times[0] * 1e3:>8.1f}  {times[1] * 1e3:>8.1f}  {times[0] / times[1]:>11.2f}")


if __name__ == "__main__":
    main()
