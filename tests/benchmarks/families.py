"""By how much the actor differs from each family's own model, one unpadded sequence at a time: a Markdown table.

    python tests/benchmarks/families.py all
    python tests/benchmarks/families.py gemma2 gpt-oss --dtype bf16 --device cuda

Tiny models with random weights (tests/families.py); the reference is eager attention in float32
(tests/naive_grpo.py). Differences are largest over all completion tokens, of gradients relative to their norm.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from unittest import mock

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
# This file has the name of the module it needs.
sys.path[0] = str(Path(__file__).parents[1])

import families  # noqa: E402
import naive_grpo  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import openrlhf_math  # noqa: E402, F401  its patches come before OpenRLHF

HEADER = "| family | layers | path | log-probs | entropies | gradient | cosine |\n|---|---|---|---|---|---|---|"


def row(name: str, dtype: str, device: str) -> dict:
    """What a line shows; `error` where the family does not work."""
    data = naive_grpo.batch(families.FIRST_WORD, families.VOCABULARY).to(device)
    found = {"family": name, "layers": families.FAMILIES[name].kinds, "dtype": dtype}
    with tempfile.TemporaryDirectory() as directory:
        families.build(name, Path(directory))
        expected = naive_grpo.outcome(families.load(name, Path(directory)).to(device), data)
        try:
            policy = families.actor(Path(directory), dtype).to(device)
            with mock.patch.object(policy, "_as_a_batch", wraps=policy._as_a_batch) as rows:
                difference = naive_grpo.difference(families.trained(policy, data), expected)
        except Exception as error:  # a table of what works says which families do not
            return found | {"error": f"{type(error).__name__}: {error}".replace("\n", " ")[:90]}
    path = "rows" if rows.called else policy.path  # where lengths forbid a packed row, as rotary frequencies may
    return found | {"path": path} | dataclasses.asdict(difference)


def line(found: dict) -> str:
    start = f"| {found['family']} | {found['layers']} |"
    if "error" in found:
        return f"{start} - | {found['error'].replace('|', '/')} | | | |"
    differences = " | ".join(f"{found[name]:.1e}" for name in ("log_probs", "entropies", "gradient"))
    return f"{start} {found['path']} | {differences} | {found['cosine']:.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="families of tests/families.py, or all", metavar="FAMILY")
    parser.add_argument("--dtype", choices=families.DTYPES, default="fp32", help="of the actor (default: fp32)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    args = parser.parse_args()
    names = list(families.FAMILIES) if args.names == ["all"] else args.names
    unknown = [name for name in names if name not in families.FAMILIES]
    if unknown:
        parser.error(f"no family {', '.join(unknown)}; there are {', '.join(families.FAMILIES)}")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(HEADER)
    rows = []
    for name in names:
        rows.append(row(name, args.dtype, args.device))
        print(line(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
