"""Peak memory and time of log-probabilities over a large vocabulary: our head against OpenRLHF's.

    python tests/benchmarks/vocabulary_memory.py [--vocabulary 151936 --hidden 1536 --tokens 512 1024 2048]

Forward and backward from hidden states of completion tokens, bfloat16, each in its own process. Prints the memory a
process took at its peak above what it held before, and seconds; then the largest difference of the log-probabilities.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import openrlhf_math  # noqa: F401  without its patches OpenRLHF asks for flash-attn

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=151_936, help="Qwen2.5's")
    parser.add_argument("--hidden", type=int, default=1536, help="Qwen2.5-1.5B's")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # as in a run on the CPU
        print(json.dumps(measure(args.side, args.vocabulary, args.hidden, args.tokens[0])))
        return
    head = args.vocabulary * args.hidden * 2 / MIB
    print(f"vocabulary {args.vocabulary}, hidden size {args.hidden}; the head itself {head:.0f} MiB")
    print(" tokens  openrlhf MiB  ours MiB  ratio  openrlhf s  ours s  difference")
    for tokens in args.tokens:
        theirs, ours = (in_own_process(side, args, tokens) for side in ("openrlhf", "ours"))
        difference = max(abs(a - b) for a, b in zip(theirs["log_probs"], ours["log_probs"], strict=True))
        print(
            f"{tokens:>7} {theirs['mib']:>13.0f} {ours['mib']:>9.0f} {theirs['mib'] / ours['mib']:>6.1f} "
            f"{theirs['seconds']:>11.2f} {ours['seconds']:>7.2f} {difference:>11.1e}"
        )


def in_own_process(side: str, args: argparse.Namespace, tokens: int) -> dict:
    command = [sys.executable, __file__, "--side", side, "--vocabulary", args.vocabulary, "--hidden", args.hidden,
               "--tokens", tokens]  # fmt: skip
    output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def measure(side: str, vocabulary: int, hidden_size: int, tokens: int) -> dict:
    import torch

    log_probs_of = SIDES[side]()
    torch.manual_seed(0)
    hidden = torch.randn(tokens, hidden_size, dtype=torch.bfloat16).requires_grad_()
    weight = (torch.randn(vocabulary, hidden_size, dtype=torch.bfloat16) / hidden_size**0.5).requires_grad_()
    targets = torch.randint(0, vocabulary, (tokens,))
    weight.grad = torch.zeros_like(weight)  # the gradient is there in any training
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    log_probs, entropies = log_probs_of(hidden, weight, targets)
    (log_probs.sum() + 0.01 * entropies.sum()).backward()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"mib": (peak - before) / 1024, "seconds": seconds, "log_probs": log_probs[:64].tolist()}


def ours():
    from openrlhf_math.modeling.log_prob_head import LogProbs

    return lambda hidden, weight, targets: LogProbs.apply(hidden, weight, None, targets, 1.0)


def openrlhf():
    """What OpenRLHF's Actor does with the model's output: all logits, in float32."""
    import torch
    from openrlhf.models.utils import compute_entropy, log_probs_from_logits

    def log_probs_of(hidden, weight, targets):
        logits = torch.nn.functional.linear(hidden, weight)[None].to(torch.float32)
        return log_probs_from_logits(logits, targets[None])[0], compute_entropy(logits)[0]

    return log_probs_of


SIDES = {"ours": ours, "openrlhf": openrlhf}

if __name__ == "__main__":
    main()
