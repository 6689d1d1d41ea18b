#!/usr/bin/env bash
# Proof on a GPU in one command, without a network, in at most 9 minutes: families of models against a naive reference,
# memory and time by length, a GRPO run of the demo's student with CUDA graphs, and what prefix sharing saves. Writes
# OUT/proof.json and OUT/proof.md; exit code 1 if a part failed. Needs what `make setup STACK=gpu` installs.
# Usage: tests/gpu/run.sh [OUT] [--device cpu --small]     (OUT: runs/gpu; the second form tries the script without a GPU)
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-.venv/bin/python}" tests/gpu/proof.py "$@"
