#!/usr/bin/env bash
# What the product does on a GPU, in one command without internet, at most 9 minutes: families, long completions, the
# memory and time of a training step with and without prefix sharing, the probe, and a GRPO run with CUDA graphs.
#   tests/gpu/run.sh [OUT] [--part NAME ...] [--device cpu --small]
# Writes OUT/gpu.json and OUT/gpu.md (default: runs/gpu) and a log of each part; exit code 1 if a part fails.
# It needs this checkout, one GPU of Ampere or newer with about 40 GiB, and the stack: `make setup STACK=gpu`, or PYTHON,
# an interpreter that has it. With `--device cpu --small` the same parts run on a CPU with small sizes.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
python="${PYTHON:-$root/.venv/bin/python}"
if [ ! -x "$(command -v "$python")" ]; then
  echo "tests/gpu/run.sh: $python is missing: run make setup STACK=gpu, or set PYTHON" >&2
  exit 2
fi
exec "$python" "$here/proof.py" "$@"
