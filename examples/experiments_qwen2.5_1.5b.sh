#!/usr/bin/env bash
# The poster's experiments with Qwen2.5-1.5B on GSM8K, on one node with 8 GPUs. GRPO is grpo_qwen2.5_1.5b_gsm8k.sh: 128
# problems and 1,024 completions a step, learning rate 1e-6, two passes over the 7,473 training problems.
# Usage: examples/experiments_qwen2.5_1.5b.sh kl|efficiency|rerank [MORE FLAGS of `grpo`, e.g. --dry-run]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

export RUNS="${RUNS:-runs/experiments-qwen2.5-1.5b}" SEEDS="${SEEDS:-0 1 2}"
export COEFFICIENTS="${COEFFICIENTS:-0 0.001 0.01 0.1}"
export GRPO="$here/grpo_qwen2.5_1.5b_gsm8k.sh" STUDENT=Qwen/Qwen2.5-1.5B-Instruct
# All 1,319 test problems, four completions each.
export BENCHMARK=gsm8k SAMPLING="--samples 4 --temperature 1 --max-tokens 1024"
export SET=openai/gsm8k@main STYLE=boxed ATTEMPTS="${ATTEMPTS:-64}"
export SOLVE="--scorer qwen2.5-math-prm --scorer-model ${PRM:-Qwen/Qwen2.5-Math-PRM-7B} --problem-key question \
  --temperature 1 --max-tokens 1024 --max-context 2048 --problem-concurrency 64 --samplers 4 --scorers 4"
exec "$here/experiments_on_gpus.sh" "$@"
