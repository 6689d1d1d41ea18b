"""By how much the actor differs from each family's own model, one unpadded sequence at a time: a Markdown table.

    python tests/benchmarks/families.py all
    python tests/benchmarks/families.py gemma2 gpt-oss --dtype bf16
    python tests/benchmarks/families.py qwen2 mistral --device cuda

Tiny models with random weights (tests/families.py); the reference is eager attention in float32
(tests/naive_grpo.py). Differences are largest over all completion tokens, of gradients relative to their norm.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
# This file has the name of the module it needs.
sys.path[0] = str(Path(__file__).parents[1])

import families  # noqa: E402
import naive_grpo  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import openrlhf_math  # noqa: E402, F401  its patches come before OpenRLHF

HEADER = "| family | layers | path | log-probs | entropies | gradient | cosine |\n|---|---|---|---|---|---|---|"


def row(name: str, dtype: str, device: str) -> str:
    data = naive_grpo.batch(families.FIRST_WORD, families.VOCABULARY).to(device)
    with tempfile.TemporaryDirectory() as directory:
        families.build(name, Path(directory))
        expected = naive_grpo.outcome(families.load(name, Path(directory)).to(device), data)
        start = f"| {name} | {families.FAMILIES[name].kinds} |"
        try:
            policy = families.actor(Path(directory), dtype).to(device)
            found = naive_grpo.difference(families.trained(policy, data), expected)
        except Exception as error:  # a table of what works says which families do not
            reason = f"{type(error).__name__}: {error}".replace("\n", " ").replace("|", "/")[:90]
            return f"{start} - | {reason} | | | |"
    path = getattr(policy, "path", None)
    path = getattr(path, "name", path) or "-"
    return (
        f"{start} {path} | {found.log_probs:.1e} | {found.entropies:.1e} | {found.gradient:.1e} | {found.cosine:.4f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="families of tests/families.py, or all", metavar="FAMILY")
    parser.add_argument("--dtype", choices=families.DTYPES, default="fp32", help="of the actor (default: fp32)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of both (default: cpu)")
    args = parser.parse_args()
    names = list(families.FAMILIES) if args.names == ["all"] else args.names
    unknown = [name for name in names if name not in families.FAMILIES]
    if unknown:
        parser.error(f"no family {', '.join(unknown)}; there are {', '.join(families.FAMILIES)}")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(HEADER)
    for name in names:
        print(row(name, args.dtype, args.device), flush=True)


if __name__ == "__main__":
    main()
